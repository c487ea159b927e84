-- name: queue :exec
-- in: id uuid, account_id uuid?, ref uuid?, kind text, channel text, body bytea, now timestamptz, send_by timestamptz, wipe_at timestamptz
-- A new message, due at once.
INSERT INTO outbox (id, account_id, ref, kind, channel, status, body, attempts, next_at, send_by, wipe_at, created_at)
VALUES ($1, $2, $3, $4, $5, 'queued', $6, 0, $7, $8, $9, $7);

-- name: lease :one
-- in: now timestamptz, until timestamptz, lease uuid, email boolean, phone boolean
-- null: nothing
-- Takes the message that is due longest, of a channel that is configured. A lease that ran out is taken over. No row: nothing is due.
UPDATE outbox SET status = 'leased', lease = $3, next_at = $2, attempts = attempts + 1
WHERE id = (SELECT o.id FROM outbox o
            WHERE o.status IN ('queued', 'leased') AND o.next_at <= $1 AND o.send_by > $1 AND CASE o.channel WHEN 'email' THEN $4 ELSE $5 END
            ORDER BY o.next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, kind, channel, body, attempts;

-- name: sent :exec
-- in: id uuid, lease uuid, now timestamptz
-- Handed over. The body goes in the same moment.
UPDATE outbox SET status = 'sent', body = NULL, lease = NULL, ended_at = $3, why = NULL WHERE id = $1 AND lease = $2 AND status = 'leased';

-- name: retry :exec
-- in: id uuid, lease uuid, next_at timestamptz, why text
-- The provider did not take it; again later.
UPDATE outbox SET status = 'queued', lease = NULL, next_at = $3, why = $4 WHERE id = $1 AND lease = $2 AND status = 'leased';

-- name: dead :exec
-- in: id uuid, lease uuid, now timestamptz, why text
-- The provider will never take it, or was asked too often.
UPDATE outbox SET status = 'dead', body = NULL, lease = NULL, ended_at = $3, why = $4 WHERE id = $1 AND lease = $2 AND status = 'leased';

-- name: expire :exec
-- in: now timestamptz, email boolean, phone boolean
-- What may not be sent any more ends, and what nobody sends is wiped when its PIN dies. A message that is being sent this moment is left to its lease.
UPDATE outbox SET status = 'expired', body = NULL, lease = NULL, ended_at = $1, why = COALESCE(why, 'too_old')
WHERE status IN ('queued', 'leased') AND (status = 'queued' OR next_at <= $1)
  AND (wipe_at <= $1 OR (send_by <= $1 AND CASE channel WHEN 'email' THEN $2 ELSE $3 END));

-- name: settle :exec
-- in: now timestamptz, before timestamptz
-- A provider that took a message and was silent since will say no more about it.
UPDATE outbox SET status = 'done' WHERE status = 'sent' AND ended_at <= $2 AND ended_at <= $1;

-- name: purge :exec
-- in: before timestamptz
-- Rows that ended long ago; they hold no body.
DELETE FROM outbox WHERE ended_at <= $1 AND status IN ('done', 'expired', 'dead');

-- name: cancel :exec
-- in: ref uuid, now timestamptz
-- A newer message takes the place of these.
UPDATE outbox SET status = 'expired', body = NULL, lease = NULL, ended_at = $2, why = 'superseded'
WHERE ref = $1 AND status IN ('queued', 'leased') AND (status = 'queued' OR next_at <= $2);

-- name: forget :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM outbox WHERE account_id = $1;

-- name: call_open :exec
-- in: id uuid, ends_at timestamptz
-- What the call will say waits here, sealed as it was, for a key.
INSERT INTO voice_call (id, account_id, ref, body, ends_at) SELECT id, account_id, ref, body, LEAST(wipe_at, $2) FROM outbox WHERE id = $1 AND body IS NOT NULL
ON CONFLICT (id) DO UPDATE SET ends_at = excluded.ends_at;

-- name: call_lock :one
-- in: id uuid, now timestamptz
-- The call is under way, and its questions come one after the other. No row: it ended, or a newer PIN took its place.
SELECT body, heard FROM voice_call WHERE id = $1 AND ends_at > $2 FOR UPDATE;

-- name: call_heard :exec
-- in: id uuid, ends_at timestamptz, signature bytea
-- A question that is answered now, and by no means a second time; the words are kept until then at the latest.
UPDATE voice_call SET ends_at = LEAST(ends_at, $2), heard = heard || $3 WHERE id = $1;

-- name: call_end :exec
-- in: id uuid
-- Nobody hears it any more.
DELETE FROM voice_call WHERE id = $1;

-- name: call_cancel :exec
-- in: ref uuid
-- A newer message takes the place of this one.
DELETE FROM voice_call WHERE ref = $1;

-- name: call_forget :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM voice_call WHERE account_id = $1;

-- name: call_expire :exec
-- in: now timestamptz
-- Nobody pressed a key in time.
DELETE FROM voice_call WHERE ends_at <= $1;

-- name: states :one
-- scan: the whole outbox is counted; rows that ended are purged after days
-- null: nothing
-- How many messages stand in each state. Their sum is `total`: no message is ever in none (conservation).
SELECT count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'leased') AS leased, count(*) FILTER (WHERE status = 'sent') AS sent,
       count(*) FILTER (WHERE status = 'done') AS done, count(*) FILTER (WHERE status = 'expired') AS expired, count(*) FILTER (WHERE status = 'dead') AS dead,
       count(*) AS total
FROM outbox;

-- name: list :many 200
-- in: now timestamptz
-- null: nothing
-- What was not handed over, newest first.
SELECT id, kind, channel, body, attempts, created_at, wipe_at FROM outbox
WHERE status IN ('queued', 'leased') AND wipe_at > $1 ORDER BY created_at DESC, id DESC LIMIT 200;
