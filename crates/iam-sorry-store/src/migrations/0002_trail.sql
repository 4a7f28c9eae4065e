-- What the trail was when it was last signed or sent.

-- Where it is tried out whether the disk has room again: rows live for a moment.
CREATE TABLE room (
    instance TEXT NOT NULL PRIMARY KEY,
    ballast @BLOB NOT NULL
) @STRICT;
