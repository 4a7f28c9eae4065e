-- The trail consists of lanes: each run of an instance has a hash chain of its own, so that no instance waits for another's.
-- `audit.seq` is a record's number in this database from here on, 2^36 times its lane's number and its place in the lane:
-- what version 1 wrote is lane 0, and keeps its numbers.

CREATE TABLE trail (
    one @INT NOT NULL PRIMARY KEY CHECK (one = 1),
    chain TEXT NOT NULL
) @STRICT;
INSERT INTO trail (one, chain) SELECT one, chain FROM audit_head;

CREATE TABLE lanes (
    n @INT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE, -- 16 hexadecimal digits, as records have it
    instance TEXT NOT NULL,
    seq @INT NOT NULL, -- its last record
    hash @BLOB NOT NULL,
    filed @INT NOT NULL, -- the last record whose words are in audit_words
    is_open @INT NOT NULL, -- 0: nothing is ever added to it again
    settled @INT NOT NULL -- 1: it is not open, and a record of another lane names its end
) @STRICT;
CREATE INDEX lanes_open ON lanes (n) WHERE is_open = 1;
CREATE INDEX lanes_unsettled ON lanes (n) WHERE settled = 0;

-- The chain of version 1 is nobody's any more. The first new lane ends it.
INSERT INTO lanes (n, name, instance, seq, hash, filed, is_open, settled)
SELECT 0, '0000000000000000', '', seq, hash, seq - seq % 256, 1, 0 FROM audit_head WHERE seq > 0;

-- A program of schema 2 that still runs finds no chain to write to, and does nothing more.
DROP TABLE audit_head;

-- Where a list of groups stands that later records of the same lane name by its digest.
CREATE TABLE audit_groups (
    lane @INT NOT NULL,
    digest @BLOB NOT NULL,
    seq @INT NOT NULL,
    PRIMARY KEY (lane, digest)
) @CLUSTERED;

-- Checkpoints have a number of their own: one covers several lanes. Those of version 1 are counted by the record they cover.
ALTER TABLE checkpoints RENAME COLUMN seq TO number;

-- How far a sink has come. Of the lanes before `next` it has everything, but of those in `sink_lanes` as far as that says; of
-- the others it has nothing.
CREATE TABLE sink_positions (
    name TEXT NOT NULL PRIMARY KEY,
    next @INT NOT NULL,
    last @INT NOT NULL, -- the record that was sent last; 0 where none was
    checkpoint @INT NOT NULL -- the last checkpoint that was sent
) @STRICT;
CREATE TABLE sink_lanes (
    sink TEXT NOT NULL,
    lane @INT NOT NULL,
    seq @INT NOT NULL,
    PRIMARY KEY (sink, lane)
) @CLUSTERED;
INSERT INTO sink_positions (name, next, last, checkpoint)
SELECT s.name, (SELECT count(*) FROM lanes), s.seq, coalesce((SELECT c.seq FROM sinks c WHERE c.name = s.name || ' checkpoints'), 0)
FROM sinks s WHERE s.name NOT LIKE '% checkpoints';
INSERT INTO sink_lanes (sink, lane, seq)
SELECT p.name, 0, p.last FROM sink_positions p WHERE EXISTS (SELECT 1 FROM lanes WHERE n = 0);
DROP TABLE sinks;
