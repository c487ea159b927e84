-- name: start :exec
-- in: node_id uuid, name text, version text, now timestamptz, lease_until timestamptz
-- This process has started.
INSERT INTO node (node_id, name, version, started_at, lease_until) VALUES ($1, $2, $3, $4, $5);

-- name: renew :exec
-- in: node_id uuid, lease_until timestamptz, draining_since timestamptz?
-- This process lives. What hangs on it (presence of hubs, relays) lives as long. It says also whether it drains.
UPDATE node SET lease_until = $2, draining_since = $3 WHERE node_id = $1;

-- name: stop :exec
-- in: node_id uuid, now timestamptz
-- This process has ended in good order.
UPDATE node SET lease_until = $2 WHERE node_id = $1;

-- name: forget :exec
-- in: before timestamptz
-- Nodes that ended long ago.
DELETE FROM node WHERE lease_until < $1;
