-- What a person has given to a script or to a linked service: it acts as a client of the account, within its scopes (words parted by blanks) and, where `systems` is given,
-- with those systems only (16 bytes each). kind: 'token' is made by hand and is one token; 'service' is linked and renews its tokens.
CREATE TABLE delegation (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT delegation_kind_check CHECK (kind IN ('token', 'service')),
    name text NOT NULL,
    hint text NOT NULL,
    scopes text NOT NULL,
    systems bytea,
    created_at timestamptz NOT NULL,
    ends_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT delegation_key PRIMARY KEY (account_id, id)
);
CREATE INDEX delegation_ends ON delegation (ends_at);

-- Its tokens, as hashes. generation: of a refresh token, which rotates.
CREATE TABLE delegation_token (
    token_hash bytea NOT NULL CONSTRAINT delegation_token_key PRIMARY KEY,
    account_id uuid NOT NULL,
    delegation_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT delegation_token_kind_check CHECK (kind IN ('access', 'refresh')),
    generation integer NOT NULL,
    expires_at timestamptz
);
CREATE INDEX delegation_token_delegation ON delegation_token (account_id, delegation_id);
CREATE INDEX delegation_token_expires ON delegation_token (expires_at);
