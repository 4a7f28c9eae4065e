-- The trail only grows. The table's owner can take this away; it stops mistakes, and the chain shows the rest.
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_words_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_words
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
