-- Services that may be linked to accounts (RFC 6749 clients), registered by the operator. redirect_uris: one a line, compared as they are. secret_hash: empty for one that can keep none.
CREATE TABLE oauth_client (
    id uuid NOT NULL CONSTRAINT oauth_client_key PRIMARY KEY,
    name text NOT NULL CONSTRAINT oauth_client_name UNIQUE,
    redirect_uris text NOT NULL,
    secret_hash bytea,
    created_at timestamptz NOT NULL
);

-- Authorization codes, for a day: one that comes a second time takes back what it had made.
CREATE TABLE oauth_code (
    code_hash bytea NOT NULL CONSTRAINT oauth_code_key PRIMARY KEY,
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    scopes text NOT NULL,
    code_challenge text NOT NULL,
    created_at timestamptz NOT NULL,
    spent_at timestamptz,
    delegation_id uuid
);
CREATE INDEX oauth_code_created ON oauth_code (created_at);
CREATE INDEX oauth_code_account ON oauth_code (account_id);
CREATE INDEX oauth_code_client ON oauth_code (client_id);

-- What is linked: the delegation of the account, and which generation of its refresh token is the good one.
CREATE TABLE oauth_service (
    account_id uuid NOT NULL,
    delegation_id uuid NOT NULL,
    client_id uuid NOT NULL,
    generation integer NOT NULL,
    rotated_at timestamptz NOT NULL,
    CONSTRAINT oauth_service_key PRIMARY KEY (account_id, delegation_id),
    CONSTRAINT oauth_service_client UNIQUE (account_id, client_id)
);
CREATE INDEX oauth_service_of_client ON oauth_service (client_id);

-- Refresh tokens, as hashes; one that was rotated away stays for a week, so that its reuse is seen.
CREATE TABLE oauth_refresh (
    token_hash bytea NOT NULL CONSTRAINT oauth_refresh_key PRIMARY KEY,
    account_id uuid NOT NULL,
    delegation_id uuid NOT NULL,
    generation integer NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX oauth_refresh_service ON oauth_refresh (account_id, delegation_id);
CREATE INDEX oauth_refresh_expires ON oauth_refresh (expires_at);

-- Every token of a delegation is an access token: those of renewal stand above.
ALTER TABLE delegation_token DROP COLUMN kind, DROP COLUMN generation;
