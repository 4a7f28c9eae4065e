-- How a key was registered.
-- NULL: registered without a signature by the key, so by anybody who had its public half. Such a key signs nobody in.
ALTER TABLE ssh_keys ADD COLUMN registered_by TEXT;

-- The SSH key that opened the session, and who says that it is the person's. NULL in older sessions.
ALTER TABLE sessions ADD COLUMN key_fingerprint TEXT;
ALTER TABLE sessions ADD COLUMN key_registered_by TEXT;
