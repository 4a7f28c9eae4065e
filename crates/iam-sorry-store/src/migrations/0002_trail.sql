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

-- What was last recorded of rules, configuration and keys, so that a change shows also where it was made while nothing
-- ran. `digests` is JSON: the digest of each part by its name.
CREATE TABLE recorded_states (
    name TEXT NOT NULL PRIMARY KEY, -- rules, configuration, keys
    digests TEXT NOT NULL
) @STRICT;

-- 1 from the record that an instance started until the record that it stopped: what is left at 1 died.
ALTER TABLE instances ADD COLUMN running @INT NOT NULL DEFAULT 0;
