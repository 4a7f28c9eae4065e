CREATE TRIGGER audit_groups_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_groups
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
