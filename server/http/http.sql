-- Stored answers of calls with an Idempotency-Key, and token buckets.

-- name: idempotency_take :exec
-- in: owner_id uuid, key_hash bytea, request_hash bytea, now timestamptz, expired timestamptz
-- Takes the key for this call, waiting for a call with the same key that is under way. No row: another call has it (and was committed).
INSERT INTO idempotency (owner_id, key_hash, request_hash, answer, created_at) VALUES ($1, $2, $3, '', $4)
ON CONFLICT (owner_id, key_hash) DO UPDATE SET request_hash = $3, answer = '', created_at = $4 WHERE idempotency.created_at <= $5;

-- name: idempotency_find :one
-- in: owner_id uuid, key_hash bytea, expired timestamptz
-- The stored answer. No row: there is none, or its time is over.
SELECT request_hash, answer FROM idempotency WHERE owner_id = $1 AND key_hash = $2 AND created_at > $3;

-- name: idempotency_keep :exec
-- in: owner_id uuid, key_hash bytea, answer bytea
-- The answer of the call that took the key.
UPDATE idempotency SET answer = $3 WHERE owner_id = $1 AND key_hash = $2;

-- name: idempotency_drop :exec
-- in: owner_id uuid, key_hash bytea
-- Gives the key back: the call was refused, though it leaves rows.
DELETE FROM idempotency WHERE owner_id = $1 AND key_hash = $2;

-- name: idempotency_expire :exec
-- in: before timestamptz
-- Forgets old answers, some thousands at a time.
DELETE FROM idempotency WHERE (owner_id, key_hash) IN (SELECT owner_id, key_hash FROM idempotency WHERE created_at <= $1 ORDER BY created_at LIMIT 10000);
