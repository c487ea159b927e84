-- name: relay_add :one
-- in: id uuid, name text, public_key bytea, now timestamptz
-- null: nothing
-- Registers a relay's key. No row: a relay of this name is there already.
INSERT INTO relay (id, name, public_key, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: relay_by_name :one
-- in: name text
-- The relay of that name.
SELECT id, public_key, revoked_at FROM relay WHERE name = $1;

-- name: relay_key :one
-- in: id uuid
-- The key by which a relay proves itself, and the boot that it last said. No row: unknown or revoked.
SELECT public_key, boot_id FROM relay WHERE id = $1 AND revoked_at IS NULL;

-- name: relay_revoke :one
-- in: id uuid, now timestamptz
-- null: revoked_at
-- Its key is good no more; the first time stands. No row: unknown.
UPDATE relay SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1 RETURNING name, revoked_at;

-- name: relays_revoked :many 1000
-- in: since timestamptz
-- Whose connections every node looks for once a second, until a minute after: the nudge may be lost.
SELECT id FROM relay WHERE revoked_at > $1;

-- name: relay_hello :one
-- in: id uuid, node_id uuid, boot_id uuid, media_host text, media_port integer, max_sessions integer, sessions integer, now timestamptz, fingerprint bytea?
-- A relay has connected: takes an epoch, by the clock, so that one that is rolled back is not given again. A new process numbers its reports from 1.
UPDATE relay SET epoch = GREATEST(epoch + 1, (extract(epoch FROM $8) * 1000000)::bigint), heard = CASE WHEN boot_id = $3 THEN heard ELSE 0 END, node_id = $2, boot_id = $3, media_host = $4, media_port = $5, max_sessions = $6,
sessions = $7, busy = CASE WHEN boot_id = $3 THEN busy ELSE 0 END, connected = true, seen_at = $8, fingerprint = $9
WHERE id = $1 AND revoked_at IS NULL RETURNING epoch, name;

-- name: relay_heard :exec
-- in: id uuid, epoch bigint, seq bigint
-- Takes a report of the relay. None affected: it was written before, or the connection is an older one.
UPDATE relay SET heard = $3 WHERE id = $1 AND epoch = $2 AND heard < $3;

-- name: relay_gone :exec
-- in: id uuid, epoch bigint, now timestamptz
-- Its connection has closed; says nothing when a newer one is there.
UPDATE relay SET connected = false, seen_at = $3 WHERE id = $1 AND epoch = $2;

-- name: relay_stats :exec
-- in: id uuid, epoch bigint, sessions integer, viewers integer, busy integer, now timestamptz
-- What the relay counts, and how busy its thread is, in percent of a core.
UPDATE relay SET sessions = $3, viewers = $4, busy = $5, seen_at = $6 WHERE id = $1 AND epoch = $2;

-- name: relay_rooms :many 1000
-- in: now timestamptz
-- null: nothing
-- The connected relays, on nodes that live, with what they said last.
SELECT r.id, COALESCE(r.media_host, '') AS media_host, COALESCE(r.media_port, 0) AS media_port, r.max_sessions, r.sessions, r.viewers, r.busy, COALESCE(r.seen_at, r.created_at) AS seen_at
FROM relay r JOIN node n ON n.node_id = r.node_id
WHERE r.connected AND r.revoked_at IS NULL AND n.lease_until > $1
ORDER BY r.id;

-- name: relay_away :one
-- in: id uuid, node_id uuid, now timestamptz
-- null: since
-- Since when a relay has no connection to a node that lives. No row: it has one, or this node, $2, has no lease itself at the moment and cannot tell.
SELECT CASE WHEN r.connected THEN GREATEST(r.seen_at, n.lease_until) ELSE r.seen_at END AS since
FROM relay r JOIN node me ON me.node_id = $2 AND me.lease_until > $3 LEFT JOIN node n ON n.node_id = r.node_id
WHERE r.id = $1 AND (NOT r.connected OR n.node_id IS NULL OR n.lease_until <= $3);

-- name: relay_list :many 1000
-- in: now timestamptz
-- null: boot_id, media_host, media_port, seen_at, revoked_at
-- All relays, for operators. A node that died has nothing connected, though it wrote no end.
SELECT r.id, r.name, COALESCE(r.connected AND n.lease_until > $1, false) AS connected, r.boot_id, r.media_host, r.media_port, r.max_sessions, r.sessions, r.viewers, r.busy, r.seen_at, r.revoked_at
FROM relay r LEFT JOIN node n ON n.node_id = r.node_id ORDER BY r.name;

-- name: counts :one
-- in: now timestamptz
-- scan: relays are few; running sessions are counted over all accounts, a few times a minute
-- null: nothing
-- Relays, and what runs on those that are connected to a node that lives, as they said last.
WITH up AS (SELECT r.viewers FROM relay r JOIN node n ON n.node_id = r.node_id WHERE r.connected AND r.revoked_at IS NULL AND n.lease_until > $1)
SELECT (SELECT count(*) FROM relay WHERE revoked_at IS NULL) AS relays, (SELECT count(*) FROM up) AS connected, (SELECT COALESCE(sum(viewers), 0)::bigint FROM up) AS viewers,
       (SELECT count(*) FROM live WHERE state <> 'ended') AS sessions;

-- name: relay_media :one
-- in: id uuid
-- null: fingerprint
-- Where a session's viewers go, and whose certificate they find there.
SELECT COALESCE(media_host, '') AS media_host, COALESCE(media_port, 0) AS media_port, connected, fingerprint FROM relay WHERE id = $1;

-- name: add :exec
-- in: account_id uuid, id uuid, device_id uuid, system_id uuid, camera_serial text, hub_serial text, relay_id uuid, opener_id uuid, client_id uuid, generation integer, suite text, now timestamptz, expires_at timestamptz, hard_end_at timestamptz
-- A session that its relay holds already. live_one_per_device refuses a second one for the device.
INSERT INTO live (account_id, id, device_id, system_id, camera_serial, hub_serial, relay_id, opener_id, client_id, generation, state, suite, created_at, expires_at, hard_end_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'waking_hub', $11, $12, $13, $14);

-- name: system_of :one
-- in: id uuid
-- Whose a session is, by its own id. No row: there is none, or its device was gone before that was written down.
SELECT account_id, system_id FROM live WHERE id = $1 AND system_id IS NOT NULL;

-- name: place_add :exec
-- in: live_id uuid, account_id uuid, relay_id uuid, hub_serial text, generation integer
-- The way back from relay and hub.
INSERT INTO live_place (live_id, account_id, relay_id, hub_serial, generation) VALUES ($1, $2, $3, $4, $5);

-- name: whip_grant :exec
-- in: live_id uuid, hash bytea, until timestamptz
-- The hub of a session that begins may make one offer.
UPDATE live_place SET whip_hash = $2, whip_until = $3 WHERE live_id = $1;

-- name: whip_waiting :many 64
-- in: hub_serial text, granted_before timestamptz
-- null: nothing
-- The sessions of a hub that have been waiting for its offer since before then. Joined by the session's id alone: its home may move meanwhile.
SELECT p.live_id, p.relay_id, p.generation, l.camera_serial, l.hard_end_at FROM live_place p JOIN live l ON l.id = p.live_id
WHERE p.hub_serial = $1 AND p.whip_hash IS NOT NULL AND p.whip_until - interval '30 s' < $2 AND l.ended_at IS NULL;

-- name: whip_spend :one
-- in: live_id uuid, hash bytea, now timestamptz, spent boolean
-- The offer has come; $4 false: it is not good, and another one may come. No row: nothing, or something else, was handed out, or it is too late.
UPDATE live_place SET whip_hash = CASE WHEN $4 THEN NULL ELSE whip_hash END WHERE live_id = $1 AND whip_hash = $2 AND whip_until > $3
RETURNING account_id, relay_id, hub_serial, generation;

-- name: place_drop :exec
-- in: live_id uuid
-- The session has ended.
DELETE FROM live_place WHERE live_id = $1;

-- name: room :one
-- in: live_id uuid
-- null: viewers
-- A running session, which neither ends nor moves to another home until the end of the transaction, and how many have keys to it. No row: it has ended.
SELECT account_id, (SELECT count(*) FROM live_viewer v WHERE v.live_id = $1) AS viewers FROM live WHERE id = $1 AND ended_at IS NULL FOR SHARE;

-- name: viewer_add :exec
-- in: account_id uuid, live_id uuid, viewer_id uuid, member_id uuid, client_id uuid, kind text
-- A client is to get keys. The opener of a session becomes its first viewer. None affected: it was told to leave meanwhile.
INSERT INTO live_viewer (account_id, live_id, viewer_id, member_id, client_id, kind) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (live_id, viewer_id) DO UPDATE SET kind = excluded.kind WHERE live_viewer.revoked_at IS NULL;

-- name: viewer_gone :exec
-- in: live_id uuid, viewer_id uuid
-- The relay has forgotten it, and its keys. By its own id: the home may have moved since it was cut, and a mark that stays ends the session for all.
DELETE FROM live_viewer WHERE live_id = $1 AND viewer_id = $2;

-- name: viewers_drop :exec
-- in: account_id uuid, live_id uuid
-- The session has ended.
DELETE FROM live_viewer WHERE account_id = $1 AND live_id = $2;

-- name: mark_client :exec
-- in: member_id uuid, client_id uuid, now timestamptz
-- What a client has keys to is marked as to be gone, however much it is. By what stays when a home moves: that hides none.
UPDATE live_viewer SET revoked_at = $3 WHERE member_id = $1 AND client_id = $2 AND revoked_at IS NULL;

-- name: mark_member :exec
-- in: member_id uuid, system_id uuid, now timestamptz, viewers boolean, sources boolean
-- The same of a member of a system: what it watches by, what it sends by.
UPDATE live_viewer v SET revoked_at = $3 FROM live l
WHERE v.member_id = $1 AND v.revoked_at IS NULL AND l.id = v.live_id AND l.system_id = $2 AND CASE v.kind WHEN 'source' THEN $5 ELSE $4 END;

-- name: mark_here :exec
-- in: member_id uuid, client_id uuid?, live_id uuid, now timestamptz
-- The same of one who leaves a session; of one client of theirs, where it is named.
UPDATE live_viewer SET revoked_at = $4 WHERE member_id = $1 AND ($2::uuid IS NULL OR client_id = $2) AND live_id = $3 AND revoked_at IS NULL;

-- name: hold :one
-- in: id uuid
-- A running session; who else decides whether it ends waits until the end of the transaction. No row: it has ended.
SELECT id FROM live WHERE id = $1 AND ended_at IS NULL FOR UPDATE;

-- name: watched :one
-- in: live_id uuid
-- null: nothing
-- Has anybody keys to the session that are not to be taken, and may its plain source go on?
SELECT EXISTS (SELECT 1 FROM live_viewer WHERE live_id = $1 AND revoked_at IS NULL)
AND NOT EXISTS (SELECT 1 FROM live_viewer WHERE live_id = $1 AND revoked_at IS NOT NULL AND kind = 'source') AS any;

-- name: over :many 32
-- Sessions that end at once by what is marked: nobody else has keys, or it was their source's.
SELECT DISTINCT l.id FROM live_viewer v JOIN live l ON l.id = v.live_id
WHERE v.revoked_at IS NOT NULL AND l.ended_at IS NULL AND (v.kind = 'source'
OR NOT EXISTS (SELECT 1 FROM live_viewer w WHERE w.live_id = v.live_id AND w.revoked_at IS NULL)) ORDER BY l.id LIMIT 32;

-- name: openers_gone :exec
-- Those who are marked and of whom the relay knows nothing, in sessions that others watch on.
DELETE FROM live_viewer v WHERE v.revoked_at IS NOT NULL AND v.kind = 'opener' AND EXISTS (SELECT 1 FROM live_viewer w WHERE w.live_id = v.live_id AND w.revoked_at IS NULL);

-- name: marked :many 256
-- in: after uuid
-- Viewers behind $1 that are to be gone from sessions that others watch on.
SELECT v.live_id, v.viewer_id, l.relay_id FROM live_viewer v JOIN live l ON l.id = v.live_id
WHERE v.revoked_at IS NOT NULL AND v.kind = 'viewer' AND v.viewer_id > $1 AND l.ended_at IS NULL
AND EXISTS (SELECT 1 FROM live_viewer w WHERE w.live_id = v.live_id AND w.revoked_at IS NULL) ORDER BY v.viewer_id LIMIT 256;

-- name: still :one
-- in: live_id uuid, viewer_id uuid
-- One who is marked. No row: the relay has said that it is gone.
SELECT viewer_id FROM live_viewer WHERE live_id = $1 AND viewer_id = $2 AND revoked_at IS NOT NULL;

-- name: place :one
-- in: live_id uuid
-- Whose session this is. No row: it has ended, or never was.
SELECT account_id, relay_id, hub_serial, generation FROM live_place WHERE live_id = $1;

-- name: places_of_relay :many 20000
-- in: relay_id uuid
-- The whole set that a relay is wanted to run.
SELECT live_id, account_id, hub_serial, generation FROM live_place WHERE relay_id = $1;

-- name: places_of_hub :many 64
-- in: hub_serial text
-- The whole set that a hub is wanted to run.
SELECT live_id, account_id, generation FROM live_place WHERE hub_serial = $1;

-- name: of_device :one
-- in: account_id uuid, device_id uuid
-- The running session of a device. No row: none.
SELECT id, relay_id, hub_serial, generation, state, suite, created_at, expires_at FROM live WHERE account_id = $1 AND device_id = $2 AND ended_at IS NULL;

-- name: get :one
-- in: account_id uuid, id uuid
-- null: source_figures, viewer_figures
-- One session, running or ended, and how many watch it.
SELECT id, device_id, camera_serial, hub_serial, relay_id, generation, state, end_code, suite, created_at, expires_at, hard_end_at, ended_at,
(SELECT count(*)::integer FROM live_viewer v WHERE v.account_id = live.account_id AND v.live_id = live.id AND v.connected_at IS NOT NULL AND v.revoked_at IS NULL) AS viewers,
figures_at, figures -> 'source' AS source_figures, figures -> 'viewers' AS viewer_figures
FROM live WHERE account_id = $1 AND id = $2;

-- name: state :one
-- in: id uuid, state text, from_states text
-- Moves a running session on; $3 is the list of states, separated by blanks, from which that is a step forward. No row: it is no step. By its own id, as all that is reported
-- of it: a home that moves meanwhile loses no report.
UPDATE live SET state = $2 WHERE id = $1 AND ended_at IS NULL AND state = ANY (string_to_array($3, ' ')) RETURNING account_id;

-- name: state_of :one
-- in: id uuid
-- No row: it has ended.
SELECT state FROM live WHERE id = $1 AND ended_at IS NULL;

-- name: viewer_connected :exec
-- in: live_id uuid, viewer_id uuid, at timestamptz
-- The relay has it: it counts as one who watches until it is gone.
UPDATE live_viewer SET connected_at = $3 WHERE live_id = $1 AND viewer_id = $2 AND connected_at IS NULL;

-- name: figures :exec
-- in: id uuid, figures jsonb, now timestamptz
-- What the relay says of a running session.
UPDATE live SET figures = $2, figures_at = $3 WHERE id = $1 AND ended_at IS NULL;

-- name: end :one
-- in: id uuid, code text, now timestamptz
-- Ends a running session, wherever its home has moved. No row: it has ended already.
UPDATE live SET state = 'ended', end_code = $2, ended_at = $3 WHERE id = $1 AND ended_at IS NULL RETURNING account_id, relay_id, hub_serial, device_id, generation;

-- name: extend :one
-- in: id uuid, expires_at timestamptz
-- Moves the end of a running session, never past its hard end. An end that has moved is warned of again.
UPDATE live SET expires_at = LEAST($2, hard_end_at), warned = warned AND LEAST($2, hard_end_at) <= expires_at WHERE id = $1 AND ended_at IS NULL RETURNING account_id, expires_at, relay_id, generation;

-- name: stage :exec
-- in: live_id uuid, name text, at timestamptz
-- The first time that a stage was reached stands. Held, so that it is not left behind by a home that moves meanwhile.
INSERT INTO live_stage (account_id, live_id, name, at) SELECT account_id, id, $2, $3 FROM live WHERE id = $1 FOR SHARE ON CONFLICT (account_id, live_id, name) DO NOTHING;

-- name: stages :many 32
-- in: account_id uuid, live_id uuid
-- The stages of a session in the order of their times.
SELECT name, at FROM live_stage WHERE account_id = $1 AND live_id = $2 ORDER BY at, name;

-- name: overdue :many 200
-- in: now timestamptz
-- null: nothing
-- Sessions whose time is over, or whose relay was revoked or has been away for ten minutes (its own limit without control). A node that died took its relays' connections with it.
SELECT l.account_id, l.id, l.expires_at FROM live l JOIN relay r ON r.id = l.relay_id LEFT JOIN node n ON n.node_id = r.node_id AND n.lease_until > $1
WHERE l.ended_at IS NULL AND (l.expires_at < $1 OR r.revoked_at IS NOT NULL OR ((NOT r.connected OR n.node_id IS NULL) AND r.seen_at < $1 - interval '10 minutes')) ORDER BY l.expires_at LIMIT 200;

-- name: clean_stages :exec
-- in: before timestamptz
-- The stages of the sessions that the next statement forgets.
DELETE FROM live_stage WHERE (account_id, live_id) IN (SELECT account_id, id FROM live WHERE ended_at < $1 ORDER BY ended_at, id LIMIT 1000);

-- name: clean :exec
-- in: before timestamptz
-- Sessions that ended long ago, some at a time.
DELETE FROM live WHERE (account_id, id) IN (SELECT account_id, id FROM live WHERE ended_at < $1 ORDER BY ended_at, id LIMIT 1000);

-- name: warn :many 1000
-- in: soon timestamptz
-- Marks the sessions that end before `soon` and have not been warned of, the earliest first.
UPDATE live SET warned = true WHERE (account_id, id) IN (SELECT account_id, id FROM live WHERE ended_at IS NULL AND NOT warned AND expires_at < $1 ORDER BY expires_at LIMIT 1000)
RETURNING account_id, id, expires_at;

-- name: of_nobody :many 256
-- in: account_id uuid
-- Running sessions whose home is being deleted, and their system with it.
SELECT l.id FROM live l WHERE l.account_id = $1 AND l.ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM system s WHERE s.account_id = l.account_id AND s.id = l.system_id) LIMIT 256;

-- name: of_freed :many 256
-- in: device_id uuid, serial text?
-- null: nothing
-- The running sessions of a device that was freed, and those that it sends for a system in which it does not stand, whatever their home is by now.
SELECT id FROM live WHERE device_id = $1 AND ended_at IS NULL
UNION SELECT l.id FROM live_place p JOIN live l ON l.id = p.live_id WHERE p.hub_serial = $2 AND l.ended_at IS NULL
AND NOT EXISTS (SELECT 1 FROM device_binding b JOIN device d ON d.account_id = b.account_id AND d.id = b.device_id WHERE b.serial = $2 AND d.system_id = l.system_id);

-- name: running :many 1000
-- null: nothing
-- scan: an operator's list over all accounts, asked for by hand
-- The newest sessions, for operators: running ones first.
SELECT account_id, id, device_id, camera_serial, hub_serial, relay_id, generation, state, end_code, created_at, expires_at, ended_at,
(SELECT count(*)::integer FROM live_viewer v WHERE v.account_id = live.account_id AND v.live_id = live.id AND v.connected_at IS NOT NULL AND v.revoked_at IS NULL) AS viewers
FROM live ORDER BY ended_at DESC NULLS FIRST, created_at DESC LIMIT 1000;

-- name: find_any :one
-- in: id uuid
-- One session of any account, for operators (explain): ended ones have no place row.
SELECT account_id FROM live WHERE id = $1;

-- name: past :many 500
-- in: opener_id uuid, after uuid
-- All that is kept of the sessions that an account opened, running and ended, by age, behind one of them; the zero uuid: from the first.
SELECT id, device_id, client_id, camera_serial, state, end_code, created_at, ended_at FROM live WHERE opener_id = $1 AND id > $2 ORDER BY id LIMIT 500;

-- name: forget_opener :exec
-- in: opener_id uuid
-- The account is erased: who opened sessions in systems that stay is not known any more.
UPDATE live SET opener_id = NULL, client_id = NULL WHERE opener_id = $1;

-- name: forget :exec
-- in: account_id uuid
-- The account is erased: nothing of its sessions stays.
DELETE FROM live l WHERE l.account_id = $1 AND l.ended_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM system s WHERE s.account_id = l.account_id AND s.id = l.system_id);

-- name: forget_stages :exec
-- in: account_id uuid
-- The stages of an erased account.
DELETE FROM live_stage WHERE account_id = $1
AND NOT EXISTS (SELECT 1 FROM live l JOIN system s ON s.account_id = l.account_id AND s.id = l.system_id WHERE l.account_id = $1 AND l.id = live_stage.live_id);

-- name: move_stages :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- The system has another home: its sessions' stages.
UPDATE live_stage t SET account_id = $3 FROM live l WHERE l.account_id = $3 AND l.system_id = $2 AND t.account_id = $1 AND t.live_id = l.id;

-- name: move_viewers :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- Their viewers.
UPDATE live_viewer v SET account_id = $3 FROM live l WHERE l.account_id = $3 AND l.system_id = $2 AND v.account_id = $1 AND v.live_id = l.id;

-- name: move_places :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- The way to them.
UPDATE live_place p SET account_id = $3 FROM live l WHERE l.account_id = $3 AND l.system_id = $2 AND p.account_id = $1 AND p.live_id = l.id;

-- name: move :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- The sessions themselves, before what hangs on them.
UPDATE live SET account_id = $3 WHERE account_id = $1 AND system_id = $2;
