-- What makers have made. Keyed by serial: no account's data. failures: of claims of this serial since failures_since (S-D5).
CREATE TABLE inventory (
    serial text NOT NULL CONSTRAINT inventory_key PRIMARY KEY,
    kind text NOT NULL CONSTRAINT inventory_kind_check CHECK (kind IN ('hub', 'wireless', 'mini', 'doorbell')),
    model text NOT NULL,
    public_key bytea NOT NULL CONSTRAINT inventory_public_key_check CHECK (length(public_key) = 32),
    setup_code_hash bytea CONSTRAINT inventory_setup_code_check CHECK (length(setup_code_hash) = 32),
    failures integer NOT NULL,
    failures_since timestamptz NOT NULL,
    imported_at timestamptz NOT NULL
);

-- S-D8: one binding a serial, over all accounts. tried_at: when the owner was last told that somebody else tried to add it (S-D4).
CREATE TABLE device_binding (
    serial text NOT NULL CONSTRAINT device_binding_key PRIMARY KEY,
    account_id uuid NOT NULL,
    device_id uuid NOT NULL,
    tried_at timestamptz
);

-- A device that is bound to an account; a new binding of the same serial is a new device. via_hub: its hub vouched for it and speaks for it.
CREATE TABLE device (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    system_id uuid NOT NULL,
    serial text NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    name text NOT NULL,
    onboarding text NOT NULL CONSTRAINT device_onboarding_check CHECK (onboarding IN ('ready', 'reset_detected')),
    via_hub boolean NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT device_key PRIMARY KEY (account_id, id)
);
CREATE INDEX device_system ON device (account_id, system_id);

-- Readings, as the device or its hub reported them last.
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
    changed_at timestamptz NOT NULL,
    as_of timestamptz NOT NULL,
    CONSTRAINT device_status_key PRIMARY KEY (account_id, device_id)
);

-- S-D8: slot 0 of a system is its hub's, 1 to 10 are for the devices beside it. A claim holds a slot until it is bound or ends.
CREATE TABLE device_slot (
    account_id uuid NOT NULL,
    system_id uuid NOT NULL,
    slot smallint NOT NULL CONSTRAINT device_slot_check CHECK (slot BETWEEN 0 AND 10),
    device_id uuid,
    claim_id uuid,
    reserved_until timestamptz,
    CONSTRAINT device_slot_key PRIMARY KEY (account_id, system_id, slot),
    CONSTRAINT device_slot_holder_check CHECK ((device_id IS NULL) <> (claim_id IS NULL)),
    CONSTRAINT device_slot_reserved_check CHECK ((claim_id IS NULL) = (reserved_until IS NULL))
);
CREATE UNIQUE INDEX device_slot_device_key ON device_slot (account_id, device_id) WHERE device_id IS NOT NULL;

-- S-D2: one try to bind a device. Keyed by its own id: the device knows nothing else. device_id: set when it is bound, and from the start when the owner adds a
-- device again that is bound to this account already.
CREATE TABLE device_claim (
    id uuid NOT NULL CONSTRAINT device_claim_key PRIMARY KEY,
    account_id uuid NOT NULL,
    client_id uuid NOT NULL,
    system_id uuid NOT NULL,
    serial text NOT NULL,
    kind text NOT NULL,
    name text,
    challenge text NOT NULL,
    state text NOT NULL CONSTRAINT device_claim_state_check CHECK (state IN ('waiting_device', 'pairing', 'wifi_failed', 'connected', 'bound', 'refused', 'expired')),
    code text,
    wifi_error text,
    device_id uuid,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX device_claim_system ON device_claim (account_id, system_id);
CREATE INDEX device_claim_serial ON device_claim (serial) WHERE ended_at IS NULL;
CREATE INDEX device_claim_expiry ON device_claim (expires_at) WHERE ended_at IS NULL;
CREATE INDEX device_claim_ended ON device_claim (ended_at);

-- Failed claims of an account in the hour that began at `since` (S-D5). The row also puts an account's claims one after another.
CREATE TABLE device_claim_meter (
    account_id uuid NOT NULL CONSTRAINT device_claim_meter_key PRIMARY KEY,
    since timestamptz NOT NULL,
    failures integer NOT NULL
);

-- The connection of a hub or hubless camera. Each hello takes an epoch; what is written for an older one does nothing. It is there while `connected` and the node's lease holds.
CREATE TABLE device_link (
    serial text NOT NULL CONSTRAINT device_link_key PRIMARY KEY,
    epoch bigint NOT NULL,
    node_id uuid NOT NULL,
    connected boolean NOT NULL,
    cause text,
    changed_at timestamptz NOT NULL,
    role text NOT NULL,
    firmware text NOT NULL,
    boot_id uuid NOT NULL,
    boot_reason text NOT NULL,
    reset_count bigint NOT NULL,
    suites integer NOT NULL
);
CREATE INDEX device_link_node ON device_link (node_id) WHERE connected;

-- Commands wait here until the gateway (the hub, or the device itself) has taken them.
CREATE TABLE device_command (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    device_id uuid NOT NULL,
    gateway_serial text NOT NULL,
    camera_serial text,
    name text NOT NULL,
    idempotency_key text NOT NULL,
    stage text NOT NULL CONSTRAINT device_command_stage_check CHECK (stage IN ('accepted', 'sent', 'acknowledged', 'done', 'failed')),
    code text,
    deadline timestamptz NOT NULL,
    accepted_at timestamptz NOT NULL,
    sent_at timestamptz,
    acknowledged_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT device_command_key PRIMARY KEY (account_id, id),
    CONSTRAINT device_command_once UNIQUE (account_id, device_id, idempotency_key)
);
CREATE INDEX device_command_open ON device_command (gateway_serial) WHERE ended_at IS NULL;
CREATE INDEX device_command_deadline ON device_command (deadline) WHERE ended_at IS NULL;
CREATE INDEX device_command_ended ON device_command (ended_at);
