-- name: status :one
-- in: now timestamptz
-- null: nothing
-- The schema's version and how many nodes live. These two tables belong to the whole, not to a capability.
SELECT (SELECT COALESCE(max(version), 0) FROM migration) AS schema_version, (SELECT count(*) FROM node WHERE lease_until > $1) AS nodes;
