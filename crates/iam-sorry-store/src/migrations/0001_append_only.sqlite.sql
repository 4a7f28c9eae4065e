-- The trail only grows. Who can write the file can take this away; it stops mistakes, and the chain shows the rest.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_words_are_not_changed BEFORE UPDATE ON audit_words
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_words_are_not_deleted BEFORE DELETE ON audit_words
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
