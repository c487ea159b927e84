-- S-A8. A wish to reset a password, as it came: a job looks whether there is an account, so that the answer to the caller cannot tell (S-A5).
CREATE TABLE password_reset_request (
    id uuid NOT NULL CONSTRAINT password_reset_request_key PRIMARY KEY,
    email text NOT NULL,
    at timestamptz NOT NULL
);

-- A link that was e-mailed. Opened once; grant_hash is there when its PIN was right, and is what sets the new password.
CREATE TABLE password_reset (
    id uuid NOT NULL CONSTRAINT password_reset_key PRIMARY KEY,
    account_id uuid NOT NULL,
    link_hash bytea NOT NULL CONSTRAINT password_reset_link UNIQUE,
    created_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    opened_at timestamptz,
    grant_hash bytea,
    grant_ends_at timestamptz
);
CREATE INDEX password_reset_account ON password_reset (account_id, created_at);
CREATE INDEX password_reset_ends ON password_reset (ends_at);
