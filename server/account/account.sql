-- name: by_email :one
-- in: email text
-- No row: no account has this e-mail.
-- An address that was changed away stays reserved for a while, and is nobody's meanwhile. An empty password_hash: none fits until a reset.
SELECT a.account_id, a.email, a.phone, a.password_hash, a.locale FROM account_email e JOIN account a ON a.account_id = e.account_id AND a.email = e.email WHERE e.email = $1;

-- name: by_id :one
-- in: account_id uuid
-- No row: there is no such account.
SELECT account_id, email, phone, country, region, created_at, locale FROM account WHERE account_id = $1;

-- name: list :many 1000
-- null: nothing
-- For operators: the newest accounts. Addresses are masked by the caller.
SELECT account_id, email, phone, country, region, created_at FROM account ORDER BY account_id DESC LIMIT 1000;

-- name: insert :exec
-- in: account_id uuid, email text, phone text, country text, region text, password_hash text, now timestamptz, locale text
-- The account itself; its e-mail and phone are reserved by the two statements after it.
INSERT INTO account (account_id, email, phone, country, region, password_hash, created_at, locale) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: reserve_email :exec
-- in: email text, account_id uuid
-- No row affected: it is another account's. Asked so, and not by the constraint's error, because that would write the address into the database's log.
INSERT INTO account_email (email, account_id) VALUES ($1, $2)
ON CONFLICT (email) DO UPDATE SET account_id = excluded.account_id WHERE account_email.account_id = excluded.account_id;

-- name: reserve_phone :exec
-- in: phone text, account_id uuid
-- No row affected: it is another account's.
INSERT INTO account_phone (phone, account_id) VALUES ($1, $2)
ON CONFLICT (phone) DO UPDATE SET account_id = excluded.account_id WHERE account_phone.account_id = excluded.account_id;

-- name: release_email :exec
-- in: email text, account_id uuid
-- Nobody's any more, unless the account has it, or can have it back by an undo.
DELETE FROM account_email WHERE email = $1 AND account_id = $2 AND NOT EXISTS (SELECT 1 FROM account a WHERE a.account_id = $2 AND a.email = $1)
    AND NOT EXISTS (SELECT 1 FROM contact_change c WHERE c.account_id = $2 AND c.kind = 'email' AND c.old_value = $1);

-- name: release_phone :exec
-- in: phone text, account_id uuid
-- Nobody's any more, unless the account has it, or can have it back by an undo.
DELETE FROM account_phone WHERE phone = $1 AND account_id = $2 AND NOT EXISTS (SELECT 1 FROM account a WHERE a.account_id = $2 AND a.phone = $1)
    AND NOT EXISTS (SELECT 1 FROM contact_change c WHERE c.account_id = $2 AND c.kind = 'phone' AND c.old_value = $1);

-- name: hold :one
-- in: account_id uuid
-- Until this transaction ends the account is neither deleted nor changed. No row: it is gone.
SELECT password_hash FROM account WHERE account_id = $1 FOR SHARE;

-- name: lock :one
-- in: account_id uuid
-- The account, locked for a change. No row: it is gone.
UPDATE account SET email = email WHERE account_id = $1 RETURNING email, phone, locale;

-- name: set_password_hash :exec
-- in: account_id uuid, old_hash text, new_hash text
-- The same password under a stronger policy; not when it was changed meanwhile.
UPDATE account SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2;

-- name: change_password :exec
-- in: account_id uuid, password_hash text
-- Another password; empty: none fits, a reset is needed.
UPDATE account SET password_hash = $2 WHERE account_id = $1;

-- name: set_contact :exec
-- in: account_id uuid, email text, phone text
-- Both are reserved.
UPDATE account SET email = $2, phone = $3 WHERE account_id = $1;

-- name: set_region :exec
-- in: account_id uuid, country text, region text
-- Where its owner lives now.
UPDATE account SET country = $2, region = $3 WHERE account_id = $1;

-- name: set_locale :exec
-- in: account_id uuid, locale text
-- How its owner is written to.
UPDATE account SET locale = $2 WHERE account_id = $1;

-- name: change_add :exec
-- in: account_id uuid, id uuid, kind text, old_value text, new_value text, undo_hash bytea, now timestamptz, ends_at timestamptz
-- What an undo needs to know.
INSERT INTO contact_change (account_id, id, kind, old_value, new_value, undo_hash, at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: change_find :one
-- in: undo_hash bytea, now timestamptz
-- No row: it was used, or is too old.
SELECT account_id, id FROM contact_change WHERE undo_hash = $1 AND ends_at > $2;

-- name: change_list :many 1000
-- in: account_id uuid, id uuid
-- This change and those after it, oldest first.
SELECT id, kind, old_value, new_value FROM contact_change WHERE account_id = $1 AND id >= $2 ORDER BY id LIMIT 1000;

-- name: change_count :one
-- in: account_id uuid
-- null: nothing
-- How many changes can still be undone.
SELECT count(*) AS changes FROM contact_change WHERE account_id = $1;

-- name: change_drop :exec
-- in: account_id uuid, id uuid
-- It cannot be undone any more.
DELETE FROM contact_change WHERE account_id = $1 AND id = $2;

-- name: change_expired :many 100
-- in: now timestamptz
-- Changes that nobody undid in time.
SELECT account_id, id, kind, old_value FROM contact_change WHERE ends_at <= $1 LIMIT 100;

-- name: reset_ask :exec
-- in: id uuid, email text, now timestamptz
-- Somebody wants to reset the password of this address.
INSERT INTO password_reset_request (id, email, at) VALUES ($1, $2, $3);

-- name: reset_take :one
-- scan: a queue that is worked off at once
-- The next request that no other node works on, taken away. No row: there is none.
DELETE FROM password_reset_request WHERE id = (SELECT id FROM password_reset_request ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING email;

-- name: reset_recent :one
-- in: account_id uuid, since timestamptz
-- null: nothing
-- How many links were e-mailed since then.
SELECT count(*) AS links FROM password_reset WHERE account_id = $1 AND created_at > $2;

-- name: reset_insert :exec
-- in: id uuid, account_id uuid, link_hash bytea, now timestamptz, ends_at timestamptz
-- Only the link's hash is kept.
INSERT INTO password_reset (id, account_id, link_hash, created_at, ends_at) VALUES ($1, $2, $3, $4, $5);

-- name: reset_open :one
-- in: link_hash bytea, now timestamptz
-- Single use. No row: unknown, opened before, or too old.
UPDATE password_reset SET opened_at = $2 WHERE link_hash = $1 AND ends_at > $2 AND opened_at IS NULL RETURNING id, account_id;

-- name: reset_prove :exec
-- in: id uuid, grant_hash bytea, grant_ends_at timestamptz
-- Its PIN was right.
UPDATE password_reset SET grant_hash = $2, grant_ends_at = $3, ends_at = $3 WHERE id = $1;

-- name: reset_look :one
-- in: link_hash bytea, grant_hash bytea, now timestamptz
-- What a link and the grant of its PIN may set. No row: they do not belong together, were used, or are too old.
SELECT r.account_id, a.email FROM password_reset r JOIN account a ON a.account_id = r.account_id WHERE r.link_hash = $1 AND r.grant_hash = $2 AND r.grant_ends_at > $3;

-- name: reset_spend :exec
-- in: link_hash bytea, grant_hash bytea, now timestamptz
-- Single use.
DELETE FROM password_reset WHERE link_hash = $1 AND grant_hash = $2 AND grant_ends_at > $3;

-- name: reset_forget :exec
-- in: account_id uuid
-- Links that are on their way are worth nothing any more.
DELETE FROM password_reset WHERE account_id = $1;

-- name: reset_expire :exec
-- in: now timestamptz
-- Nobody used these in time.
DELETE FROM password_reset WHERE ends_at <= $1;

-- name: session_drop_others :many 1000
-- in: account_id uuid, client_id uuid
-- Ends the sessions of all clients but this one.
DELETE FROM session WHERE account_id = $1 AND client_id <> $2 RETURNING client_id;

-- name: client_drop_others :exec
-- in: account_id uuid, id uuid
-- Revokes all clients but this one.
DELETE FROM client WHERE account_id = $1 AND id <> $2;

-- name: email_taken :one
-- in: email text
-- null: nothing
-- Whether the e-mail has an account.
SELECT EXISTS (SELECT 1 FROM account_email WHERE email = $1) AS taken;

-- name: signup_insert :exec
-- in: id uuid, email text, password_hash text, country text, region text, client_name text, client_platform text, client_key_hash bytea?, taken boolean, now timestamptz, ends_at timestamptz, locale text
-- A sign-up under way; nothing is reserved by it.
INSERT INTO signup (id, email, password_hash, country, region, client_name, client_platform, client_key_hash, taken, created_at, ends_at, locale)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: signup_get :one
-- in: id uuid, now timestamptz
-- No row: it ended.
SELECT id, email, password_hash, country, region, client_name, client_platform, client_key_hash, email_verified_at, locale FROM signup WHERE id = $1 AND ends_at > $2;

-- name: signup_email_verified :exec
-- in: id uuid, now timestamptz
-- Its e-mail PIN was right.
UPDATE signup SET email_verified_at = $2 WHERE id = $1 AND email_verified_at IS NULL;

-- name: signup_delete :exec
-- in: id uuid
-- It became an account.
DELETE FROM signup WHERE id = $1;

-- name: signup_expire :exec
-- in: now timestamptz
-- Nobody finished these.
DELETE FROM signup WHERE ends_at <= $1;

-- name: client_by_key :one
-- in: account_id uuid, key_hash bytea
-- No row: the account does not know this client.
SELECT id FROM client WHERE account_id = $1 AND key_hash = $2;

-- name: client_put :one
-- in: account_id uuid, id uuid, name text, platform text, key_hash bytea?, now timestamptz
-- A client that proved itself. One with the same key is the same client, and keeps its id.
INSERT INTO client (account_id, id, name, platform, key_hash, created_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
ON CONFLICT (account_id, key_hash) DO UPDATE SET name = excluded.name, platform = excluded.platform, last_seen_at = excluded.last_seen_at
RETURNING id;

-- name: client_get :one
-- in: account_id uuid, id uuid
-- No row: there is no such client of this account.
SELECT id, name, key_hash FROM client WHERE account_id = $1 AND id = $2;

-- name: client_age :one
-- in: account_id uuid, id uuid
-- When the client signed in for the first time. No row: it is gone.
SELECT created_at FROM client WHERE account_id = $1 AND id = $2;

-- name: client_seen :exec
-- in: account_id uuid, id uuid, now timestamptz
-- It refreshed its session.
UPDATE client SET last_seen_at = $3 WHERE account_id = $1 AND id = $2;

-- name: client_list :many 201
-- in: account_id uuid, now timestamptz, seen_before timestamptz, id_before uuid, most integer
-- null: nothing
-- The clients of an account, last seen first, behind that one.
SELECT c.id, c.name, c.platform, c.created_at, c.last_seen_at, c.key_hash IS NOT NULL AS trusted, s.client_id IS NOT NULL AS signed_in
FROM client c LEFT JOIN session s ON s.account_id = c.account_id AND s.client_id = c.id AND s.idle_ends_at > $2
WHERE c.account_id = $1 AND (c.last_seen_at, c.id) < ($3, $4) ORDER BY c.last_seen_at DESC, c.id DESC LIMIT $5;

-- name: client_name :exec
-- in: account_id uuid, id uuid, name text
-- As its owner calls it; a later log-in with the same key may call it otherwise.
UPDATE client SET name = $3 WHERE account_id = $1 AND id = $2;

-- name: client_drop_past :exec
-- in: account_id uuid, now timestamptz
-- Clients that are signed out and that nothing could make known again, but for one that is signing in this moment.
DELETE FROM client c WHERE c.account_id = $1 AND c.key_hash IS NULL AND c.last_seen_at < $2
    AND NOT EXISTS (SELECT 1 FROM session s WHERE s.account_id = $1 AND s.client_id = c.id AND s.idle_ends_at > $2);

-- name: client_surplus :many 1000
-- in: account_id uuid, kept bigint
-- Those that were seen longest ago, past so many.
SELECT id FROM client WHERE account_id = $1 ORDER BY last_seen_at DESC, id DESC LIMIT 1000 OFFSET $2;

-- name: client_delete :exec
-- in: account_id uuid, id uuid
-- Revoked: it is not known any more.
DELETE FROM client WHERE account_id = $1 AND id = $2;

-- name: session_start :exec
-- in: account_id uuid, client_id uuid, family uuid, now timestamptz, idle_ends_at timestamptz, ends_at timestamptz
-- A log-in: a new family in place of the client's old one.
INSERT INTO session (account_id, client_id, family, generation, rotated_at, idle_ends_at, ends_at) VALUES ($1, $2, $3, 0, $4, $5, $6)
ON CONFLICT (account_id, client_id) DO UPDATE SET family = excluded.family, generation = 0, rotated_at = excluded.rotated_at, idle_ends_at = excluded.idle_ends_at,
    ends_at = excluded.ends_at;

-- name: session_lock :one
-- in: account_id uuid, client_id uuid, family uuid, now timestamptz
-- The session of a refresh token, locked: two refreshes of one client happen one after the other. No row: it ended.
UPDATE session SET rotated_at = rotated_at WHERE account_id = $1 AND client_id = $2 AND family = $3 AND idle_ends_at > $4
RETURNING generation, rotated_at, ends_at;

-- name: session_hold :one
-- in: account_id uuid, client_id uuid, now timestamptz
-- Keeps a client's session from being ended until this transaction is. No row: it has ended.
SELECT family FROM session WHERE account_id = $1 AND client_id = $2 AND ends_at > $3 FOR SHARE;

-- name: session_rotate :one
-- in: account_id uuid, client_id uuid, family uuid, generation integer, now timestamptz, idle_ends_at timestamptz
-- The next generation, where this one is the newest: of two who bring it one gets a row. No row: it is not, or the session ended.
UPDATE session SET generation = generation + 1, rotated_at = $5, idle_ends_at = LEAST($6, ends_at)
WHERE account_id = $1 AND client_id = $2 AND family = $3 AND generation = $4 AND idle_ends_at > $5 RETURNING generation, idle_ends_at;

-- name: session_end :exec
-- in: account_id uuid, client_id uuid
-- Signed out.
DELETE FROM session WHERE account_id = $1 AND client_id = $2;

-- name: tokens_insert :exec
-- in: access_hash bytea, refresh_hash bytea, account_id uuid, client_id uuid, family uuid, generation integer, access_ends_at timestamptz, refresh_ends_at timestamptz
-- Only their hashes are kept.
INSERT INTO session_token (token_hash, account_id, client_id, family, generation, kind, expires_at)
VALUES ($1, $3, $4, $5, $6, 'access', $7), ($2, $3, $4, $5, $6, 'refresh', $8);

-- name: token_access :one
-- in: token_hash bytea, now timestamptz
-- The one query of every call. No row: unknown, expired or revoked.
SELECT t.account_id, t.client_id, t.expires_at FROM session_token t
JOIN session s ON s.account_id = t.account_id AND s.client_id = t.client_id AND s.family = t.family
WHERE t.token_hash = $1 AND t.kind = 'access' AND t.expires_at > $2 AND s.ends_at > $2;

-- name: token_refresh :one
-- in: token_hash bytea, now timestamptz
-- No row: unknown or expired.
SELECT account_id, client_id, family, generation FROM session_token WHERE token_hash = $1 AND kind = 'refresh' AND expires_at > $2;

-- name: tokens_delete :exec
-- in: account_id uuid, client_id uuid
-- The client signed out or was revoked.
DELETE FROM session_token WHERE account_id = $1 AND client_id = $2;

-- name: grant_insert :exec
-- in: account_id uuid, grant_hash bytea, client_id uuid, purpose text, expires_at timestamptz
-- Only its hash is kept.
INSERT INTO step_up_grant (account_id, grant_hash, client_id, purpose, expires_at) VALUES ($1, $2, $3, $4, $5);

-- name: grant_spend :exec
-- in: account_id uuid, grant_hash bytea, client_id uuid, purpose text, now timestamptz
-- Single use. No row: it is none for this client and purpose, was used, or is too old.
DELETE FROM step_up_grant WHERE account_id = $1 AND grant_hash = $2 AND client_id = $3 AND purpose = $4 AND expires_at > $5;

-- name: grants_delete :exec
-- in: account_id uuid, client_id uuid
-- The client was revoked.
DELETE FROM step_up_grant WHERE account_id = $1 AND client_id = $2;

-- name: erase_tokens :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM session_token WHERE account_id = $1;

-- name: erase_sessions :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM session WHERE account_id = $1;

-- name: erase_grants :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM step_up_grant WHERE account_id = $1;

-- name: erase_clients :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM client WHERE account_id = $1;

-- name: erase_email :exec
-- in: email text, account_id uuid
-- The account is being deleted.
DELETE FROM account_email WHERE email = $1 AND account_id = $2;

-- name: erase_phone :exec
-- in: phone text, account_id uuid
-- The account is being deleted.
DELETE FROM account_phone WHERE phone = $1 AND account_id = $2;

-- name: erase_changes :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM contact_change WHERE account_id = $1;

-- name: erase_account :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM account WHERE account_id = $1;

-- name: expire_tokens :exec
-- in: now timestamptz
-- Too old to mean anything.
DELETE FROM session_token WHERE expires_at <= $1;

-- name: expire_grants :exec
-- in: now timestamptz
-- Too old to mean anything.
DELETE FROM step_up_grant WHERE expires_at <= $1;

-- name: expire_sessions :exec
-- in: now timestamptz
-- Idle for too long, or past their absolute end.
DELETE FROM session WHERE idle_ends_at <= $1;

-- name: delegation_add :exec
-- in: account_id uuid, id uuid, kind text, name text, hint text, scopes text, systems bytea?, now timestamptz, ends_at timestamptz?, most integer
-- No row affected: the account has `most` of this kind.
INSERT INTO delegation (account_id, id, kind, name, hint, scopes, systems, created_at, ends_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE (SELECT count(*) FROM delegation WHERE account_id = $1 AND kind = $3) < $10;

-- name: delegation_list :many 200
-- in: account_id uuid, kind text
-- What was given, newest first.
SELECT id, name, hint, scopes, systems, created_at, ends_at, last_used_at FROM delegation WHERE account_id = $1 AND kind = $2 ORDER BY id DESC LIMIT 200;

-- name: delegation_lock :one
-- in: account_id uuid, id uuid, now timestamptz
-- Locked: what happens to it happens one after the other. No row: it has ended.
UPDATE delegation SET name = name WHERE account_id = $1 AND id = $2 AND (ends_at IS NULL OR ends_at > $3) RETURNING kind, name, scopes;

-- name: delegation_hold :one
-- in: account_id uuid, id uuid, now timestamptz
-- Keeps it from being ended until this transaction is. No row: it has ended.
SELECT id FROM delegation WHERE account_id = $1 AND id = $2 AND (ends_at IS NULL OR ends_at > $3) FOR SHARE;

-- name: delegation_used :exec
-- in: account_id uuid, id uuid, at timestamptz
-- When it was used last, within a minute or so.
UPDATE delegation SET last_used_at = $3 WHERE account_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < $3);

-- name: delegation_drop :one
-- in: account_id uuid, id uuid
-- It is taken back. No row: there is none.
DELETE FROM delegation WHERE account_id = $1 AND id = $2 RETURNING kind, name;

-- name: delegation_drop_all :many 200
-- in: account_id uuid
-- All are taken back.
DELETE FROM delegation WHERE account_id = $1 RETURNING id;

-- name: delegation_ended :many 100
-- in: now timestamptz
-- Those whose time is over.
SELECT account_id, id FROM delegation WHERE ends_at <= $1 LIMIT 100;

-- name: delegation_token_add :exec
-- in: token_hash bytea, account_id uuid, delegation_id uuid, expires_at timestamptz?
-- Only its hash is kept.
INSERT INTO delegation_token (token_hash, account_id, delegation_id, expires_at) VALUES ($1, $2, $3, $4);

-- name: delegation_access :one
-- in: token_hash bytea, now timestamptz
-- The one query of every call with such a token. No row: unknown, expired or taken back.
SELECT t.account_id, t.delegation_id, t.expires_at, d.scopes, d.systems, d.last_used_at FROM delegation_token t
JOIN delegation d ON d.account_id = t.account_id AND d.id = t.delegation_id
WHERE t.token_hash = $1 AND (t.expires_at IS NULL OR t.expires_at > $2) AND (d.ends_at IS NULL OR d.ends_at > $2);

-- name: delegation_tokens_drop :exec
-- in: account_id uuid, delegation_id uuid
-- It was taken back.
DELETE FROM delegation_token WHERE account_id = $1 AND delegation_id = $2;

-- name: delegation_tokens_expire :exec
-- in: now timestamptz
-- Too old to mean anything.
DELETE FROM delegation_token WHERE expires_at <= $1;

-- name: erase_delegations :exec
-- in: account_id uuid
-- The account is being deleted.
DELETE FROM delegation WHERE account_id = $1;

-- name: erase_delegation_tokens :exec
-- in: account_id uuid
-- The account is being deleted, or all was taken back.
DELETE FROM delegation_token WHERE account_id = $1;
