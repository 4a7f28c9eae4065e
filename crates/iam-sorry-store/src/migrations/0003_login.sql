-- Sign-in in two steps, and how a session came about.

-- What lies between two steps of a sign-in dialogue, whatever the method: src/login_flows.rs. A row is there once, and
-- whoever takes it deletes it.
CREATE TABLE login_flows (
    id @BLOB NOT NULL PRIMARY KEY, -- SHA-256 of what the second step brings: a nonce, OIDC's state, SAML's RelayState, a link
    kind TEXT NOT NULL, -- which dialogue
    source TEXT NOT NULL, -- the sign-in method or provider that began it, by its id in the service's registry
    counted_as TEXT NOT NULL, -- whose share of the table it takes
    origin TEXT NOT NULL, -- the service's origin when it began
    network TEXT, -- the network that the second step must come from
    browser @BLOB, -- SHA-256 of the cookie that the second step must come with
    data @BLOB NOT NULL, -- what the dialogue needs at its second step; the store does not read it
    begun_ms @INT NOT NULL,
    expires_ms @INT NOT NULL
) @STRICT;
CREATE INDEX login_flows_by_end ON login_flows (expires_ms);
CREATE INDEX login_flows_by_share ON login_flows (kind, counted_as, expires_ms);

-- They were this for SSH keys alone. Programs of schema 2 don't run beside this one, and whoever signs in while it is made
-- tries again.
DROP TABLE challenges;

-- How the session came to whoever has it: browser, api. NULL in older sessions.
ALTER TABLE sessions ADD COLUMN via TEXT;
