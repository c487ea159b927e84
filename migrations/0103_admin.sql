-- Operators as persons (S-A9). Of a credential only the hash is kept. Who was revoked stays: the audit goes on saying who he was, and nobody else gets his name.
CREATE TABLE admin (
    id uuid NOT NULL CONSTRAINT admin_key PRIMARY KEY,
    name text NOT NULL CONSTRAINT admin_name UNIQUE,
    credential_hash bytea NOT NULL CONSTRAINT admin_credential UNIQUE,
    created_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz
);

-- One-time tokens by which somebody becomes an admin. invited_by: the admin; empty: who owns the machine.
CREATE TABLE admin_invitation (
    name text NOT NULL CONSTRAINT admin_invitation_key PRIMARY KEY,
    token_hash bytea NOT NULL CONSTRAINT admin_invitation_token UNIQUE,
    invited_by uuid,
    expires_at timestamptz NOT NULL
);
CREATE INDEX admin_invitation_by ON admin_invitation (invited_by);
CREATE INDEX admin_invitation_expires ON admin_invitation (expires_at);
