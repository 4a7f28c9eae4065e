-- Keys that wait for their end, and what was found that is not accounted for.

-- Who writes to an open operation: its worker holds epoch 0, and each claim of a reconciler counts one up.
ALTER TABLE operations ADD COLUMN epoch @INT NOT NULL DEFAULT 0;

-- Access keys that a lost request may have made, and nothing proves it: src/unaccounted.rs. One row until its key is gone,
-- or somebody has shown that it is theirs.
CREATE TABLE unaccounted_keys (
    access_key_id TEXT NOT NULL PRIMARY KEY,
    resource TEXT NOT NULL,
    folded TEXT NOT NULL,
    operation TEXT NOT NULL REFERENCES operations (id),
    found_ms @INT NOT NULL,
    deactivated @INT NOT NULL
) @STRICT;
CREATE INDEX unaccounted_keys_by_resource ON unaccounted_keys (folded);
-- Rotations whose new key nobody has confirmed yet.
CREATE TABLE rotations (
    old_key TEXT NOT NULL PRIMARY KEY,
    new_key TEXT NOT NULL,
    folded TEXT NOT NULL, -- the user
    old_was_active @INT NOT NULL,
    operation TEXT NOT NULL REFERENCES operations (id),
    person TEXT NOT NULL,
    since @INT NOT NULL, -- seconds since 1970 by AWS's clock: the new key was proved, the old one deactivated
    delete_after_ms @INT -- none: the old key is not deleted by time
) @STRICT;
CREATE INDEX rotations_by_new_key ON rotations (new_key);
CREATE INDEX rotations_by_user ON rotations (folded);
CREATE INDEX rotations_by_time ON rotations (delete_after_ms) WHERE delete_after_ms IS NOT NULL;
