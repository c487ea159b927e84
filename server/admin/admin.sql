-- name: status :one
-- in: now timestamptz
-- null: nothing
-- The schema's version and how many nodes live. These two tables belong to the whole, not to a capability.
SELECT (SELECT COALESCE(max(version), 0) FROM migration) AS schema_version, (SELECT count(*) FROM node WHERE lease_until > $1) AS nodes,
       (SELECT count(*) FROM node WHERE lease_until > $1 AND draining_since IS NOT NULL) AS nodes_draining;

-- name: nodes :many 1000
-- in: now timestamptz
-- null: nothing
-- The nodes that live, and those that ended within the last days: they are forgotten after a week.
SELECT node_id, name, version, started_at, lease_until, draining_since, lease_until > $1 AS alive FROM node ORDER BY started_at;

-- name: access :one
-- in: credential_hash bytea
-- The one query of every call with a credential. No row: it is nobody's, or he was revoked.
SELECT id, name FROM admin WHERE credential_hash = $1 AND revoked_at IS NULL;

-- name: used :exec
-- in: id uuid, now timestamptz
-- His call begins. Locked until it is over: a revocation comes before it or after it. No row affected: he was revoked.
UPDATE admin SET used_at = $2 WHERE id = $1 AND revoked_at IS NULL;

-- name: list :many 1000
-- null: used_at, revoked_at, invited_by
-- scan: operators' list of a handful of rows
-- All who are, were or may become admins, and by whom. No name: by the machine's owner.
SELECT a.name, a.created_at, a.used_at, a.revoked_at, false AS invited, b.name AS invited_by FROM admin a LEFT JOIN admin b ON b.id = a.invited_by
UNION ALL SELECT i.name, i.expires_at, NULL, NULL, true, b.name FROM admin_invitation i LEFT JOIN admin b ON b.id = i.invited_by ORDER BY 1 LIMIT 1000;

-- name: invite :exec
-- in: name text, token_hash bytea, invited_by uuid?, expires_at timestamptz
-- A new token ends the one before it. No row affected: the name is or was an admin's.
INSERT INTO admin_invitation (name, token_hash, invited_by, expires_at)
SELECT $1::text, $2::bytea, $3::uuid, $4::timestamptz WHERE NOT EXISTS (SELECT 1 FROM admin WHERE name = $1)
ON CONFLICT (name) DO UPDATE SET token_hash = excluded.token_hash, invited_by = excluded.invited_by, expires_at = excluded.expires_at;

-- name: invitations_expire :exec
-- in: now timestamptz
-- Those that nobody accepted in time.
DELETE FROM admin_invitation WHERE expires_at <= $1;

-- name: accept :one
-- in: token_hash bytea, now timestamptz
-- Spends it: of two at once one gets the row. No row: there is no such token, any more.
DELETE FROM admin_invitation WHERE token_hash = $1 AND expires_at > $2 RETURNING name, invited_by;

-- name: add :exec
-- in: id uuid, name text, credential_hash bytea, invited_by uuid?, now timestamptz
-- A new admin.
INSERT INTO admin (id, name, credential_hash, invited_by, created_at) VALUES ($1, $2, $3, $4, $5);

-- name: hold :many 1000
-- null: nothing
-- scan: a handful of rows
-- All admins, locked, so that of two who revoke each other one is the last.
SELECT id, name FROM admin WHERE revoked_at IS NULL ORDER BY id LIMIT 1000 FOR UPDATE;

-- name: find :one
-- in: name text
-- null: revoked_at
-- Who is or was an admin by this name. No row: nobody.
SELECT id, revoked_at FROM admin WHERE name = $1;

-- name: brought_in :many 1000
-- in: id uuid
-- null: nothing
-- The admins whom this one brought in, and whom those did, and so on, also by one who was revoked.
WITH RECURSIVE b (id, name, revoked_at) AS (SELECT id, name, revoked_at FROM admin WHERE invited_by = $1
    UNION SELECT a.id, a.name, a.revoked_at FROM admin a JOIN b ON a.invited_by = b.id)
SELECT id, name FROM b WHERE revoked_at IS NULL ORDER BY name LIMIT 1000;

-- name: revoke :exec
-- in: id uuid, now timestamptz
-- From now on the credential is nobody's.
UPDATE admin SET revoked_at = $2 WHERE id = $1;

-- name: uninvite :exec
-- in: name text, invited_by uuid?
-- The one of this name, or all that this admin made.
DELETE FROM admin_invitation WHERE name = $1 OR invited_by = $2;
