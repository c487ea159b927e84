-- What db itself asks: its own book-keeping of migrations, and the server's settings.

-- name: has_migrations :one
-- null: nothing
-- Is there a table of migrations in the schema in use? false: an empty database.
SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'migration') AS there;

-- name: migrations :many 2000
-- All that were applied, in order.
SELECT version, name, sha256 FROM migration ORDER BY version;

-- name: migration_lock :exec
-- in: holder uuid, now timestamptz
-- Takes the lease row; others wait on it until this transaction ends.
UPDATE migration_lease SET holder = $1, taken_at = $2 WHERE lease_id = 1;

-- name: migration_done :exec
-- in: version integer, name text, sha256 bytea, now timestamptz
-- Notes that it was applied.
INSERT INTO migration (version, name, sha256, applied_at) VALUES ($1, $2, $3, $4);

-- name: long_statements :one
-- null: nothing
-- Lifts the statement timeout to ten minutes for the rest of this transaction: migrations may build indexes.
SELECT set_config('statement_timeout', '600000', true) AS set_to;

-- name: durability :one
-- null: nothing
-- The settings without which a commit may be lost.
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit;
