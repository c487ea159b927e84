-- Facts, events and audit rows.

-- name: fact_add :exec
-- in: fact_id uuid, kind text, account_id uuid, subject_id uuid, detail jsonb, due timestamptz
-- A fact that may be taken from then on.
INSERT INTO fact (fact_id, kind, account_id, subject_id, detail, lease_until) VALUES ($1, $2, $3, $4, $5, $6);

-- name: fact_take :one
-- in: now timestamptz, lease_until timestamptz
-- The oldest open fact whose lease is over, leased again. No row: there is none that another does not work on.
UPDATE fact SET lease_until = $2, attempts = attempts + 1
WHERE fact_id = (SELECT fact_id FROM fact WHERE done_at IS NULL AND lease_until <= $1 ORDER BY fact_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING fact_id, kind, account_id, subject_id, detail, attempts;

-- name: fact_done :exec
-- in: fact_id uuid
-- Marks it handled, at the latest moment that its lease allowed: exact enough for keeping it twelve hours. No row: it was handled already.
UPDATE fact SET done_at = lease_until WHERE fact_id = $1 AND done_at IS NULL;

-- name: fact_expire :exec
-- in: done_before timestamptz
-- Forgets handled facts, some thousands at a time.
DELETE FROM fact WHERE fact_id IN (SELECT fact_id FROM fact WHERE done_at < $1 ORDER BY done_at LIMIT 10000);

-- name: event_number :one
-- in: account_id uuid
-- The account's next number. Its row stays locked until the commit, so that numbers become visible in their order.
INSERT INTO event_counter (account_id, head) VALUES ($1, 1)
ON CONFLICT (account_id) DO UPDATE SET head = event_counter.head + 1
RETURNING head;

-- name: event_add :exec
-- in: account_id uuid, number bigint, now timestamptz, system_id uuid?, type text, data jsonb
-- The event itself.
INSERT INTO event (account_id, number, at, system_id, type, data) VALUES ($1, $2, $3, $4, $5, $6);

-- name: event_head :one
-- in: account_id uuid
-- The last number given. No row: the account has had no event.
SELECT head FROM event_counter WHERE account_id = $1;

-- name: events_after :many 1000
-- in: account_id uuid, number bigint, most integer
-- Events after that number, oldest first.
SELECT number, at, system_id, type, data FROM event WHERE account_id = $1 AND number > $2 ORDER BY number LIMIT $3;

-- name: event_expire :exec
-- in: before timestamptz
-- Forgets old events, some thousands at a time.
DELETE FROM event WHERE (account_id, number) IN (SELECT account_id, number FROM event WHERE at < $1 ORDER BY at LIMIT 10000);

-- name: forget_events :exec
-- in: account_id uuid
-- The account was deleted.
DELETE FROM event WHERE account_id = $1;

-- name: forget_counter :exec
-- in: account_id uuid
-- The account was deleted.
DELETE FROM event_counter WHERE account_id = $1;

-- name: pseudonym_add :exec
-- in: account_id uuid, pseudonym uuid
-- What the account's audit stands under.
INSERT INTO audit_pseudonym (account_id, pseudonym) VALUES ($1, $2);

-- name: pseudonym :one
-- in: account_id uuid
-- No row: it is no account's id, or the account is gone.
SELECT pseudonym FROM audit_pseudonym WHERE account_id = $1;

-- name: pseudonym_drop :exec
-- in: account_id uuid
-- The account was deleted: nobody knows any more whose audit it was.
DELETE FROM audit_pseudonym WHERE account_id = $1;

-- name: audit_next :one
-- in: subject_id uuid
-- The chain's next number and the hash of the row before it (empty before the first). The head stays locked until the commit.
INSERT INTO audit_head (subject_id, number, hash) VALUES ($1, 1, '')
ON CONFLICT (subject_id) DO UPDATE SET number = audit_head.number + 1
RETURNING number, hash;

-- name: audit_add :exec
-- in: subject_id uuid, number bigint, now timestamptz, actor_id uuid?, action text, detail text, hash bytea
-- The row itself.
INSERT INTO audit (subject_id, number, at, actor_id, action, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: audit_set_head :exec
-- in: subject_id uuid, hash bytea
-- The hash of the row just added.
UPDATE audit_head SET hash = $2 WHERE subject_id = $1;

-- name: audit_head :one
-- in: subject_id uuid
-- Where the chain ends, locked so that it does not grow while it is followed. No row: it is empty.
SELECT number, hash FROM audit_head WHERE subject_id = $1 FOR UPDATE;

-- name: audit_newest :many 200
-- in: subject_id uuid
-- The end of the chain, newest first.
SELECT number, at, action, detail FROM audit WHERE subject_id = $1 ORDER BY number DESC LIMIT 200;

-- name: audit_page :many 500
-- in: subject_id uuid, number bigint
-- The next rows of the chain after that number.
SELECT number, at, actor_id, action, detail, hash FROM audit WHERE subject_id = $1 AND number > $2 ORDER BY number LIMIT 500;
