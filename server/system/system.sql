-- name: add :one
-- in: account_id uuid, id uuid, name text, now timestamptz, most integer
-- null: nothing
-- A new system. No row: the account has `most` already.
INSERT INTO system (account_id, id, name, version, created_at)
SELECT $1, $2, $3, 1, $4 WHERE (SELECT count(*) FROM system_member WHERE account_id = $1) < $5
RETURNING id;

-- name: may :one
-- in: account_id uuid, id uuid, now timestamptz
-- A system as one of its members has it. No row: not a member's.
SELECT s.id, s.account_id AS home_id, s.name, s.created_at, m.role FROM system_member m JOIN system s ON s.account_id = m.home_id AND s.id = m.system_id
WHERE m.account_id = $1 AND m.system_id = $2 AND (m.expires_at IS NULL OR m.expires_at > $3);

-- name: hold :one
-- in: account_id uuid, id uuid, now timestamptz
-- A membership, which stays as it is until the end of the transaction. No row: not a member.
SELECT role FROM system_member WHERE account_id = $1 AND system_id = $2 AND (expires_at IS NULL OR expires_at > $3) FOR SHARE;

-- name: lock :one
-- in: home_id uuid, id uuid
-- Holds the system until the end of the transaction: slots are taken, and members changed, one after another. No row: there is none.
UPDATE system SET version = version + 1 WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at;

-- name: page :many 201
-- in: account_id uuid, after uuid, now timestamptz, most integer
-- The systems that an account is a member of, behind that one (ids tell their time: oldest first).
SELECT s.id, s.account_id AS home_id, s.name, s.created_at, m.role FROM system_member m JOIN system s ON s.account_id = m.home_id AND s.id = m.system_id
WHERE m.account_id = $1 AND m.system_id > $2 AND (m.expires_at IS NULL OR m.expires_at > $3) ORDER BY m.system_id LIMIT $4;

-- name: rename :one
-- in: home_id uuid, id uuid, name text
-- No row: there is none.
UPDATE system SET name = $3, version = version + 1 WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at;

-- name: drop :exec
-- in: home_id uuid, id uuid
-- Deletes the system alone; its devices are device's.
DELETE FROM system WHERE account_id = $1 AND id = $2;

-- Members.

-- name: member_add :exec
-- in: account_id uuid, system_id uuid, home_id uuid, id uuid, role text, by_id uuid?, now timestamptz, expires_at timestamptz?
-- A new member.
INSERT INTO system_member (account_id, system_id, home_id, id, role, by_id, since, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: members :many 100
-- in: system_id uuid
-- All members of a system in the order in which their events are written: two transactions that tell the same people wait for each other in this order.
SELECT account_id, id, role, by_id, since, expires_at FROM system_member WHERE system_id = $1 ORDER BY account_id;

-- name: members_drop :exec
-- in: system_id uuid
-- The system is being deleted.
DELETE FROM system_member WHERE system_id = $1;

-- name: member_find :one
-- in: system_id uuid, id uuid
-- A member by what others know of it. No row: there is none.
SELECT account_id, id, role, by_id, since, expires_at FROM system_member WHERE system_id = $1 AND id = $2;

-- name: member_set :exec
-- in: account_id uuid, system_id uuid, role text, expires_at timestamptz?
-- Another role, another end.
UPDATE system_member SET role = $3, expires_at = $4 WHERE account_id = $1 AND system_id = $2;

-- name: member_drop :exec
-- in: account_id uuid, system_id uuid
-- The membership ends.
DELETE FROM system_member WHERE account_id = $1 AND system_id = $2;

-- name: members_late :many 100
-- in: now timestamptz
-- Memberships past their time.
SELECT account_id, system_id, home_id FROM system_member WHERE expires_at <= $1 ORDER BY expires_at LIMIT 100;

-- name: memberships :many 1000
-- in: account_id uuid, now timestamptz
-- What an account is a member of, oldest first.
SELECT s.id, s.name, m.id AS member_id, m.role, m.by_id, m.since, m.expires_at FROM system_member m JOIN system s ON s.account_id = m.home_id AND s.id = m.system_id
WHERE m.account_id = $1 AND (m.expires_at IS NULL OR m.expires_at > $2) ORDER BY m.since, s.id;

-- name: counts :one
-- in: account_id uuid, system_id uuid
-- null: nothing
-- How many systems an account has, and how many members and invitations a system.
SELECT (SELECT count(*) FROM system_member WHERE account_id = $1) AS systems, (SELECT count(*) FROM system_member WHERE system_id = $2) AS members,
(SELECT count(*) FROM system_invitation WHERE system_id = $2) AS invitations;

-- name: of_account :many 1000
-- in: account_id uuid
-- All memberships of an account that is being deleted, also those past their time.
SELECT system_id, home_id FROM system_member WHERE account_id = $1 ORDER BY system_id;

-- name: forget_by :exec
-- in: account_id uuid
-- The account is being deleted: whom it brought in nobody brought in.
UPDATE system_member SET by_id = NULL WHERE by_id = $1;

-- Invitations.

-- name: invite :one
-- in: account_id uuid, id uuid, system_id uuid, email text, role text, by_id uuid, token_hash bytea, now timestamptz, expires_at timestamptz, access_until timestamptz?
-- An invitation takes the place of an earlier one to the same address.
INSERT INTO system_invitation (account_id, id, system_id, email, role, by_id, token_hash, sends, created_at, expires_at, access_until) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, $10)
ON CONFLICT (system_id, email) DO UPDATE SET id = $2, role = $5, by_id = $6, token_hash = $7, sends = 1, created_at = $8, expires_at = $9, access_until = $10
RETURNING id, email, role, by_id, sends, created_at, expires_at, access_until;

-- name: invitations :many 100
-- in: system_id uuid
-- Those that nobody has answered, oldest first.
SELECT id, email, role, by_id, sends, created_at, expires_at, access_until FROM system_invitation WHERE system_id = $1 ORDER BY created_at, id;

-- name: invitations_by :many 4000
-- in: by_id uuid
-- Those that an account has sent and nobody has answered, oldest first.
SELECT id, system_id, email, role, sends, created_at, expires_at, access_until FROM system_invitation WHERE by_id = $1 ORDER BY created_at, id;

-- name: invitation_find :one
-- in: system_id uuid, id uuid
-- No row: there is none.
SELECT id, email, role, by_id, sends, created_at, expires_at, access_until FROM system_invitation WHERE system_id = $1 AND id = $2;

-- name: invitation_open :one
-- in: token_hash bytea
-- By its token, which only its message holds. No row: none, or it was answered or taken back.
SELECT i.id, i.account_id, i.system_id, i.email, i.role, i.by_id, i.expires_at, i.access_until, s.name FROM system_invitation i
JOIN system s ON s.account_id = i.account_id AND s.id = i.system_id WHERE i.token_hash = $1;

-- name: invitation_again :one
-- in: system_id uuid, id uuid, token_hash bytea, expires_at timestamptz
-- Another message with another token; the one before is no good any more.
UPDATE system_invitation SET token_hash = $3, expires_at = $4, sends = sends + 1 WHERE system_id = $1 AND id = $2
RETURNING id, email, role, by_id, sends, created_at, expires_at, access_until;

-- name: invitation_drop :exec
-- in: system_id uuid, id uuid, token_hash bytea?
-- Answered, by whoever holds the token, or taken back. None affected: somebody came first.
DELETE FROM system_invitation WHERE system_id = $1 AND id = $2 AND ($3::bytea IS NULL OR token_hash = $3);

-- name: invitations_drop :exec
-- in: system_id uuid
-- The system is being deleted.
DELETE FROM system_invitation WHERE system_id = $1;

-- name: invitations_drop_by :exec
-- in: system_id uuid?, by_id uuid
-- Who sent them may not any more; without a system: is being deleted.
DELETE FROM system_invitation WHERE by_id = $2 AND ($1::uuid IS NULL OR system_id = $1);

-- name: invitations_expire :exec
-- in: before timestamptz
-- Those past their time that were kept so that their links could say so.
DELETE FROM system_invitation WHERE expires_at < $1;

-- Moving to another home.

-- name: name_taken :one
-- in: home_id uuid, name text
-- No row: it is free there.
SELECT id FROM system WHERE account_id = $1 AND lower(name) = lower($2);

-- name: move :exec
-- in: home_id uuid, id uuid, to_id uuid, name text
-- Its rows stand under another account from now on.
UPDATE system SET account_id = $3, name = $4, version = version + 1 WHERE account_id = $1 AND id = $2;

-- name: move_members :exec
-- in: system_id uuid, to_id uuid
-- The same.
UPDATE system_member SET home_id = $2 WHERE system_id = $1;

-- name: move_invitations :exec
-- in: system_id uuid, to_id uuid
-- The same.
UPDATE system_invitation SET account_id = $2 WHERE system_id = $1;
