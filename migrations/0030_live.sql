-- Live sessions and the relays that carry them.
-- A relay proves itself by its key; what it says of itself at each hello stands beside it.
CREATE TABLE relay (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    public_key   bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    epoch        bigint NOT NULL DEFAULT 0,     -- taken by each hello; a write with an older one does nothing
    boot_id      uuid,
    node_id      uuid,                          -- the node that it is connected to
    connected    boolean NOT NULL DEFAULT false,
    seen_at      timestamptz,
    media_host   text,
    media_port   integer,
    max_sessions integer NOT NULL DEFAULT 0,
    sessions     integer NOT NULL DEFAULT 0,
    viewers      integer NOT NULL DEFAULT 0,
    CONSTRAINT relay_name_key UNIQUE (name)
);

-- Intent: who may see which camera by which relay until when. What happens in it is the relay's own (viewers, floor, counters).
CREATE TABLE live (
    account_id    uuid NOT NULL,
    id            uuid NOT NULL,
    device_id     uuid NOT NULL,
    camera_serial text NOT NULL,
    hub_serial    text NOT NULL,
    relay_id      uuid NOT NULL,
    client_id     uuid NOT NULL,                -- who opened it
    generation    integer NOT NULL,
    state         text NOT NULL,                -- waking_hub, connecting, live, ended
    end_code      text,
    suite         text NOT NULL,                -- of the hub's leg
    viewers       integer NOT NULL DEFAULT 0,
    warned        boolean NOT NULL DEFAULT false, -- the app was told that the end is near
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    hard_end_at   timestamptz NOT NULL,
    ended_at      timestamptz,
    PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX live_one_per_device ON live (account_id, device_id) WHERE ended_at IS NULL;
CREATE INDEX live_expiry ON live (expires_at) WHERE ended_at IS NULL;

-- The first time of each stage of a session.
CREATE TABLE live_stage (
    account_id uuid NOT NULL,
    live_id    uuid NOT NULL,
    name       text NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (account_id, live_id, name)
);

-- Where a running session is: the way from a relay or hub, which knows only the live id, to the account. Gone when the session ends.
CREATE TABLE live_place (
    live_id    uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    relay_id   uuid NOT NULL,
    hub_serial text NOT NULL,
    generation integer NOT NULL
);
CREATE INDEX live_place_relay ON live_place (relay_id);
CREATE INDEX live_place_hub ON live_place (hub_serial);
