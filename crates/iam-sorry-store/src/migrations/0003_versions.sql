-- Two versions side by side: which programs can work with a schema, and which program an instance is.

-- The oldest schema whose programs can work with this one. NULL: none but its own (schemas 1 and 2).
ALTER TABLE schema_version ADD COLUMN min_binary @INT;

-- The schema of the instance's program. Those that were there before said nothing of it.
ALTER TABLE instances ADD COLUMN binary_version @INT NOT NULL DEFAULT 2;
