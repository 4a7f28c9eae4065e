-- The first schema. Times are milliseconds since 1970; hashes are SHA-256; JSON is text, read by the service alone.

CREATE TABLE audit_head (
    one @INT NOT NULL PRIMARY KEY CHECK (one = 1),
    chain TEXT NOT NULL,
    seq @INT NOT NULL,
    hash @BLOB NOT NULL
) @STRICT;

-- `line` is the canonical record; the other columns are copies to look things up by.
CREATE TABLE audit (
    seq @INT NOT NULL PRIMARY KEY,
    hash @BLOB NOT NULL,
    time_ms @INT NOT NULL,
    phase @INT NOT NULL,
    person TEXT NOT NULL,
    name TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    line TEXT NOT NULL
) @STRICT;
-- Pages go by time, newest first.
CREATE INDEX audit_by_time ON audit (time_ms, seq);

-- Which records name what, for full blocks of them: src/lookups.rs.
CREATE TABLE audit_words (
    kind @INT NOT NULL, -- 1 resource, 2 person, 3 name, 4 action
    word TEXT NOT NULL,
    time_ms @INT NOT NULL,
    seq @INT NOT NULL,
    PRIMARY KEY (kind, word, time_ms, seq)
) @CLUSTERED;

-- How often what happened in full blocks: a chart of a year costs no reading of a million records.
CREATE TABLE audit_days (
    day @INT NOT NULL, -- since 1970
    person TEXT NOT NULL,
    action TEXT NOT NULL,
    count @INT NOT NULL,
    PRIMARY KEY (day, person, action)
) @CLUSTERED;
CREATE INDEX audit_days_by_person ON audit_days (person, day);

CREATE TABLE checkpoints (
    seq @INT NOT NULL PRIMARY KEY,
    line TEXT NOT NULL
) @STRICT;

CREATE TABLE sinks (
    name TEXT NOT NULL PRIMARY KEY,
    seq @INT NOT NULL
) @STRICT;

CREATE TABLE operations (
    id TEXT NOT NULL PRIMARY KEY,
    person TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    exclusive @INT NOT NULL,
    request_hash TEXT NOT NULL,
    plan TEXT NOT NULL,
    state @INT NOT NULL, -- 0 open, 1 done, 2 failed, 3 undone
    instance TEXT NOT NULL,
    begun_ms @INT NOT NULL,
    intent @INT NOT NULL REFERENCES audit (seq),
    outcome @INT REFERENCES audit (seq),
    result TEXT,
    UNIQUE (person, idempotency_key)
) @STRICT;
CREATE UNIQUE INDEX operations_exclusive ON operations (resource) WHERE state = 0 AND exclusive = 1;
CREATE INDEX operations_open ON operations (begun_ms, id) WHERE state = 0;

CREATE TABLE notes (
    operation TEXT NOT NULL REFERENCES operations (id),
    n @INT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (operation, n)
) @STRICT;

CREATE TABLE grants (
    operation TEXT NOT NULL REFERENCES operations (id),
    n @INT NOT NULL,
    person TEXT NOT NULL,
    kind TEXT NOT NULL,
    resource TEXT NOT NULL,
    folded TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    issued_ms @INT NOT NULL,
    expires_ms @INT,
    deleted @INT NOT NULL,
    PRIMARY KEY (operation, n)
) @STRICT;
CREATE INDEX grants_by_time ON grants (issued_ms, operation, n);
CREATE INDEX grants_by_person ON grants (person, issued_ms, operation, n);
CREATE INDEX grants_by_key ON grants (access_key_id);
CREATE INDEX grants_by_resource ON grants (folded);

CREATE TABLE users (
    folded TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    arn TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_ms @INT NOT NULL,
    adopted @INT NOT NULL
) @STRICT;
CREATE INDEX users_by_namespace ON users (namespace, folded);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash @BLOB NOT NULL UNIQUE,
    form_hash @BLOB,
    person TEXT NOT NULL,
    identity TEXT NOT NULL,
    method TEXT NOT NULL,
    signed_in_ms @INT NOT NULL,
    last_used_ms @INT NOT NULL,
    expires_ms @INT NOT NULL,
    address TEXT NOT NULL
) @STRICT;
CREATE INDEX sessions_by_time ON sessions (signed_in_ms, id);
CREATE INDEX sessions_by_person ON sessions (person, signed_in_ms, id);
CREATE INDEX sessions_by_end ON sessions (expires_ms);

CREATE TABLE ssh_keys (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    public_key TEXT NOT NULL,
    comment TEXT NOT NULL,
    person TEXT NOT NULL,
    identity TEXT NOT NULL,
    registered_ms @INT NOT NULL
) @STRICT;
CREATE INDEX ssh_keys_by_person ON ssh_keys (person, registered_ms);

CREATE TABLE challenges (
    nonce TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    request TEXT NOT NULL,
    time TEXT NOT NULL,
    expires_ms @INT NOT NULL,
    address TEXT NOT NULL
) @STRICT;
CREATE INDEX challenges_by_end ON challenges (expires_ms);
CREATE INDEX challenges_by_address ON challenges (address, expires_ms);

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    started_ms @INT NOT NULL,
    beat_ms @INT NOT NULL
) @STRICT;

CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until_ms @INT NOT NULL
) @STRICT;
