-- What the trail was when it was last signed or sent.

-- Where it is tried out whether the disk has room again: rows live for a moment.
CREATE TABLE room (
    instance TEXT NOT NULL PRIMARY KEY,
    ballast @BLOB NOT NULL
) @STRICT;

-- Files outside the database that have the last checkpoint of a key: one that is noted here and not there was taken away.
CREATE TABLE signed_states (
    key_id TEXT NOT NULL,
    place TEXT NOT NULL, -- HOST:PATH
    since_ms @INT NOT NULL,
    PRIMARY KEY (key_id, place)
) @CLUSTERED;
