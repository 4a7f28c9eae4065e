CREATE TRIGGER audit_groups_are_not_changed BEFORE UPDATE ON audit_groups
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_groups_are_not_deleted BEFORE DELETE ON audit_groups
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
