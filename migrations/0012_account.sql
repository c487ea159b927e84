CREATE TABLE account (
    account_id uuid NOT NULL CONSTRAINT account_key PRIMARY KEY,
    email text NOT NULL,
    phone text NOT NULL,
    country text NOT NULL,
    region text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL
);

-- Uniqueness of e-mail and phone over all accounts, and the way from them to the account.
CREATE TABLE account_email (
    email text NOT NULL CONSTRAINT account_email_key PRIMARY KEY,
    account_id uuid NOT NULL
);
CREATE TABLE account_phone (
    phone text NOT NULL CONSTRAINT account_phone_key PRIMARY KEY,
    account_id uuid NOT NULL
);

-- A sign-up under way. It becomes an account in one transaction at its end; until then nothing is reserved. taken: the e-mail has an account already.
CREATE TABLE signup (
    id uuid NOT NULL CONSTRAINT signup_key PRIMARY KEY,
    email text NOT NULL,
    password_hash text NOT NULL,
    country text NOT NULL,
    region text NOT NULL,
    client_name text NOT NULL,
    client_platform text NOT NULL,
    client_key_hash bytea,
    taken boolean NOT NULL,
    created_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    email_verified_at timestamptz
);
CREATE INDEX signup_ends ON signup (ends_at);

-- A phone, browser or script that signed in.
CREATE TABLE client (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    platform text NOT NULL,
    key_hash bytea,
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    CONSTRAINT client_key PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX client_own_key ON client (account_id, key_hash);

-- The one session of a client. A log-in starts a new family; each refresh is a new generation of it. idle_ends_at is never after ends_at.
CREATE TABLE session (
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    family uuid NOT NULL,
    generation integer NOT NULL,
    rotated_at timestamptz NOT NULL,
    idle_ends_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    CONSTRAINT session_key PRIMARY KEY (account_id, client_id)
);
CREATE INDEX session_idle_ends ON session (idle_ends_at);

-- From a token's hash to its session: the one place that is asked without an account. A refresh token stays after its use, so that a second use is seen.
CREATE TABLE session_token (
    token_hash bytea NOT NULL CONSTRAINT session_token_key PRIMARY KEY,
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    family uuid NOT NULL,
    generation integer NOT NULL,
    kind text NOT NULL CONSTRAINT session_token_kind_check CHECK (kind IN ('access', 'refresh')),
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_token_client ON session_token (account_id, client_id);
CREATE INDEX session_token_expires ON session_token (expires_at);

-- A step-up grant: single use, five minutes, for one purpose of one client.
CREATE TABLE step_up_grant (
    account_id uuid NOT NULL,
    grant_hash bytea NOT NULL,
    client_id uuid NOT NULL,
    purpose text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT step_up_grant_key PRIMARY KEY (account_id, grant_hash)
);
CREATE INDEX step_up_grant_expires ON step_up_grant (expires_at);
