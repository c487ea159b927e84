-- name: totp_put :exec
-- in: account_id uuid, secret_sealed bytea, now timestamptz
-- A new secret, in place of one that was never confirmed. No row affected: a confirmed one is there.
INSERT INTO factor_totp (account_id, secret_sealed, created_at, last_step) VALUES ($1, $2, $3, 0)
ON CONFLICT (account_id) DO UPDATE SET secret_sealed = excluded.secret_sealed, created_at = excluded.created_at, last_step = 0 WHERE factor_totp.confirmed_at IS NULL;

-- name: totp_get :one
-- in: account_id uuid
-- No row: the account has no authenticator app.
SELECT secret_sealed, created_at, confirmed_at, last_step FROM factor_totp WHERE account_id = $1;

-- name: totp_confirm :exec
-- in: account_id uuid, secret_sealed bytea, step bigint, now timestamptz
-- Its first code was right. No row affected: the secret was changed or confirmed meanwhile.
UPDATE factor_totp SET confirmed_at = $4, last_step = $3 WHERE account_id = $1 AND secret_sealed = $2 AND confirmed_at IS NULL;

-- name: totp_step :exec
-- in: account_id uuid, secret_sealed bytea, step bigint
-- Takes a step once. No row affected: it or a later one was taken (S-P13).
UPDATE factor_totp SET last_step = $3 WHERE account_id = $1 AND secret_sealed = $2 AND confirmed_at IS NOT NULL AND last_step < $3;

-- name: totp_delete :exec
-- in: account_id uuid
-- Confirmed or not.
DELETE FROM factor_totp WHERE account_id = $1;

-- name: codes_delete :exec
-- in: account_id uuid
-- New ones take their place, or the account is being deleted.
DELETE FROM factor_recovery WHERE account_id = $1;

-- name: code_add :exec
-- in: account_id uuid, code_hash bytea, now timestamptz
-- Only its hash is kept.
INSERT INTO factor_recovery (account_id, code_hash, created_at) VALUES ($1, $2, $3);

-- name: code_use :exec
-- in: account_id uuid, code_hash bytea
-- Single use. No row affected: it is none, or was used (S-P14).
DELETE FROM factor_recovery WHERE account_id = $1 AND code_hash = $2;

-- name: look :one
-- in: account_id uuid
-- null: nothing
-- What the account can answer with beside PINs.
SELECT EXISTS (SELECT 1 FROM factor_totp WHERE account_id = $1 AND confirmed_at IS NOT NULL) AS totp,
    (SELECT count(*) FROM factor_recovery WHERE account_id = $1) AS recovery_codes,
    (SELECT count(*) FROM factor_passkey WHERE account_id = $1) AS passkeys;

-- name: passkey_add :exec
-- in: account_id uuid, id uuid, name text, credential_id bytea, algorithm integer, public_key bytea, sign_count bigint, backed_up boolean, now timestamptz
-- A passkey that proved itself once, in the first free slot. No row affected: all are taken.
INSERT INTO factor_passkey (account_id, id, slot, name, credential_id, algorithm, public_key, sign_count, backed_up, created_at)
SELECT $1, $2, min(n), $3, $4, $5, $6, $7, $8, $9 FROM generate_series(1, 20) AS n
WHERE n NOT IN (SELECT slot FROM factor_passkey WHERE account_id = $1) HAVING min(n) IS NOT NULL;

-- name: credential_add :exec
-- in: credential_id bytea, account_id uuid, passkey_id uuid
-- No row affected: a passkey of this name is registered already, here or elsewhere.
INSERT INTO passkey_credential (credential_id, account_id, passkey_id) VALUES ($1, $2, $3) ON CONFLICT (credential_id) DO NOTHING;

-- name: passkeys :many 20
-- in: account_id uuid
-- Oldest first.
SELECT id, name, credential_id, backed_up, created_at, last_used_at FROM factor_passkey WHERE account_id = $1 ORDER BY id LIMIT 20;

-- name: passkey_find :one
-- in: credential_id bytea
-- No row: nobody has this passkey.
SELECT p.account_id, p.id, p.name, p.algorithm, p.public_key, p.sign_count
FROM passkey_credential c JOIN factor_passkey p ON p.account_id = c.account_id AND p.id = c.passkey_id WHERE c.credential_id = $1;

-- name: passkey_used :exec
-- in: account_id uuid, id uuid, old_count bigint, sign_count bigint, backed_up boolean, now timestamptz
-- No row affected: it was used meanwhile, or removed.
UPDATE factor_passkey SET sign_count = $4, backed_up = $5, last_used_at = $6 WHERE account_id = $1 AND id = $2 AND sign_count = $3;

-- name: passkey_rename :exec
-- in: account_id uuid, id uuid, name text
-- No row affected: there is no such passkey of this account.
UPDATE factor_passkey SET name = $3 WHERE account_id = $1 AND id = $2;

-- name: passkey_delete :exec
-- in: account_id uuid, id uuid
-- No row affected: there is no such passkey of this account.
DELETE FROM factor_passkey WHERE account_id = $1 AND id = $2;

-- name: credential_delete :exec
-- in: account_id uuid, passkey_id uuid
-- With its passkey.
DELETE FROM passkey_credential WHERE account_id = $1 AND passkey_id = $2;

-- name: answered :exec
-- in: question_hash bytea, ends_at timestamptz
-- No row affected: this question was answered before.
INSERT INTO passkey_answered (question_hash, ends_at) VALUES ($1, $2) ON CONFLICT (question_hash) DO NOTHING;

-- name: answered_expire :exec
-- in: now timestamptz
-- Nobody can answer these any more.
DELETE FROM passkey_answered WHERE ends_at <= $1;

-- name: forget_passkeys :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM factor_passkey WHERE account_id = $1;

-- name: forget_credentials :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM passkey_credential WHERE account_id = $1;
