-- name: flow_add :exec
-- in: state_hash bytea, provider text, account_id uuid?, client_id uuid?, key_hash bytea?, now timestamptz
-- Somebody is sent to a provider. Only hashes are kept.
INSERT INTO outside_flow (state_hash, provider, account_id, client_id, key_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: flow_drop_own :exec
-- in: account_id uuid, client_id uuid, provider text
-- Of one client and provider only what was begun last can be finished.
DELETE FROM outside_flow WHERE account_id = $1 AND client_id = $2 AND provider = $3;

-- name: flow_drop :exec
-- in: account_id uuid, provider text
-- What was begun before a link was removed does not bring it back.
DELETE FROM outside_flow WHERE account_id = $1 AND provider = $2;

-- name: flow_spend :one
-- in: state_hash bytea, provider text, account_id uuid, client_id uuid, after timestamptz
-- Linking goes on, once, where it was begun. No row: it was begun elsewhere, is over, or was finished.
DELETE FROM outside_flow WHERE state_hash = $1 AND provider = $2 AND account_id = $3 AND client_id = $4 AND created_at > $5 RETURNING created_at;

-- name: flow_spend_by_key :one
-- in: state_hash bytea, provider text, key_hash bytea, after timestamptz
-- The same of a log-in.
DELETE FROM outside_flow WHERE state_hash = $1 AND provider = $2 AND key_hash = $3 AND created_at > $4 RETURNING created_at;

-- name: flow_expire :exec
-- in: before timestamptz
-- They did not come back in time.
DELETE FROM outside_flow WHERE created_at <= $1;

-- name: subject_add :exec
-- in: issuer text, subject text, account_id uuid
-- No row affected: this outside account is linked already.
INSERT INTO outside_subject (issuer, subject, account_id) VALUES ($1, $2, $3) ON CONFLICT (issuer, subject) DO NOTHING;

-- name: subject_find :one
-- in: issuer text, subject text
-- Whose it is. No row: nobody has linked it.
SELECT account_id FROM outside_subject WHERE issuer = $1 AND subject = $2;

-- name: subject_drop :exec
-- in: issuer text, subject text, account_id uuid
-- It may be linked again, by whomever it belongs to.
DELETE FROM outside_subject WHERE issuer = $1 AND subject = $2 AND account_id = $3;

-- name: link_add :exec
-- in: account_id uuid, provider text, issuer text, subject text, label text?, now timestamptz
-- No row affected: this account has a link of this provider.
INSERT INTO outside_link (account_id, provider, issuer, subject, label, linked_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, provider) DO NOTHING;

-- name: link_has :one
-- in: account_id uuid, provider text
-- No row: it has none of this provider.
SELECT provider FROM outside_link WHERE account_id = $1 AND provider = $2;

-- name: link_list :many 1000
-- in: account_id uuid
-- What an account has linked, by name of the provider.
SELECT provider, issuer, subject, label, linked_at, used_at FROM outside_link WHERE account_id = $1 ORDER BY provider LIMIT 1000;

-- name: link_used :exec
-- in: account_id uuid, issuer text, subject text, now timestamptz
-- Somebody logs in by it: it stays until that is committed. No row affected: it was removed.
UPDATE outside_link SET used_at = $4 WHERE account_id = $1 AND issuer = $2 AND subject = $3;

-- name: link_drop :one
-- in: account_id uuid, provider text
-- It is removed. No row: there was none.
DELETE FROM outside_link WHERE account_id = $1 AND provider = $2 RETURNING issuer, subject;

-- name: erase_links :exec
-- in: account_id uuid
-- The account is being deleted, or all its links are ended.
DELETE FROM outside_link WHERE account_id = $1;

-- name: erase_flows :exec
-- in: account_id uuid
-- The account is being deleted, or all its links are ended.
DELETE FROM outside_flow WHERE account_id = $1;
