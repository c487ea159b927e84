-- name: take :one
-- in: bucket_id bytea, now_us bigint, want bigint, share_us bigint, burst_us bigint
-- Takes as much of what is wanted as the bucket has room for; granted 0: none, and nothing is taken.
INSERT INTO rate_bucket (bucket_id, busy_until, granted) VALUES ($1, $2 + $3 * $4, $3)
ON CONFLICT (bucket_id) DO UPDATE SET
    granted = LEAST($3, GREATEST(0, ($5 + $2 - GREATEST(rate_bucket.busy_until, $2)) / $4)),
    busy_until = GREATEST(rate_bucket.busy_until, $2) + $4 * LEAST($3, GREATEST(0, ($5 + $2 - GREATEST(rate_bucket.busy_until, $2)) / $4))
RETURNING granted, busy_until;

-- name: expire_buckets :exec
-- in: now_us bigint
-- Forgets buckets that are full again, some thousands at a time.
DELETE FROM rate_bucket WHERE bucket_id IN (SELECT bucket_id FROM rate_bucket WHERE busy_until <= $1 ORDER BY busy_until LIMIT 10000);

-- name: sent_add :exec
-- in: prefix text, id uuid, challenge_id uuid, now timestamptz, owner_id uuid?
-- A message to a phone.
INSERT INTO limit_sent (prefix, id, challenge_id, at, answered, owner_id) VALUES ($1, $2, $3, $4, false, $5);

-- name: sent_answered :exec
-- in: challenge_id uuid
-- Its PIN came back: all sends of the challenge were worth it.
UPDATE limit_sent SET answered = true WHERE challenge_id = $1 AND NOT answered;

-- name: sent_count :one
-- in: prefix text, since timestamptz, until timestamptz
-- null: nothing
-- How many messages of a prefix there were in a time, and how many of them were answered since.
SELECT count(*) AS sent, count(*) FILTER (WHERE answered) AS answered FROM limit_sent WHERE prefix = $1 AND at > $2 AND at <= $3;

-- name: owner_count :one
-- in: owner_id uuid, since timestamptz, until timestamptz
-- null: nothing
-- The same of an account's own number.
SELECT count(*) AS sent, count(*) FILTER (WHERE answered) AS answered FROM limit_sent WHERE owner_id = $1 AND at > $2 AND at <= $3;

-- name: owner_forget :exec
-- in: owner_id uuid
-- The account is being deleted; that the block was sent something stays.
UPDATE limit_sent SET owner_id = NULL WHERE owner_id = $1;

-- name: sent_expire :exec
-- in: before timestamptz
-- Nobody asks for these any more.
DELETE FROM limit_sent WHERE at <= $1;

-- name: stop_get :one
-- in: prefix text
-- No row: it never was stopped, or long ago.
SELECT stops, until FROM limit_stop WHERE prefix = $1;

-- name: stop_put :exec
-- in: prefix text, stops integer, until timestamptz
-- Nothing is sent to it until then.
INSERT INTO limit_stop (prefix, stops, until) VALUES ($1, $2, $3) ON CONFLICT (prefix) DO UPDATE SET stops = excluded.stops, until = excluded.until;

-- name: stop_expire :exec
-- in: before timestamptz
-- It has been quiet.
DELETE FROM limit_stop WHERE until <= $1;

-- name: failure_lock :one
-- in: id bytea, now timestamptz
-- The count of wrong passwords, locked: tries of one pair are counted one after the other.
INSERT INTO limit_failure (id, failures, until, at) VALUES ($1, 0, timestamptz 'epoch', $2) ON CONFLICT (id) DO UPDATE SET failures = limit_failure.failures
RETURNING failures, until, at;

-- name: failure_get :one
-- in: id bytea
-- The same, only to look. No row: there was none.
SELECT failures, until, at FROM limit_failure WHERE id = $1;

-- name: failure_set :exec
-- in: id bytea, failures integer, until timestamptz, now timestamptz
-- One more.
UPDATE limit_failure SET failures = $2, until = $3, at = $4 WHERE id = $1;

-- name: failure_clear :exec
-- in: id bytea
-- The password was right.
DELETE FROM limit_failure WHERE id = $1;

-- name: failure_undo :exec
-- in: id bytea, set_until timestamptz, old_until timestamptz
-- A try that was not compared takes back what it had added, and nothing of what others did.
UPDATE limit_failure SET failures = GREATEST(failures - 1, 0), until = CASE WHEN until = $2 THEN $3 ELSE until END WHERE id = $1;

-- name: failure_drop_empty :exec
-- in: id bytea
-- Nothing is left of it.
DELETE FROM limit_failure WHERE id = $1 AND failures = 0;

-- name: failure_trim :exec
-- in: kept bigint
-- Those longest ago, past so many.
DELETE FROM limit_failure WHERE at <= (SELECT at FROM limit_failure ORDER BY at DESC OFFSET $1 LIMIT 1);

-- name: failure_expire :exec
-- in: before timestamptz
-- A day without another one.
DELETE FROM limit_failure WHERE at <= $1;
