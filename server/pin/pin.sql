-- name: open :exec
-- in: id uuid, account_id uuid?, subject_id uuid, client_id uuid?, purpose text, key_hash bytea, context text?, decoy boolean, now timestamptz, ends_at timestamptz, locale text
-- A challenge without a PIN yet.
INSERT INTO challenge (id, account_id, subject_id, client_id, purpose, key_hash, context, decoy, pin_key, sent_count, tries, expires_at, resend_at, created_at, ends_at, locale)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, $9, $9, $9, $10, $11);

-- name: get :one
-- in: id uuid, now timestamptz
-- No row: there is none, or it ended long ago.
SELECT id, account_id, subject_id, client_id, purpose, key_hash, channel, destination, context, decoy, pin_hash, pin_key, sent_count, tries, expires_at, resend_at,
       verified_at, locale
FROM challenge WHERE id = $1 AND ends_at > $2;

-- name: lock :one
-- in: id uuid, now timestamptz
-- The same row, locked until the end of the transaction: sends and tries of one challenge happen one after the other.
UPDATE challenge SET tries = tries WHERE id = $1 AND ends_at > $2
RETURNING id, account_id, subject_id, client_id, purpose, key_hash, channel, destination, context, decoy, pin_hash, pin_key, sent_count, tries, expires_at, resend_at,
          verified_at, locale;

-- name: send :exec
-- in: id uuid, channel text, destination text, pin_hash bytea, pin_key smallint, now timestamptz, expires_at timestamptz, resend_at timestamptz
-- A new PIN; the old one's hash is gone.
UPDATE challenge SET channel = $2, destination = $3, pin_hash = $4, pin_key = $5, sent_count = sent_count + 1, issued_at = $6, expires_at = $7, resend_at = $8
WHERE id = $1;

-- name: count_try :exec
-- in: id uuid
-- The constraint refuses a sixth.
UPDATE challenge SET tries = tries + 1 WHERE id = $1;

-- name: spend :exec
-- in: id uuid, pin_hash bytea, now timestamptz
-- The one that verifies. No row: somebody was first, or a newer PIN took this one's place.
UPDATE challenge SET verified_at = $3, pin_hash = NULL WHERE id = $1 AND verified_at IS NULL AND pin_hash = $2 AND expires_at > $3;

-- name: spend_other :exec
-- in: id uuid, now timestamptz
-- The same for an answer that is no PIN; a PIN that was sent is void then.
UPDATE challenge SET verified_at = $2, pin_hash = NULL WHERE id = $1 AND verified_at IS NULL AND ends_at > $2;

-- name: budget_lock :exec
-- in: subject_id uuid, purpose text, now timestamptz
-- Locks the counting of one subject and purpose until the end of the transaction.
INSERT INTO challenge_budget (subject_id, purpose, touched_at) VALUES ($1, $2, $3)
ON CONFLICT (subject_id, purpose) DO UPDATE SET touched_at = excluded.touched_at;

-- name: budget :one
-- in: subject_id uuid, purpose text, since timestamptz
-- null: oldest
-- Wrong tries since then, and the time of the oldest of them.
SELECT count(*) AS wrong, min(at) AS oldest FROM challenge_try WHERE subject_id = $1 AND purpose = $2 AND at > $3;

-- name: try_add :exec
-- in: subject_id uuid, purpose text, id uuid, now timestamptz
-- A try that is about to be compared counts as wrong until it is taken back.
INSERT INTO challenge_try (subject_id, purpose, id, at) VALUES ($1, $2, $3, $4);

-- name: try_drop :exec
-- in: subject_id uuid, purpose text, id uuid
-- It was a right one.
DELETE FROM challenge_try WHERE subject_id = $1 AND purpose = $2 AND id = $3;

-- name: forget_challenges :exec
-- in: account_id uuid
-- Nobody can answer them any more.
DELETE FROM challenge WHERE account_id = $1;

-- name: forget_tries :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM challenge_try WHERE subject_id = $1;

-- name: forget_budget :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM challenge_budget WHERE subject_id = $1;

-- name: expire_challenges :exec
-- in: now timestamptz
-- Nobody can answer these any more.
DELETE FROM challenge WHERE ends_at <= $1;

-- name: expire_tries :exec
-- in: before timestamptz
-- Out of the 24 hours.
DELETE FROM challenge_try WHERE at <= $1;

-- name: expire_budgets :exec
-- in: before timestamptz
-- Nothing left to count.
DELETE FROM challenge_budget WHERE touched_at <= $1;
