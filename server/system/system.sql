-- name: add :one
-- in: account_id uuid, id uuid, name text, now timestamptz, most integer
-- null: nothing
-- A new system. No row: the account has `most` already.
INSERT INTO system (account_id, id, name, version, created_at)
SELECT $1, $2, $3, 1, $4 WHERE (SELECT count(*) FROM system WHERE account_id = $1) < $5
RETURNING id;

-- name: find :one
-- in: account_id uuid, id uuid
-- No row: not this account's.
SELECT id, name, created_at FROM system WHERE account_id = $1 AND id = $2;

-- name: lock :one
-- in: account_id uuid, id uuid
-- Holds the system until the end of the transaction: slots are taken one after another. No row: not this account's.
UPDATE system SET version = version + 1 WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at;

-- name: list :many 1000
-- in: account_id uuid
-- All systems of an account, oldest first.
SELECT id, name, created_at FROM system WHERE account_id = $1 ORDER BY created_at, id;

-- name: page :many 201
-- in: account_id uuid, after uuid, most integer
-- The systems behind that one (ids tell their time: oldest first).
SELECT id, name, created_at FROM system WHERE account_id = $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: rename :one
-- in: account_id uuid, id uuid, name text
-- No row: not this account's.
UPDATE system SET name = $3, version = version + 1 WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at;

-- name: drop :exec
-- in: account_id uuid, id uuid
-- Deletes the system alone; its devices are device's.
DELETE FROM system WHERE account_id = $1 AND id = $2;
