-- What the trail was when it was last signed or sent.

-- Files outside the database that have the last checkpoint of a key: one that is noted here and not there was taken away.
CREATE TABLE signed_states (
    key_id TEXT NOT NULL,
    place TEXT NOT NULL, -- HOST:PATH
    since_ms @INT NOT NULL,
    PRIMARY KEY (key_id, place)
) @CLUSTERED;
