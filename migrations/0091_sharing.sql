-- Who may do what with a system. Rights come from these rows alone; system.account_id says only under which account its rows stand ("home"), and is an owner's.
-- expires_at: the membership ends then; NULL: never. by_id: who invited; NULL: the maker of the system, or somebody who is no more.
CREATE TABLE system_member (
    account_id uuid NOT NULL,
    system_id uuid NOT NULL,
    home_id uuid NOT NULL,
    id uuid NOT NULL,
    role text NOT NULL CONSTRAINT system_member_role_check CHECK (role IN ('viewer', 'talker', 'manager', 'owner')),
    by_id uuid,
    since timestamptz NOT NULL,
    expires_at timestamptz,
    CONSTRAINT system_member_key PRIMARY KEY (account_id, system_id)
);
CREATE UNIQUE INDEX system_member_id_key ON system_member (system_id, id);
CREATE INDEX system_member_by ON system_member (by_id);
CREATE INDEX system_member_expiry ON system_member (expires_at) WHERE expires_at IS NOT NULL;
INSERT INTO system_member (account_id, system_id, home_id, id, role, since) SELECT account_id, id, account_id, id, 'owner', created_at FROM system;

-- Invitations that nobody has answered. The token is in the message alone. access_until: what the membership's expires_at becomes.
CREATE TABLE system_invitation (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    system_id uuid NOT NULL,
    email text NOT NULL,
    role text NOT NULL CONSTRAINT system_invitation_role_check CHECK (role IN ('viewer', 'talker', 'manager', 'owner')),
    by_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    sends integer NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    access_until timestamptz,
    CONSTRAINT system_invitation_key PRIMARY KEY (account_id, id),
    CONSTRAINT system_invitation_email_key UNIQUE (system_id, email)
);
CREATE UNIQUE INDEX system_invitation_token_key ON system_invitation (token_hash);
CREATE INDEX system_invitation_by ON system_invitation (by_id);
CREATE INDEX system_invitation_expiry ON system_invitation (expires_at);

-- A member who is not the home account knows a device or a session only by its own id.
CREATE UNIQUE INDEX device_id_key ON device (id);
CREATE UNIQUE INDEX live_id_key ON live (id);

-- Failed claims count for who makes them, not for whose system it is.
ALTER TABLE device_claim ADD COLUMN by_id uuid;
UPDATE device_claim SET by_id = account_id;
ALTER TABLE device_claim ALTER COLUMN by_id SET NOT NULL;
CREATE INDEX device_claim_by ON device_claim (by_id);

-- Whose session it was outlives the device. NULL: the device was gone before this was written down.
ALTER TABLE live ADD COLUMN system_id uuid;
UPDATE live SET system_id = d.system_id FROM device d WHERE d.account_id = live.account_id AND d.id = live.device_id;

-- A viewer by its own id, so that one can be cut and the others go on. kind: viewer; opener: has opened it and has no keys yet; source: holds the key of a
-- plain source. revoked_at: is to be gone from the relay.
ALTER TABLE live_viewer ADD COLUMN viewer_id uuid;
ALTER TABLE live_viewer ADD COLUMN member_id uuid;
ALTER TABLE live_viewer ADD COLUMN kind text NOT NULL DEFAULT 'viewer' CONSTRAINT live_viewer_kind_check CHECK (kind IN ('viewer', 'opener', 'source'));
ALTER TABLE live_viewer ADD COLUMN revoked_at timestamptz;
UPDATE live_viewer SET viewer_id = client_id, member_id = account_id;
ALTER TABLE live_viewer ALTER COLUMN viewer_id SET NOT NULL;
ALTER TABLE live_viewer ALTER COLUMN member_id SET NOT NULL;
ALTER TABLE live_viewer DROP CONSTRAINT live_viewer_pkey;
ALTER TABLE live_viewer ADD PRIMARY KEY (account_id, live_id, viewer_id);
CREATE INDEX live_viewer_member ON live_viewer (member_id);
CREATE INDEX live_viewer_revoked ON live_viewer (revoked_at) WHERE revoked_at IS NOT NULL;
