-- Inventory.

-- name: inventory_add :one
-- in: serial text, kind text, model text, public_key bytea, setup_code_hash bytea?, now timestamptz
-- null: nothing
-- Takes a device in, or one that is known with the same key and kind (added false). No row: known with another key or kind.
INSERT INTO inventory (serial, kind, model, public_key, setup_code_hash, failures, failures_since, imported_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $6)
ON CONFLICT (serial) DO UPDATE SET model = EXCLUDED.model, setup_code_hash = COALESCE(EXCLUDED.setup_code_hash, inventory.setup_code_hash)
WHERE inventory.public_key = EXCLUDED.public_key AND inventory.kind = EXCLUDED.kind
RETURNING imported_at = $6 AS added;

-- name: inventory_find :one
-- in: serial text
-- No row: nobody made such a device.
SELECT serial, kind, model, public_key, setup_code_hash, failures, failures_since FROM inventory WHERE serial = $1;

-- name: inventory_failed :exec
-- in: serial text, now timestamptz, day_ago timestamptz
-- Counts a failed claim of this serial, in windows of a day.
UPDATE inventory SET failures = CASE WHEN failures_since <= $3 THEN 1 ELSE failures + 1 END, failures_since = CASE WHEN failures_since <= $3 THEN $2 ELSE failures_since END
WHERE serial = $1;

-- Counting an account's failed claims.

-- name: meter_take :one
-- in: account_id uuid, now timestamptz, hour_ago timestamptz
-- Opens or reads the account's window of an hour, and holds it until the end of the transaction.
INSERT INTO device_claim_meter (account_id, since, failures) VALUES ($1, $2, 0)
ON CONFLICT (account_id) DO UPDATE SET since = CASE WHEN device_claim_meter.since <= $3 THEN $2 ELSE device_claim_meter.since END,
failures = CASE WHEN device_claim_meter.since <= $3 THEN 0 ELSE device_claim_meter.failures END
RETURNING since, failures;

-- name: meter_failed :exec
-- in: account_id uuid
-- One more.
UPDATE device_claim_meter SET failures = failures + 1 WHERE account_id = $1;

-- name: meter_drop :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM device_claim_meter WHERE account_id = $1;

-- Bindings.

-- name: binding_find :one
-- in: serial text
-- No row: the device is free.
SELECT account_id, device_id FROM device_binding WHERE serial = $1;

-- name: binding_add :exec
-- in: serial text, account_id uuid, device_id uuid
-- None affected: the serial is bound already.
INSERT INTO device_binding (serial, account_id, device_id) VALUES ($1, $2, $3) ON CONFLICT (serial) DO NOTHING;

-- name: binding_drop :exec
-- in: serial text, account_id uuid
-- Frees the serial.
DELETE FROM device_binding WHERE serial = $1 AND account_id = $2;

-- name: binding_tried :one
-- in: serial text, now timestamptz, day_ago timestamptz
-- Somebody else tried to add it. No row: the owner was told within a day.
UPDATE device_binding SET tried_at = $2 WHERE serial = $1 AND (tried_at IS NULL OR tried_at <= $3) RETURNING account_id, device_id;

-- name: bound :one
-- in: serial text
-- The binding of a serial with its device. No row: free.
SELECT b.account_id, d.id, d.system_id, d.onboarding, d.via_hub FROM device_binding b JOIN device d ON d.account_id = b.account_id AND d.id = b.device_id WHERE b.serial = $1;

-- Slots. The system row is held by the caller, except in slot_fill and the drops.

-- name: slots_clear :exec
-- in: account_id uuid, system_id uuid, now timestamptz
-- Gives back what claims held that are past their time.
DELETE FROM device_slot WHERE account_id = $1 AND system_id = $2 AND reserved_until <= $3;

-- name: slot_take_hub :exec
-- in: account_id uuid, system_id uuid, claim_id uuid, until timestamptz
-- None affected: the system has a hub, or one is being added.
INSERT INTO device_slot (account_id, system_id, slot, claim_id, reserved_until) VALUES ($1, $2, 0, $3, $4) ON CONFLICT ON CONSTRAINT device_slot_key DO NOTHING;

-- name: slot_take :exec
-- in: account_id uuid, system_id uuid, claim_id uuid, until timestamptz
-- None affected: all ten are taken.
INSERT INTO device_slot (account_id, system_id, slot, claim_id, reserved_until)
SELECT $1, $2, free.slot, $3, $4 FROM (SELECT s.slot FROM generate_series(1, 10) AS s(slot)
WHERE NOT EXISTS (SELECT 1 FROM device_slot t WHERE t.account_id = $1 AND t.system_id = $2 AND t.slot = s.slot) ORDER BY s.slot LIMIT 1) AS free
ON CONFLICT ON CONSTRAINT device_slot_key DO NOTHING;

-- name: slot_fill :exec
-- in: account_id uuid, system_id uuid, claim_id uuid, device_id uuid
-- The claim is proved: its slot becomes the device's. None affected: the system is gone, or the claim's time.
UPDATE device_slot SET device_id = $4, claim_id = NULL, reserved_until = NULL WHERE account_id = $1 AND system_id = $2 AND claim_id = $3;

-- name: slot_drop_claim :exec
-- in: account_id uuid, system_id uuid, claim_id uuid
-- The claim has ended without a device.
DELETE FROM device_slot WHERE account_id = $1 AND system_id = $2 AND claim_id = $3;

-- name: slot_drop_device :exec
-- in: account_id uuid, device_id uuid
-- The device is being freed.
DELETE FROM device_slot WHERE account_id = $1 AND device_id = $2;

-- name: slots_drop_system :exec
-- in: account_id uuid, system_id uuid
-- The system is being deleted.
DELETE FROM device_slot WHERE account_id = $1 AND system_id = $2;

-- name: hub_of :one
-- in: account_id uuid, system_id uuid
-- The hub of a system. No row: it has none.
SELECT d.id, d.serial FROM device_slot s JOIN device d ON d.account_id = s.account_id AND d.id = s.device_id WHERE s.account_id = $1 AND s.system_id = $2 AND s.slot = 0;

-- Claims.

-- name: claim_add :exec
-- in: id uuid, account_id uuid, by_id uuid, client_id uuid, system_id uuid, serial text, kind text, name text?, challenge text, device_id uuid?, now timestamptz, expires_at timestamptz
-- A new claim.
INSERT INTO device_claim (id, account_id, by_id, client_id, system_id, serial, kind, name, challenge, state, device_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'waiting_device', $10, $11, $12);

-- name: claim_of :one
-- in: id uuid
-- Whose a claim is. No row: there is none.
SELECT account_id, system_id FROM device_claim WHERE id = $1;

-- name: claim_find :one
-- in: id uuid, account_id uuid
-- No row: not of this home. With the device's factory key, by which the app knows it in the home.
SELECT c.id, c.system_id, c.serial, c.kind, c.name, c.challenge, c.state, c.code, c.wifi_error, c.device_id, c.created_at, c.expires_at, c.ended_at, i.public_key
FROM device_claim c JOIN inventory i ON i.serial = c.serial WHERE c.id = $1 AND c.account_id = $2;

-- name: claim_take :one
-- in: id uuid
-- A claim by what its device knows of it, held until the end of the transaction.
SELECT id, account_id, by_id, client_id, system_id, serial, kind, name, challenge, state, code, device_id, expires_at, ended_at FROM device_claim WHERE id = $1 FOR UPDATE;

-- name: claims_replace :many 100
-- in: account_id uuid, serial text, now timestamptz, system_id uuid, by_id uuid
-- This device is added anew: earlier claims of it end, in this system and of whoever asks; another member's in another system is not the caller's to end.
UPDATE device_claim SET state = 'refused', code = 'replaced', ended_at = $3 WHERE account_id = $1 AND serial = $2 AND ended_at IS NULL
AND (system_id = $4 OR by_id = $5) RETURNING id, system_id;

-- name: claim_end :exec
-- in: id uuid, state text, code text?, device_id uuid?, now timestamptz
-- Ends it; None affected: it has ended already.
UPDATE device_claim SET state = $2, code = $3, device_id = COALESCE($4, device_id), ended_at = $5 WHERE id = $1 AND ended_at IS NULL;

-- name: claim_progress :exec
-- in: id uuid, state text, wifi_error text?
-- None affected: it has ended, or is in that state already.
UPDATE device_claim SET state = $2, wifi_error = $3 WHERE id = $1 AND ended_at IS NULL AND (state <> $2 OR wifi_error IS DISTINCT FROM $3);

-- name: claims_to_pair :many 40
-- in: account_id uuid, system_id uuid, now timestamptz
-- Cameras that the hub of this system should pair with.
SELECT id, serial, challenge FROM device_claim WHERE account_id = $1 AND system_id = $2 AND kind <> 'hub' AND ended_at IS NULL AND expires_at > $3 ORDER BY id LIMIT 40;

-- name: claims_untold :many 1000
-- in: node_id uuid, before timestamptz, now timestamptz
-- Hubs connected to this node that were not told of a camera to pair with, though there was time to.
SELECT DISTINCT l.serial FROM device_claim c JOIN device_slot s ON s.account_id = c.account_id AND s.system_id = c.system_id AND s.slot = 0
JOIN device d ON d.account_id = s.account_id AND d.id = s.device_id JOIN device_link l ON l.serial = d.serial AND l.node_id = $1 AND l.connected
WHERE c.ended_at IS NULL AND c.state = 'waiting_device' AND c.kind <> 'hub' AND c.created_at < $2 AND c.expires_at > $3 LIMIT 1000;

-- name: claims_of_serial :many 20
-- in: serial text, now timestamptz
-- Who waits for this device.
SELECT id, account_id, system_id, state FROM device_claim WHERE serial = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY id LIMIT 20;

-- name: claims_open :many 500
-- in: account_id uuid, now timestamptz
-- The claims of an account that wait.
SELECT c.id, c.system_id, c.serial, c.kind, c.name, c.challenge, c.state, c.code, c.wifi_error, c.device_id, c.created_at, c.expires_at, c.ended_at, i.public_key
FROM device_claim c JOIN inventory i ON i.serial = c.serial WHERE c.account_id = $1 AND c.ended_at IS NULL AND c.expires_at > $2 ORDER BY c.id LIMIT 500;

-- name: claims_end_system :exec
-- in: account_id uuid, system_id uuid, now timestamptz
-- The system is being deleted.
UPDATE device_claim SET state = 'refused', code = 'not_found', ended_at = $3 WHERE account_id = $1 AND system_id = $2 AND ended_at IS NULL;

-- name: claims_end_device :exec
-- in: account_id uuid, device_id uuid, now timestamptz
-- The device is being freed: adding it again is a new claim.
UPDATE device_claim SET state = 'refused', code = 'not_found', ended_at = $3 WHERE account_id = $1 AND device_id = $2 AND ended_at IS NULL;

-- name: claims_expire :many 100
-- in: now timestamptz
-- Ends claims past their time.
UPDATE device_claim SET state = 'expired', code = 'claim_expired', ended_at = expires_at
WHERE id IN (SELECT id FROM device_claim WHERE ended_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING id, account_id, system_id;

-- name: claims_forget :exec
-- in: before timestamptz
-- Claims that ended long ago.
DELETE FROM device_claim WHERE ended_at < $1;

-- name: claims_drop :exec
-- in: account_id uuid
-- The account is being deleted: its own claims, and those in systems that go with it.
DELETE FROM device_claim d WHERE d.by_id = $1 OR (d.account_id = $1 AND NOT EXISTS (SELECT 1 FROM system s WHERE s.account_id = $1 AND s.id = d.system_id));

-- Devices.

-- name: add :exec
-- in: account_id uuid, id uuid, system_id uuid, serial text, kind text, model text, name text, via_hub boolean, now timestamptz
-- A device is bound.
INSERT INTO device (account_id, id, system_id, serial, kind, model, name, onboarding, via_hub, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'ready', $8, $9);

-- name: status_add :exec
-- in: account_id uuid, device_id uuid, now timestamptz
-- A device that has just proved itself, by its own voice or its hub's, is there.
INSERT INTO device_status (account_id, device_id, online, busy, changed_at, as_of) VALUES ($1, $2, true, false, $3, $3);

-- name: again :exec
-- in: account_id uuid, id uuid, via_hub boolean
-- The same owner has added it again: it keeps all, and is ready.
UPDATE device SET onboarding = 'ready', via_hub = $3 WHERE account_id = $1 AND id = $2;

-- name: views :many 2500
-- in: account_id uuid, system_id uuid?, device_id uuid?
-- null: gateway_serial, connected, link_cause, link_changed_at, lease_until, suites, link_firmware
-- Devices of an account (of one system, or one device) with their readings and the connection that they are reached by.
SELECT d.id, d.system_id, d.serial, d.kind, d.model, d.name, d.onboarding, d.via_hub, d.created_at,
s.online, s.busy, s.battery, s.wifi_rssi, s.firmware, s.video, s.audio, s.talk, s.changed_at, s.as_of,
s.can_keyframe, s.can_bitrate, s.gop_ms, s.uplink_bps, s.uplink_lost_percent, s.uplink_rtt_ms, s.uplink_at,
g.serial AS gateway_serial, g.connected, g.cause AS link_cause, g.changed_at AS link_changed_at, g.suites, g.firmware AS link_firmware, n.lease_until
FROM device d JOIN device_status s ON s.account_id = d.account_id AND s.device_id = d.id
LEFT JOIN device_slot hs ON d.via_hub AND hs.account_id = d.account_id AND hs.system_id = d.system_id AND hs.slot = 0
LEFT JOIN device h ON h.account_id = d.account_id AND h.id = hs.device_id
LEFT JOIN device_link g ON g.serial = CASE WHEN d.via_hub THEN h.serial ELSE d.serial END
LEFT JOIN node n ON n.node_id = g.node_id
WHERE d.account_id = $1 AND ($2::uuid IS NULL OR d.system_id = $2) AND ($3::uuid IS NULL OR d.id = $3)
ORDER BY d.created_at, d.id;

-- name: system_of :one
-- in: id uuid
-- Whose a device is, by its own id. No row: there is none.
SELECT account_id, system_id FROM device WHERE id = $1;

-- name: rename :exec
-- in: account_id uuid, id uuid, name text
-- None affected: not this account's.
UPDATE device SET name = $3 WHERE account_id = $1 AND id = $2;

-- name: drop :exec
-- in: account_id uuid, id uuid
-- The device is being freed.
DELETE FROM device WHERE account_id = $1 AND id = $2;

-- name: status_drop :exec
-- in: account_id uuid, device_id uuid
-- The device is being freed.
DELETE FROM device_status WHERE account_id = $1 AND device_id = $2;

-- name: name_of :one
-- in: account_id uuid, id uuid
-- What an owner knows it by.
SELECT name, serial, system_id FROM device WHERE account_id = $1 AND id = $2;

-- name: set_reset :exec
-- in: account_id uuid, id uuid
-- A factory reset was seen. It changes nothing but this.
UPDATE device SET onboarding = 'reset_detected' WHERE account_id = $1 AND id = $2;

-- name: set_direct :exec
-- in: account_id uuid, id uuid
-- The device has a connection of its own.
UPDATE device SET via_hub = false WHERE account_id = $1 AND id = $2;

-- Connections.

-- name: link_before :one
-- in: serial text, now timestamptz
-- null: nothing
-- What stood there before a hello, held until the end of the transaction. No row: its first.
SELECT l.reset_count, l.connected AND EXISTS (SELECT 1 FROM node n WHERE n.node_id = l.node_id AND n.lease_until > $2) AS there FROM device_link l WHERE l.serial = $1 FOR UPDATE;

-- name: link_hello :one
-- in: serial text, node_id uuid, role text, firmware text, boot_id uuid, boot_reason text, reset_count bigint, suites integer, now timestamptz
-- A hello takes an epoch, by the clock: one that is rolled back must not be given again, for the connection that has it may say yet that it has gone.
INSERT INTO device_link (serial, epoch, node_id, connected, changed_at, role, firmware, boot_id, boot_reason, reset_count, suites)
VALUES ($1, (extract(epoch FROM $9) * 1000000)::bigint, $2, true, $9, $3, $4, $5, $6, $7, $8)
ON CONFLICT (serial) DO UPDATE SET epoch = GREATEST(device_link.epoch + 1, EXCLUDED.epoch), node_id = $2, connected = true, cause = NULL, changed_at = $9, role = $3, firmware = $4, boot_id = $5, boot_reason = $6,
reset_count = GREATEST(device_link.reset_count, $7), suites = $8
RETURNING epoch;

-- name: link_fence :one
-- in: serial text, epoch bigint
-- Is this connection still the newest? Held, so that what is written after it is of this epoch. No row: a newer one has taken over.
SELECT epoch FROM device_link WHERE serial = $1 AND epoch = $2 FOR SHARE;

-- name: link_gone :exec
-- in: serial text, epoch bigint, cause text, now timestamptz
-- None affected: a newer connection has taken over. One that another node took for dead gets its true cause.
UPDATE device_link SET connected = false, cause = $3, changed_at = $4 WHERE serial = $1 AND epoch = $2 AND (connected OR cause = 'cloud_restart');

-- name: link_here :exec
-- in: serial text, epoch bigint, now timestamptz
-- The connection of this epoch stands, though another node took it for dead. None affected: nobody did.
UPDATE device_link SET connected = true, cause = NULL, changed_at = $3 WHERE serial = $1 AND epoch = $2 AND NOT connected;

-- name: links_mistaken :many 1000
-- in: self uuid
-- This node's connections that another one took for dead while this one was late with its lease.
SELECT serial FROM device_link WHERE node_id = $1 AND NOT connected AND cause = 'cloud_restart' ORDER BY serial LIMIT 1000;

-- name: links_dead :many 100
-- in: now timestamptz, self uuid
-- Connections of other nodes that are no more: gone since the lease ended. Who asks lives, however late it is with its lease: nothing would say again that its hubs are there.
UPDATE device_link l SET connected = false, cause = 'cloud_restart', changed_at = dead.lease_until
FROM (SELECT k.serial, n.lease_until FROM device_link k JOIN node n ON n.node_id = k.node_id WHERE k.connected AND n.lease_until <= $1 AND k.node_id <> $2 ORDER BY k.serial LIMIT 100) AS dead
WHERE l.serial = dead.serial AND l.connected
RETURNING l.serial, l.changed_at;

-- name: links :many 1000
-- scan: an operator's list over all accounts, asked for by hand
-- in: now timestamptz
-- null: there, account_id, device_id
-- Connections, newest change first, for operators.
SELECT l.serial, l.role, l.epoch, l.connected AND n.lease_until > $1 AS there, l.cause, l.changed_at, l.firmware, l.boot_reason, l.reset_count, l.node_id, b.account_id, b.device_id
FROM device_link l LEFT JOIN node n ON n.node_id = l.node_id LEFT JOIN device_binding b ON b.serial = l.serial ORDER BY l.changed_at DESC LIMIT 1000;

-- name: links_of :one
-- in: node_id uuid
-- null: nothing
-- How many are connected to a node.
SELECT count(*) AS hubs FROM device_link WHERE node_id = $1 AND connected;

-- name: status_own :exec
-- in: account_id uuid, device_id uuid, wifi_rssi integer, battery integer, firmware text?, now timestamptz
-- Readings of the gateway itself; 0 and -1: not said.
UPDATE device_status SET wifi_rssi = NULLIF($3, 0), battery = NULLIF($4, -1), firmware = COALESCE($5, firmware), as_of = $6 WHERE account_id = $1 AND device_id = $2;

-- name: status_changes :many 16
-- in: account_id uuid, system_id uuid, cameras jsonb
-- null: online
-- Cameras of the system that the hub reports otherwise than before.
SELECT d.id, c.online FROM jsonb_to_recordset($3) AS c(serial text, online boolean) JOIN device d ON d.serial = c.serial
JOIN device_status s ON s.account_id = d.account_id AND s.device_id = d.id
WHERE d.account_id = $1 AND d.system_id = $2 AND d.via_hub AND s.online <> c.online LIMIT 16;

-- name: status_cameras :exec
-- in: account_id uuid, system_id uuid, cameras jsonb, now timestamptz
-- The readings of a hub's cameras.
UPDATE device_status s SET changed_at = CASE WHEN s.online <> c.online THEN $4 ELSE s.changed_at END, online = c.online, busy = c.busy, battery = c.battery, wifi_rssi = c.wifi_rssi,
firmware = COALESCE(c.firmware, s.firmware), as_of = $4
FROM jsonb_to_recordset($3) AS c(serial text, online boolean, busy boolean, battery integer, wifi_rssi integer, firmware text), device d
WHERE d.account_id = $1 AND d.system_id = $2 AND d.via_hub AND d.serial = c.serial AND s.account_id = $1 AND s.device_id = d.id;

-- name: codecs :exec
-- in: account_id uuid, system_id uuid, cameras jsonb
-- What the hello says that the cameras speak, and do when asked.
UPDATE device_status s SET video = c.video, audio = c.audio, talk = c.talk, firmware = COALESCE(c.firmware, s.firmware), can_keyframe = c.can_keyframe, can_bitrate = c.can_bitrate
FROM jsonb_to_recordset($3) AS c(serial text, video text, audio text, talk text, firmware text, can_keyframe boolean, can_bitrate boolean), device d
WHERE d.account_id = $1 AND d.system_id = $2 AND d.serial = c.serial AND s.account_id = $1 AND s.device_id = d.id;

-- name: can :exec
-- in: account_id uuid, device_id uuid, keyframe boolean, bitrate boolean
-- What a camera that has just been paired does when asked.
UPDATE device_status SET can_keyframe = $3, can_bitrate = $4 WHERE account_id = $1 AND device_id = $2;

-- name: gop :exec
-- in: account_id uuid, device_id uuid, gop_ms integer
-- A stream of the device has shown how far apart its key frames are.
UPDATE device_status SET gop_ms = $3 WHERE account_id = $1 AND device_id = $2;

-- name: uplink_wanted :one
-- in: gateway_serial text, id uuid, now timestamptz
-- An uplink test that this gateway was told to make. No row: it was not, or that is over.
SELECT id FROM device_command WHERE gateway_serial = $1 AND id = $2 AND name = 'uplink_test' AND ended_at IS NULL AND deadline > $3;

-- name: uplink_set :exec
-- in: serial text, bps bigint, lost_percent integer, rtt_ms integer, now timestamptz
-- What a gateway has measured; a round trip of -1: not known. None affected: nobody's device.
UPDATE device_status s SET uplink_bps = $2, uplink_lost_percent = $3, uplink_rtt_ms = NULLIF($4, -1), uplink_at = $5
FROM device_binding b WHERE b.serial = $1 AND s.account_id = b.account_id AND s.device_id = b.device_id;

-- name: uplink_of :one
-- in: serial text
-- What a gateway's way to the cloud was measured to carry. No row: nobody's device.
SELECT s.account_id, s.device_id, s.uplink_bps, s.uplink_at FROM device_binding b JOIN device_status s ON s.account_id = b.account_id AND s.device_id = b.device_id WHERE b.serial = $1;

-- name: strangers :many 32
-- in: account_id uuid?, system_id uuid?, cameras jsonb, now timestamptz
-- null: nothing
-- Cameras that the hub names but that are not, and are not becoming, its system's.
SELECT c.serial FROM jsonb_to_recordset($3) AS c(serial text)
WHERE NOT EXISTS (SELECT 1 FROM device d WHERE d.account_id = $1 AND d.system_id = $2 AND d.serial = c.serial)
AND NOT EXISTS (SELECT 1 FROM device_claim k WHERE k.account_id = $1 AND k.system_id = $2 AND k.serial = c.serial AND k.ended_at IS NULL AND k.expires_at > $4);

-- Commands.

-- name: command_add :exec
-- in: account_id uuid, id uuid, device_id uuid, gateway_serial text, camera_serial text?, name text, idempotency_key text, now timestamptz, deadline timestamptz
-- None affected: the key was used for this device.
INSERT INTO device_command (account_id, id, device_id, gateway_serial, camera_serial, name, idempotency_key, stage, accepted_at, deadline)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'accepted', $8, $9) ON CONFLICT ON CONSTRAINT device_command_once DO NOTHING;

-- name: command_find :one
-- in: account_id uuid, device_id uuid, id uuid?, idempotency_key text?
-- By id or by key.
SELECT id, name, stage, code, deadline, accepted_at, sent_at, acknowledged_at, ended_at FROM device_command
WHERE account_id = $1 AND device_id = $2 AND (id = $3 OR idempotency_key = $4);

-- name: commands_again :exec
-- in: gateway_serial text
-- Its hello has taken an epoch: what older connections were given and has no result is to be handed over again; acknowledged or not, it or the result may have been lost with them.
UPDATE device_command SET stage = 'accepted', sent_at = NULL, acknowledged_at = NULL WHERE gateway_serial = $1 AND ended_at IS NULL AND stage <> 'accepted';

-- name: commands_due :many 50
-- in: gateway_serial text, now timestamptz
-- To be handed to the gateway.
UPDATE device_command SET stage = 'sent', sent_at = $2
WHERE (account_id, id) IN (SELECT account_id, id FROM device_command WHERE gateway_serial = $1 AND ended_at IS NULL AND deadline > $2 AND stage = 'accepted' ORDER BY id LIMIT 50)
RETURNING id, account_id, device_id, name, camera_serial, deadline;

-- name: commands_untold :many 1000
-- in: node_id uuid, before timestamptz, now timestamptz
-- Gateways connected to this node for which a command waits that was accepted long enough ago to have been handed over.
SELECT DISTINCT c.gateway_serial FROM device_command c JOIN device_link l ON l.serial = c.gateway_serial AND l.node_id = $1 AND l.connected
WHERE c.ended_at IS NULL AND c.stage = 'accepted' AND c.accepted_at < $2 AND c.deadline > $3 LIMIT 1000;

-- name: command_acknowledged :one
-- in: gateway_serial text, id uuid, now timestamptz
-- No row: not this gateway's, or past that.
UPDATE device_command SET stage = 'acknowledged', acknowledged_at = $3 WHERE gateway_serial = $1 AND id = $2 AND stage = 'sent' AND ended_at IS NULL RETURNING id, account_id, device_id;

-- name: command_ended :one
-- in: gateway_serial text, id uuid, stage text, code text?, now timestamptz
-- No row: not this gateway's, or ended before.
UPDATE device_command SET stage = $3, code = $4, ended_at = $5 WHERE gateway_serial = $1 AND id = $2 AND ended_at IS NULL RETURNING id, account_id, device_id;

-- name: commands_expire :many 100
-- in: now timestamptz
-- What was not carried out before its deadline.
UPDATE device_command SET stage = 'failed', code = 'command_expired', ended_at = deadline
WHERE (account_id, id) IN (SELECT account_id, id FROM device_command WHERE ended_at IS NULL AND deadline <= $1 ORDER BY deadline LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING id, account_id, device_id;

-- name: commands_forget :exec
-- in: before timestamptz
-- Commands that ended long ago.
DELETE FROM device_command WHERE ended_at < $1;

-- name: commands_end_gateway :exec
-- in: account_id uuid, gateway_serial text, now timestamptz
-- The gateway is being freed: what it was to do for other devices of the account is not done, least of all by whom it belongs to next.
UPDATE device_command SET stage = 'failed', code = 'hub_offline', ended_at = $3 WHERE account_id = $1 AND gateway_serial = $2 AND ended_at IS NULL;

-- name: commands_drop :exec
-- in: account_id uuid, device_id uuid
-- The device is being freed.
DELETE FROM device_command WHERE account_id = $1 AND device_id = $2;

-- Moving to another home.

-- name: move_claims :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- The claims of a system.
UPDATE device_claim SET account_id = $3 WHERE account_id = $1 AND system_id = $2;

-- name: move_bindings :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- The bindings of its devices.
UPDATE device_binding b SET account_id = $3 FROM device d WHERE d.account_id = $1 AND d.system_id = $2 AND b.serial = d.serial;

-- name: move_status :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- Their readings.
UPDATE device_status s SET account_id = $3 FROM device d WHERE d.account_id = $1 AND d.system_id = $2 AND s.account_id = $1 AND s.device_id = d.id;

-- name: move_commands :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- Their commands.
UPDATE device_command c SET account_id = $3 FROM device d WHERE d.account_id = $1 AND d.system_id = $2 AND c.account_id = $1 AND c.device_id = d.id;

-- name: move_slots :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- Their slots.
UPDATE device_slot SET account_id = $3 WHERE account_id = $1 AND system_id = $2;

-- name: move_devices :exec
-- in: home_id uuid, system_id uuid, to_id uuid
-- The devices themselves: last, because the others are found by them.
UPDATE device SET account_id = $3 WHERE account_id = $1 AND system_id = $2;
