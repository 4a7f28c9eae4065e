-- Whose users and keys they are: an AWS account, by the name that the configuration gives it. What was there before is of the
-- only account that there was, which is called `default`.

CREATE TABLE users_of_accounts (
    account TEXT NOT NULL,
    folded TEXT NOT NULL,
    name TEXT NOT NULL,
    arn TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_ms @INT NOT NULL,
    adopted @INT NOT NULL,
    PRIMARY KEY (account, folded)
) @STRICT;
INSERT INTO users_of_accounts (account, folded, name, arn, namespace, owner, created_ms, adopted)
SELECT 'default', folded, name, arn, namespace, owner, created_ms, adopted FROM users;
DROP TABLE users;
ALTER TABLE users_of_accounts RENAME TO users;
CREATE INDEX users_by_namespace ON users (namespace, folded, account);

ALTER TABLE operations ADD COLUMN account TEXT NOT NULL DEFAULT 'default';
DROP INDEX operations_exclusive;
CREATE UNIQUE INDEX operations_exclusive ON operations (account, resource) WHERE state = 0 AND exclusive = 1;

ALTER TABLE grants ADD COLUMN account TEXT NOT NULL DEFAULT 'default';
DROP INDEX grants_by_resource;
CREATE INDEX grants_by_resource ON grants (account, folded);

ALTER TABLE unaccounted_keys ADD COLUMN account TEXT NOT NULL DEFAULT 'default';
DROP INDEX unaccounted_keys_by_resource;
CREATE INDEX unaccounted_keys_by_resource ON unaccounted_keys (account, folded);

-- The keys of a rotation are unique over all accounts, as AWS makes them.
ALTER TABLE rotations ADD COLUMN account TEXT NOT NULL DEFAULT 'default';
DROP INDEX rotations_by_user;
CREATE INDEX rotations_by_user ON rotations (account, folded);
