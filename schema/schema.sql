-- The whole schema as of the last migration. Made by schema/dump --update; equal to what the migrations make (tests/it/test_schema.py).

CREATE TABLE account (
    account_id uuid NOT NULL,
    email text NOT NULL,
    phone text NOT NULL,
    country text NOT NULL,
    region text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    locale text DEFAULT 'en'::text NOT NULL
);

CREATE TABLE account_email (
    email text NOT NULL,
    account_id uuid NOT NULL
);

CREATE TABLE account_phone (
    phone text NOT NULL,
    account_id uuid NOT NULL
);

CREATE TABLE admin (
    id uuid NOT NULL,
    name text NOT NULL,
    credential_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    invited_by uuid
);

CREATE TABLE admin_invitation (
    name text NOT NULL,
    token_hash bytea NOT NULL,
    invited_by uuid,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE audit (
    subject_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor_id uuid,
    action text NOT NULL,
    detail text NOT NULL,
    hash bytea NOT NULL
);

CREATE TABLE audit_head (
    subject_id uuid NOT NULL,
    number bigint NOT NULL,
    hash bytea NOT NULL
);

CREATE TABLE audit_pseudonym (
    account_id uuid NOT NULL,
    pseudonym uuid NOT NULL
);

CREATE TABLE challenge (
    id uuid NOT NULL,
    account_id uuid,
    subject_id uuid NOT NULL,
    client_id uuid,
    purpose text NOT NULL,
    key_hash bytea NOT NULL,
    channel text,
    destination text,
    context text,
    decoy boolean NOT NULL,
    pin_hash bytea,
    pin_key smallint NOT NULL,
    sent_count smallint NOT NULL,
    tries smallint NOT NULL,
    issued_at timestamp with time zone,
    expires_at timestamp with time zone NOT NULL,
    resend_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    verified_at timestamp with time zone,
    locale text DEFAULT 'en'::text NOT NULL,
    CONSTRAINT challenge_channel_check CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text, 'voice'::text]))),
    CONSTRAINT challenge_sends_check CHECK (((sent_count >= 0) AND (sent_count <= 5))),
    CONSTRAINT challenge_tries_check CHECK (((tries >= 0) AND (tries <= 5)))
);

CREATE TABLE challenge_budget (
    subject_id uuid NOT NULL,
    purpose text NOT NULL,
    touched_at timestamp with time zone NOT NULL
);

CREATE TABLE challenge_try (
    subject_id uuid NOT NULL,
    purpose text NOT NULL,
    id uuid NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE TABLE client (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    platform text NOT NULL,
    key_hash bytea,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL
);

CREATE TABLE contact_change (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    old_value text NOT NULL,
    new_value text NOT NULL,
    undo_hash bytea NOT NULL,
    at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    CONSTRAINT contact_change_kind_check CHECK ((kind = ANY (ARRAY['email'::text, 'phone'::text])))
);

CREATE TABLE delegation (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    hint text NOT NULL,
    scopes text NOT NULL,
    systems bytea,
    created_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT delegation_kind_check CHECK ((kind = ANY (ARRAY['token'::text, 'service'::text])))
);

CREATE TABLE delegation_token (
    token_hash bytea NOT NULL,
    account_id uuid NOT NULL,
    delegation_id uuid NOT NULL,
    expires_at timestamp with time zone
);

CREATE TABLE device (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    system_id uuid NOT NULL,
    serial text NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    name text NOT NULL,
    onboarding text NOT NULL,
    via_hub boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT device_onboarding_check CHECK ((onboarding = ANY (ARRAY['ready'::text, 'reset_detected'::text])))
);

CREATE TABLE device_binding (
    serial text NOT NULL,
    account_id uuid NOT NULL,
    device_id uuid NOT NULL,
    tried_at timestamp with time zone
);

CREATE TABLE device_claim (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    system_id uuid NOT NULL,
    serial text NOT NULL,
    kind text NOT NULL,
    name text,
    challenge text NOT NULL,
    state text NOT NULL,
    code text,
    wifi_error text,
    device_id uuid,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    by_id uuid NOT NULL,
    CONSTRAINT device_claim_state_check CHECK ((state = ANY (ARRAY['waiting_device'::text, 'pairing'::text, 'wifi_failed'::text, 'connected'::text, 'bound'::text, 'refused'::text, 'expired'::text])))
);

CREATE TABLE device_claim_meter (
    account_id uuid NOT NULL,
    since timestamp with time zone NOT NULL,
    failures integer NOT NULL
);

CREATE TABLE device_command (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    device_id uuid NOT NULL,
    gateway_serial text NOT NULL,
    camera_serial text,
    name text NOT NULL,
    idempotency_key text NOT NULL,
    stage text NOT NULL,
    code text,
    deadline timestamp with time zone NOT NULL,
    accepted_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT device_command_stage_check CHECK ((stage = ANY (ARRAY['accepted'::text, 'sent'::text, 'acknowledged'::text, 'done'::text, 'failed'::text])))
);

CREATE TABLE device_link (
    serial text NOT NULL,
    epoch bigint NOT NULL,
    node_id uuid NOT NULL,
    connected boolean NOT NULL,
    cause text,
    changed_at timestamp with time zone NOT NULL,
    role text NOT NULL,
    firmware text NOT NULL,
    boot_id uuid NOT NULL,
    boot_reason text NOT NULL,
    reset_count bigint NOT NULL,
    suites integer NOT NULL
);

CREATE TABLE device_slot (
    account_id uuid NOT NULL,
    system_id uuid NOT NULL,
    slot smallint NOT NULL,
    device_id uuid,
    claim_id uuid,
    reserved_until timestamp with time zone,
    CONSTRAINT device_slot_check CHECK (((slot >= 0) AND (slot <= 10))),
    CONSTRAINT device_slot_holder_check CHECK (((device_id IS NULL) <> (claim_id IS NULL))),
    CONSTRAINT device_slot_reserved_check CHECK (((claim_id IS NULL) = (reserved_until IS NULL)))
);

CREATE TABLE device_status (
    account_id uuid NOT NULL,
    device_id uuid NOT NULL,
    online boolean NOT NULL,
    busy boolean NOT NULL,
    battery integer,
    wifi_rssi integer,
    firmware text,
    video text,
    audio text,
    talk text,
    changed_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    can_keyframe boolean DEFAULT true NOT NULL,
    can_bitrate boolean DEFAULT true NOT NULL,
    gop_ms integer,
    uplink_bps bigint,
    uplink_lost_percent integer,
    uplink_rtt_ms integer,
    uplink_at timestamp with time zone
);

CREATE TABLE event (
    account_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    system_id uuid
);

CREATE TABLE event_counter (
    account_id uuid NOT NULL,
    head bigint NOT NULL
);

CREATE TABLE fact (
    fact_id uuid NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    detail jsonb NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    done_at timestamp with time zone
);

CREATE TABLE factor_passkey (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    slot smallint NOT NULL,
    name text NOT NULL,
    credential_id bytea NOT NULL,
    algorithm integer NOT NULL,
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    backed_up boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    CONSTRAINT factor_passkey_slot_check CHECK (((slot >= 1) AND (slot <= 20)))
);

CREATE TABLE factor_recovery (
    account_id uuid NOT NULL,
    code_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE factor_totp (
    account_id uuid NOT NULL,
    secret_sealed bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    confirmed_at timestamp with time zone,
    last_step bigint NOT NULL
);

CREATE TABLE idempotency (
    owner_id uuid NOT NULL,
    key_hash bytea NOT NULL,
    request_hash bytea NOT NULL,
    answer bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE inventory (
    serial text NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    public_key bytea NOT NULL,
    setup_code_hash bytea,
    failures integer NOT NULL,
    failures_since timestamp with time zone NOT NULL,
    imported_at timestamp with time zone NOT NULL,
    CONSTRAINT inventory_kind_check CHECK ((kind = ANY (ARRAY['hub'::text, 'wireless'::text, 'mini'::text, 'doorbell'::text]))),
    CONSTRAINT inventory_public_key_check CHECK ((length(public_key) = 32)),
    CONSTRAINT inventory_setup_code_check CHECK ((length(setup_code_hash) = 32))
);

CREATE TABLE limit_failure (
    id bytea NOT NULL,
    failures integer NOT NULL,
    until timestamp with time zone NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE TABLE limit_sent (
    prefix text NOT NULL,
    id uuid NOT NULL,
    challenge_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    answered boolean NOT NULL,
    owner_id uuid
);

CREATE TABLE limit_stop (
    prefix text NOT NULL,
    stops integer NOT NULL,
    until timestamp with time zone NOT NULL
);

CREATE TABLE live (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    device_id uuid NOT NULL,
    camera_serial text NOT NULL,
    hub_serial text NOT NULL,
    relay_id uuid NOT NULL,
    client_id uuid,
    generation integer NOT NULL,
    state text NOT NULL,
    end_code text,
    suite text NOT NULL,
    warned boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    hard_end_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    figures jsonb,
    figures_at timestamp with time zone,
    system_id uuid,
    opener_id uuid
);

CREATE TABLE live_place (
    live_id uuid NOT NULL,
    account_id uuid NOT NULL,
    relay_id uuid NOT NULL,
    hub_serial text NOT NULL,
    generation integer NOT NULL,
    whip_hash bytea,
    whip_until timestamp with time zone
);

CREATE TABLE live_stage (
    account_id uuid NOT NULL,
    live_id uuid NOT NULL,
    name text NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE TABLE live_viewer (
    account_id uuid NOT NULL,
    live_id uuid NOT NULL,
    client_id uuid NOT NULL,
    viewer_id uuid NOT NULL,
    member_id uuid NOT NULL,
    kind text DEFAULT 'viewer'::text NOT NULL,
    revoked_at timestamp with time zone,
    connected_at timestamp with time zone,
    CONSTRAINT live_viewer_kind_check CHECK ((kind = ANY (ARRAY['viewer'::text, 'opener'::text, 'source'::text])))
);

CREATE TABLE migration (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied_at timestamp with time zone NOT NULL
);

CREATE TABLE migration_lease (
    lease_id integer NOT NULL,
    holder uuid,
    taken_at timestamp with time zone,
    CONSTRAINT migration_lease_one CHECK ((lease_id = 1))
);

CREATE TABLE node (
    node_id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    draining_since timestamp with time zone
);

CREATE TABLE oauth_client (
    id uuid NOT NULL,
    name text NOT NULL,
    redirect_uris text NOT NULL,
    secret_hash bytea,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE oauth_code (
    code_hash bytea NOT NULL,
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    scopes text NOT NULL,
    code_challenge text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    spent_at timestamp with time zone,
    delegation_id uuid,
    systems bytea
);

CREATE TABLE oauth_refresh (
    token_hash bytea NOT NULL,
    account_id uuid NOT NULL,
    delegation_id uuid NOT NULL,
    generation integer NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE oauth_service (
    account_id uuid NOT NULL,
    delegation_id uuid NOT NULL,
    client_id uuid NOT NULL,
    generation integer NOT NULL,
    rotated_at timestamp with time zone NOT NULL
);

CREATE TABLE outbox (
    id uuid NOT NULL,
    account_id uuid,
    ref uuid,
    kind text NOT NULL,
    channel text NOT NULL,
    status text NOT NULL,
    body bytea,
    lease uuid,
    attempts smallint NOT NULL,
    next_at timestamp with time zone NOT NULL,
    send_by timestamp with time zone NOT NULL,
    wipe_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    why text,
    CONSTRAINT outbox_body_check CHECK (((body IS NOT NULL) = (status = ANY (ARRAY['queued'::text, 'leased'::text])))),
    CONSTRAINT outbox_channel_check CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text, 'voice'::text]))),
    CONSTRAINT outbox_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'leased'::text, 'sent'::text, 'done'::text, 'expired'::text, 'dead'::text])))
);

CREATE TABLE outside_flow (
    state_hash bytea NOT NULL,
    provider text NOT NULL,
    account_id uuid,
    client_id uuid,
    key_hash bytea,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE outside_link (
    account_id uuid NOT NULL,
    provider text NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    label text,
    linked_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone
);

CREATE TABLE outside_subject (
    issuer text NOT NULL,
    subject text NOT NULL,
    account_id uuid NOT NULL
);

CREATE TABLE passkey_answered (
    question_hash bytea NOT NULL,
    ends_at timestamp with time zone NOT NULL
);

CREATE TABLE passkey_credential (
    credential_id bytea NOT NULL,
    account_id uuid NOT NULL,
    passkey_id uuid NOT NULL
);

CREATE TABLE password_reset (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    link_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    opened_at timestamp with time zone,
    grant_hash bytea,
    grant_ends_at timestamp with time zone
);

CREATE TABLE password_reset_request (
    id uuid NOT NULL,
    email text NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE TABLE rate_bucket (
    bucket_id bytea NOT NULL,
    busy_until bigint NOT NULL,
    granted bigint NOT NULL
);

CREATE TABLE relay (
    id uuid NOT NULL,
    name text NOT NULL,
    public_key bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    epoch bigint DEFAULT 0 NOT NULL,
    boot_id uuid,
    node_id uuid,
    connected boolean DEFAULT false NOT NULL,
    seen_at timestamp with time zone,
    media_host text,
    media_port integer,
    max_sessions integer DEFAULT 0 NOT NULL,
    sessions integer DEFAULT 0 NOT NULL,
    viewers integer DEFAULT 0 NOT NULL,
    heard bigint DEFAULT 0 NOT NULL,
    fingerprint bytea,
    busy integer DEFAULT 0 NOT NULL
);

CREATE TABLE session (
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    family uuid NOT NULL,
    generation integer NOT NULL,
    rotated_at timestamp with time zone NOT NULL,
    idle_ends_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL
);

CREATE TABLE session_token (
    token_hash bytea NOT NULL,
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    family uuid NOT NULL,
    generation integer NOT NULL,
    kind text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT session_token_kind_check CHECK ((kind = ANY (ARRAY['access'::text, 'refresh'::text])))
);

CREATE TABLE signup (
    id uuid NOT NULL,
    email text NOT NULL,
    password_hash text NOT NULL,
    country text NOT NULL,
    region text NOT NULL,
    client_name text NOT NULL,
    client_platform text NOT NULL,
    client_key_hash bytea,
    taken boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    email_verified_at timestamp with time zone,
    locale text DEFAULT 'en'::text NOT NULL
);

CREATE TABLE step_up_grant (
    account_id uuid NOT NULL,
    grant_hash bytea NOT NULL,
    client_id uuid NOT NULL,
    purpose text NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE system (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE system_invitation (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    system_id uuid NOT NULL,
    email text NOT NULL,
    role text NOT NULL,
    by_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    sends integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    access_until timestamp with time zone,
    CONSTRAINT system_invitation_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'talker'::text, 'manager'::text, 'owner'::text])))
);

CREATE TABLE system_member (
    account_id uuid NOT NULL,
    system_id uuid NOT NULL,
    home_id uuid NOT NULL,
    id uuid NOT NULL,
    role text NOT NULL,
    by_id uuid,
    since timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT system_member_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'talker'::text, 'manager'::text, 'owner'::text])))
);

CREATE TABLE voice_call (
    id uuid NOT NULL,
    account_id uuid,
    ref uuid,
    body bytea NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    heard bytea DEFAULT '\x'::bytea NOT NULL
);

ALTER TABLE ONLY account_email
    ADD CONSTRAINT account_email_key PRIMARY KEY (email);

ALTER TABLE ONLY account
    ADD CONSTRAINT account_key PRIMARY KEY (account_id);

ALTER TABLE ONLY account_phone
    ADD CONSTRAINT account_phone_key PRIMARY KEY (phone);

ALTER TABLE ONLY admin
    ADD CONSTRAINT admin_credential UNIQUE (credential_hash);

ALTER TABLE ONLY admin_invitation
    ADD CONSTRAINT admin_invitation_key PRIMARY KEY (name);

ALTER TABLE ONLY admin_invitation
    ADD CONSTRAINT admin_invitation_token UNIQUE (token_hash);

ALTER TABLE ONLY admin
    ADD CONSTRAINT admin_key PRIMARY KEY (id);

ALTER TABLE ONLY admin
    ADD CONSTRAINT admin_name UNIQUE (name);

ALTER TABLE ONLY audit_head
    ADD CONSTRAINT audit_head_pkey PRIMARY KEY (subject_id);

ALTER TABLE ONLY audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (subject_id, number);

ALTER TABLE ONLY audit_pseudonym
    ADD CONSTRAINT audit_pseudonym_key PRIMARY KEY (account_id);

ALTER TABLE ONLY challenge_budget
    ADD CONSTRAINT challenge_budget_key PRIMARY KEY (subject_id, purpose);

ALTER TABLE ONLY challenge
    ADD CONSTRAINT challenge_key PRIMARY KEY (id);

ALTER TABLE ONLY challenge_try
    ADD CONSTRAINT challenge_try_key PRIMARY KEY (subject_id, purpose, id);

ALTER TABLE ONLY client
    ADD CONSTRAINT client_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY contact_change
    ADD CONSTRAINT contact_change_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY contact_change
    ADD CONSTRAINT contact_change_undo UNIQUE (undo_hash);

ALTER TABLE ONLY delegation
    ADD CONSTRAINT delegation_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY delegation_token
    ADD CONSTRAINT delegation_token_key PRIMARY KEY (token_hash);

ALTER TABLE ONLY device_binding
    ADD CONSTRAINT device_binding_key PRIMARY KEY (serial);

ALTER TABLE ONLY device_claim
    ADD CONSTRAINT device_claim_key PRIMARY KEY (id);

ALTER TABLE ONLY device_claim_meter
    ADD CONSTRAINT device_claim_meter_key PRIMARY KEY (account_id);

ALTER TABLE ONLY device_command
    ADD CONSTRAINT device_command_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY device_command
    ADD CONSTRAINT device_command_once UNIQUE (account_id, device_id, idempotency_key);

ALTER TABLE ONLY device
    ADD CONSTRAINT device_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY device_link
    ADD CONSTRAINT device_link_key PRIMARY KEY (serial);

ALTER TABLE ONLY device_slot
    ADD CONSTRAINT device_slot_key PRIMARY KEY (account_id, system_id, slot);

ALTER TABLE ONLY device_status
    ADD CONSTRAINT device_status_key PRIMARY KEY (account_id, device_id);

ALTER TABLE ONLY event_counter
    ADD CONSTRAINT event_counter_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY event
    ADD CONSTRAINT event_pkey PRIMARY KEY (account_id, number);

ALTER TABLE ONLY fact
    ADD CONSTRAINT fact_pkey PRIMARY KEY (fact_id);

ALTER TABLE ONLY factor_passkey
    ADD CONSTRAINT factor_passkey_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY factor_passkey
    ADD CONSTRAINT factor_passkey_slot UNIQUE (account_id, slot);

ALTER TABLE ONLY factor_recovery
    ADD CONSTRAINT factor_recovery_key PRIMARY KEY (account_id, code_hash);

ALTER TABLE ONLY factor_totp
    ADD CONSTRAINT factor_totp_key PRIMARY KEY (account_id);

ALTER TABLE ONLY idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (owner_id, key_hash);

ALTER TABLE ONLY inventory
    ADD CONSTRAINT inventory_key PRIMARY KEY (serial);

ALTER TABLE ONLY limit_failure
    ADD CONSTRAINT limit_failure_key PRIMARY KEY (id);

ALTER TABLE ONLY limit_sent
    ADD CONSTRAINT limit_sent_key PRIMARY KEY (prefix, id);

ALTER TABLE ONLY limit_stop
    ADD CONSTRAINT limit_stop_key PRIMARY KEY (prefix);

ALTER TABLE ONLY live
    ADD CONSTRAINT live_pkey PRIMARY KEY (account_id, id);

ALTER TABLE ONLY live_place
    ADD CONSTRAINT live_place_pkey PRIMARY KEY (live_id);

ALTER TABLE ONLY live_stage
    ADD CONSTRAINT live_stage_pkey PRIMARY KEY (account_id, live_id, name);

ALTER TABLE ONLY live_viewer
    ADD CONSTRAINT live_viewer_pkey PRIMARY KEY (account_id, live_id, viewer_id);

ALTER TABLE ONLY migration_lease
    ADD CONSTRAINT migration_lease_pkey PRIMARY KEY (lease_id);

ALTER TABLE ONLY migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY node
    ADD CONSTRAINT node_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY oauth_client
    ADD CONSTRAINT oauth_client_key PRIMARY KEY (id);

ALTER TABLE ONLY oauth_client
    ADD CONSTRAINT oauth_client_name UNIQUE (name);

ALTER TABLE ONLY oauth_code
    ADD CONSTRAINT oauth_code_key PRIMARY KEY (code_hash);

ALTER TABLE ONLY oauth_refresh
    ADD CONSTRAINT oauth_refresh_key PRIMARY KEY (token_hash);

ALTER TABLE ONLY oauth_service
    ADD CONSTRAINT oauth_service_client UNIQUE (account_id, client_id);

ALTER TABLE ONLY oauth_service
    ADD CONSTRAINT oauth_service_key PRIMARY KEY (account_id, delegation_id);

ALTER TABLE ONLY outbox
    ADD CONSTRAINT outbox_key PRIMARY KEY (id);

ALTER TABLE ONLY outside_flow
    ADD CONSTRAINT outside_flow_key PRIMARY KEY (state_hash);

ALTER TABLE ONLY outside_link
    ADD CONSTRAINT outside_link_key PRIMARY KEY (account_id, provider);

ALTER TABLE ONLY outside_subject
    ADD CONSTRAINT outside_subject_key PRIMARY KEY (issuer, subject);

ALTER TABLE ONLY passkey_answered
    ADD CONSTRAINT passkey_answered_key PRIMARY KEY (question_hash);

ALTER TABLE ONLY passkey_credential
    ADD CONSTRAINT passkey_credential_key PRIMARY KEY (credential_id);

ALTER TABLE ONLY password_reset
    ADD CONSTRAINT password_reset_key PRIMARY KEY (id);

ALTER TABLE ONLY password_reset
    ADD CONSTRAINT password_reset_link UNIQUE (link_hash);

ALTER TABLE ONLY password_reset_request
    ADD CONSTRAINT password_reset_request_key PRIMARY KEY (id);

ALTER TABLE ONLY rate_bucket
    ADD CONSTRAINT rate_bucket_pkey PRIMARY KEY (bucket_id);

ALTER TABLE ONLY relay
    ADD CONSTRAINT relay_name_key UNIQUE (name);

ALTER TABLE ONLY relay
    ADD CONSTRAINT relay_pkey PRIMARY KEY (id);

ALTER TABLE ONLY session
    ADD CONSTRAINT session_key PRIMARY KEY (account_id, client_id);

ALTER TABLE ONLY session_token
    ADD CONSTRAINT session_token_key PRIMARY KEY (token_hash);

ALTER TABLE ONLY signup
    ADD CONSTRAINT signup_key PRIMARY KEY (id);

ALTER TABLE ONLY step_up_grant
    ADD CONSTRAINT step_up_grant_key PRIMARY KEY (account_id, grant_hash);

ALTER TABLE ONLY system_invitation
    ADD CONSTRAINT system_invitation_email_key UNIQUE (system_id, email);

ALTER TABLE ONLY system_invitation
    ADD CONSTRAINT system_invitation_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY system
    ADD CONSTRAINT system_key PRIMARY KEY (account_id, id);

ALTER TABLE ONLY system_member
    ADD CONSTRAINT system_member_key PRIMARY KEY (account_id, system_id);

ALTER TABLE ONLY voice_call
    ADD CONSTRAINT voice_call_key PRIMARY KEY (id);

CREATE INDEX admin_invitation_by ON admin_invitation USING btree (invited_by);

CREATE INDEX admin_invitation_expires ON admin_invitation USING btree (expires_at);

CREATE INDEX admin_invited_by ON admin USING btree (invited_by);

CREATE INDEX challenge_account ON challenge USING btree (account_id);

CREATE INDEX challenge_budget_touched ON challenge_budget USING btree (touched_at);

CREATE INDEX challenge_ends ON challenge USING btree (ends_at);

CREATE INDEX challenge_try_at ON challenge_try USING btree (at);

CREATE UNIQUE INDEX client_own_key ON client USING btree (account_id, key_hash);

CREATE INDEX contact_change_ends ON contact_change USING btree (ends_at);

CREATE INDEX delegation_ends ON delegation USING btree (ends_at);

CREATE INDEX delegation_token_delegation ON delegation_token USING btree (account_id, delegation_id);

CREATE INDEX delegation_token_expires ON delegation_token USING btree (expires_at);

CREATE INDEX device_claim_by ON device_claim USING btree (by_id);

CREATE INDEX device_claim_ended ON device_claim USING btree (ended_at);

CREATE INDEX device_claim_expiry ON device_claim USING btree (expires_at) WHERE (ended_at IS NULL);

CREATE INDEX device_claim_serial ON device_claim USING btree (serial) WHERE (ended_at IS NULL);

CREATE INDEX device_claim_system ON device_claim USING btree (account_id, system_id);

CREATE INDEX device_command_deadline ON device_command USING btree (deadline) WHERE (ended_at IS NULL);

CREATE INDEX device_command_ended ON device_command USING btree (ended_at);

CREATE INDEX device_command_open ON device_command USING btree (gateway_serial) WHERE (ended_at IS NULL);

CREATE UNIQUE INDEX device_id_key ON device USING btree (id);

CREATE INDEX device_link_mistaken ON device_link USING btree (node_id) WHERE ((NOT connected) AND (cause = 'cloud_restart'::text));

CREATE INDEX device_link_node ON device_link USING btree (node_id) WHERE connected;

CREATE UNIQUE INDEX device_slot_device_key ON device_slot USING btree (account_id, device_id) WHERE (device_id IS NOT NULL);

CREATE INDEX device_system ON device USING btree (account_id, system_id);

CREATE INDEX event_at_idx ON event USING btree (at);

CREATE INDEX fact_done_idx ON fact USING btree (done_at) WHERE (done_at IS NOT NULL);

CREATE INDEX fact_open_idx ON fact USING btree (fact_id) WHERE (done_at IS NULL);

CREATE INDEX idempotency_created_idx ON idempotency USING btree (created_at);

CREATE INDEX limit_failure_at ON limit_failure USING btree (at);

CREATE INDEX limit_sent_at ON limit_sent USING btree (at);

CREATE INDEX limit_sent_challenge ON limit_sent USING btree (challenge_id);

CREATE INDEX limit_sent_owner ON limit_sent USING btree (owner_id, at) WHERE (owner_id IS NOT NULL);

CREATE INDEX limit_stop_until ON limit_stop USING btree (until);

CREATE INDEX live_device ON live USING btree (device_id) WHERE (ended_at IS NULL);

CREATE INDEX live_ended ON live USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE INDEX live_expiry ON live USING btree (expires_at) WHERE (ended_at IS NULL);

CREATE UNIQUE INDEX live_id_key ON live USING btree (id);

CREATE UNIQUE INDEX live_one_per_device ON live USING btree (account_id, device_id) WHERE (ended_at IS NULL);

CREATE INDEX live_opener ON live USING btree (opener_id, id);

CREATE INDEX live_place_hub ON live_place USING btree (hub_serial);

CREATE INDEX live_place_relay ON live_place USING btree (relay_id);

CREATE UNIQUE INDEX live_viewer_id_key ON live_viewer USING btree (live_id, viewer_id);

CREATE INDEX live_viewer_member ON live_viewer USING btree (member_id);

CREATE INDEX live_viewer_revoked ON live_viewer USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);

CREATE INDEX oauth_code_account ON oauth_code USING btree (account_id);

CREATE INDEX oauth_code_client ON oauth_code USING btree (client_id);

CREATE INDEX oauth_code_created ON oauth_code USING btree (created_at);

CREATE INDEX oauth_refresh_expires ON oauth_refresh USING btree (expires_at);

CREATE INDEX oauth_refresh_service ON oauth_refresh USING btree (account_id, delegation_id);

CREATE INDEX oauth_service_of_client ON oauth_service USING btree (client_id);

CREATE INDEX outbox_account ON outbox USING btree (account_id);

CREATE INDEX outbox_due ON outbox USING btree (next_at) WHERE (status = ANY (ARRAY['queued'::text, 'leased'::text]));

CREATE INDEX outbox_ended ON outbox USING btree (ended_at);

CREATE INDEX outbox_ref ON outbox USING btree (ref);

CREATE INDEX outbox_wipe ON outbox USING btree (wipe_at) WHERE (status = ANY (ARRAY['queued'::text, 'leased'::text]));

CREATE INDEX outside_flow_account ON outside_flow USING btree (account_id);

CREATE INDEX outside_flow_created ON outside_flow USING btree (created_at);

CREATE INDEX passkey_answered_ends ON passkey_answered USING btree (ends_at);

CREATE INDEX passkey_credential_account ON passkey_credential USING btree (account_id);

CREATE INDEX password_reset_account ON password_reset USING btree (account_id, created_at);

CREATE INDEX password_reset_ends ON password_reset USING btree (ends_at);

CREATE INDEX rate_bucket_busy_idx ON rate_bucket USING btree (busy_until);

CREATE INDEX session_idle_ends ON session USING btree (idle_ends_at);

CREATE INDEX session_token_client ON session_token USING btree (account_id, client_id);

CREATE INDEX session_token_expires ON session_token USING btree (expires_at);

CREATE INDEX signup_ends ON signup USING btree (ends_at);

CREATE INDEX step_up_grant_expires ON step_up_grant USING btree (expires_at);

CREATE INDEX system_invitation_by ON system_invitation USING btree (by_id);

CREATE INDEX system_invitation_expiry ON system_invitation USING btree (expires_at);

CREATE UNIQUE INDEX system_invitation_token_key ON system_invitation USING btree (token_hash);

CREATE INDEX system_member_by ON system_member USING btree (by_id);

CREATE INDEX system_member_expiry ON system_member USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE UNIQUE INDEX system_member_id_key ON system_member USING btree (system_id, id);

CREATE UNIQUE INDEX system_name_key ON system USING btree (account_id, lower(name));

CREATE INDEX voice_call_account ON voice_call USING btree (account_id);

CREATE INDEX voice_call_ends ON voice_call USING btree (ends_at);

CREATE INDEX voice_call_ref ON voice_call USING btree (ref);

REVOKE ALL ON TABLE audit FROM porchlight;
GRANT SELECT,INSERT,REFERENCES,TRIGGER ON TABLE audit TO porchlight;
