-- The authenticator app of an account. Its secret stands here sealed. confirmed_at: empty until its first code was right. last_step: the last 30 s step of which a code was taken;
-- none of it or before it is taken again.
CREATE TABLE factor_totp (
    account_id uuid NOT NULL CONSTRAINT factor_totp_key PRIMARY KEY,
    secret_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    confirmed_at timestamptz,
    last_step bigint NOT NULL
);

-- Recovery codes that were not used yet, as keyed hashes.
CREATE TABLE factor_recovery (
    account_id uuid NOT NULL,
    code_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT factor_recovery_key PRIMARY KEY (account_id, code_hash)
);

-- Passkeys of an account, twenty at most. algorithm: COSE's number of it.
CREATE TABLE factor_passkey (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    slot smallint NOT NULL CONSTRAINT factor_passkey_slot_check CHECK (slot BETWEEN 1 AND 20),
    name text NOT NULL,
    credential_id bytea NOT NULL,
    algorithm integer NOT NULL,
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    backed_up boolean NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    CONSTRAINT factor_passkey_key PRIMARY KEY (account_id, id),
    CONSTRAINT factor_passkey_slot UNIQUE (account_id, slot)
);

-- From what a passkey calls itself to its account: the one place that is asked without an account.
CREATE TABLE passkey_credential (
    credential_id bytea NOT NULL CONSTRAINT passkey_credential_key PRIMARY KEY,
    account_id uuid NOT NULL,
    passkey_id uuid NOT NULL
);
CREATE INDEX passkey_credential_account ON passkey_credential (account_id);

-- Questions to passkeys that were answered rightly, until they are too old anyway: each is answered once.
CREATE TABLE passkey_answered (
    question_hash bytea NOT NULL CONSTRAINT passkey_answered_key PRIMARY KEY,
    ends_at timestamptz NOT NULL
);
CREATE INDEX passkey_answered_ends ON passkey_answered (ends_at);
