-- name: client_add :exec
-- in: id uuid, name text, redirect_uris text, secret_hash bytea?, now timestamptz
-- No row affected: the name is another service's.
INSERT INTO oauth_client (id, name, redirect_uris, secret_hash, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING;

-- name: client_get :one
-- in: id uuid
-- No row: no such service is registered.
SELECT id, name, redirect_uris, secret_hash FROM oauth_client WHERE id = $1;

-- name: client_list :many 1000
-- null: nothing
-- All services, by name.
SELECT id, name, redirect_uris, secret_hash IS NULL AS public, created_at FROM oauth_client ORDER BY name LIMIT 1000;

-- name: client_drop :exec
-- in: id uuid
-- The service may be linked no more.
DELETE FROM oauth_client WHERE id = $1;

-- name: code_add :exec
-- in: code_hash bytea, account_id uuid, client_id uuid, redirect_uri text, scopes text, systems bytea?, code_challenge text, now timestamptz
-- Only its hash is kept.
INSERT INTO oauth_code (code_hash, account_id, client_id, redirect_uri, scopes, systems, code_challenge, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: code_lock :one
-- in: code_hash bytea, client_id uuid
-- The code, locked: two who bring it come one after the other. No row: there is no such code of this service.
UPDATE oauth_code SET client_id = client_id WHERE code_hash = $1 AND client_id = $2
RETURNING account_id, redirect_uri, scopes, systems, code_challenge, created_at, spent_at, delegation_id;

-- name: code_spend :exec
-- in: code_hash bytea, now timestamptz, delegation_id uuid?
-- It was brought; what it made, if anything.
UPDATE oauth_code SET spent_at = $2, delegation_id = $3 WHERE code_hash = $1;

-- name: code_expire :exec
-- in: before timestamptz
-- So old that nobody brings it a second time.
DELETE FROM oauth_code WHERE created_at <= $1;

-- name: code_drop_client :exec
-- in: client_id uuid
-- The service is removed.
DELETE FROM oauth_code WHERE client_id = $1;

-- name: service_add :exec
-- in: account_id uuid, delegation_id uuid, client_id uuid, now timestamptz
-- A new link.
INSERT INTO oauth_service (account_id, delegation_id, client_id, generation, rotated_at) VALUES ($1, $2, $3, 0, $4);

-- name: service_of :one
-- in: account_id uuid, client_id uuid
-- No row: this account has not linked this service.
SELECT delegation_id FROM oauth_service WHERE account_id = $1 AND client_id = $2;

-- name: service_lock :one
-- in: account_id uuid, delegation_id uuid, client_id uuid
-- The link, locked. No row: it has ended, or is another service's.
UPDATE oauth_service SET generation = generation WHERE account_id = $1 AND delegation_id = $2 AND client_id = $3 RETURNING generation, rotated_at;

-- name: service_rotate :exec
-- in: account_id uuid, delegation_id uuid, now timestamptz
-- The next generation.
UPDATE oauth_service SET generation = generation + 1, rotated_at = $3 WHERE account_id = $1 AND delegation_id = $2;

-- name: service_drop :exec
-- in: account_id uuid, delegation_id uuid
-- It is unlinked.
DELETE FROM oauth_service WHERE account_id = $1 AND delegation_id = $2;

-- name: services_of_client :many 1000
-- in: client_id uuid
-- Who has linked this service: a thousand of them.
SELECT account_id, delegation_id FROM oauth_service WHERE client_id = $1 LIMIT 1000;

-- name: refresh_add :exec
-- in: token_hash bytea, account_id uuid, delegation_id uuid, generation integer, expires_at timestamptz
-- Only its hash is kept.
INSERT INTO oauth_refresh (token_hash, account_id, delegation_id, generation, expires_at) VALUES ($1, $2, $3, $4, $5);

-- name: refresh_find :one
-- in: token_hash bytea, now timestamptz
-- No row: unknown or expired.
SELECT account_id, delegation_id, generation FROM oauth_refresh WHERE token_hash = $1 AND expires_at > $2;

-- name: refresh_age :exec
-- in: account_id uuid, delegation_id uuid, generation integer, until timestamptz
-- A generation that was rotated away is kept for a while, to be known again.
UPDATE oauth_refresh SET expires_at = $4 WHERE account_id = $1 AND delegation_id = $2 AND generation = $3;

-- name: refresh_drop :exec
-- in: account_id uuid, delegation_id uuid
-- It is unlinked.
DELETE FROM oauth_refresh WHERE account_id = $1 AND delegation_id = $2;

-- name: refresh_expire :exec
-- in: now timestamptz
-- Too old to mean anything.
DELETE FROM oauth_refresh WHERE expires_at <= $1;

-- name: erase_codes :exec
-- in: account_id uuid
-- The account is being deleted, or all its links are ended.
DELETE FROM oauth_code WHERE account_id = $1;

-- name: erase_services :exec
-- in: account_id uuid
-- The account is being deleted, or all its links are ended.
DELETE FROM oauth_service WHERE account_id = $1;

-- name: erase_refresh :exec
-- in: account_id uuid
-- The account is being deleted, or all its links are ended.
DELETE FROM oauth_refresh WHERE account_id = $1;
