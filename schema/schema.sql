-- The whole schema as of the last migration. Made by schema/dump --update; equal to what the migrations make (tests/it/test_schema.py).

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

CREATE TABLE event (
    account_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL
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

CREATE TABLE live (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    device_id uuid NOT NULL,
    camera_serial text NOT NULL,
    hub_serial text NOT NULL,
    relay_id uuid NOT NULL,
    client_id uuid NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL,
    end_code text,
    suite text NOT NULL,
    viewers integer DEFAULT 0 NOT NULL,
    warned boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    hard_end_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone
);

CREATE TABLE live_place (
    live_id uuid NOT NULL,
    account_id uuid NOT NULL,
    relay_id uuid NOT NULL,
    hub_serial text NOT NULL,
    generation integer NOT NULL
);

CREATE TABLE live_stage (
    account_id uuid NOT NULL,
    live_id uuid NOT NULL,
    name text NOT NULL,
    at timestamp with time zone NOT NULL
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
    lease_until timestamp with time zone NOT NULL
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
    viewers integer DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY audit_head
    ADD CONSTRAINT audit_head_pkey PRIMARY KEY (subject_id);

ALTER TABLE ONLY audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (subject_id, number);

ALTER TABLE ONLY event_counter
    ADD CONSTRAINT event_counter_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY event
    ADD CONSTRAINT event_pkey PRIMARY KEY (account_id, number);

ALTER TABLE ONLY fact
    ADD CONSTRAINT fact_pkey PRIMARY KEY (fact_id);

ALTER TABLE ONLY live
    ADD CONSTRAINT live_pkey PRIMARY KEY (account_id, id);

ALTER TABLE ONLY live_place
    ADD CONSTRAINT live_place_pkey PRIMARY KEY (live_id);

ALTER TABLE ONLY live_stage
    ADD CONSTRAINT live_stage_pkey PRIMARY KEY (account_id, live_id, name);

ALTER TABLE ONLY migration_lease
    ADD CONSTRAINT migration_lease_pkey PRIMARY KEY (lease_id);

ALTER TABLE ONLY migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY node
    ADD CONSTRAINT node_pkey PRIMARY KEY (node_id);

ALTER TABLE ONLY relay
    ADD CONSTRAINT relay_name_key UNIQUE (name);

ALTER TABLE ONLY relay
    ADD CONSTRAINT relay_pkey PRIMARY KEY (id);

CREATE INDEX event_at_idx ON event USING btree (at);

CREATE INDEX fact_done_idx ON fact USING btree (done_at) WHERE (done_at IS NOT NULL);

CREATE INDEX fact_open_idx ON fact USING btree (fact_id) WHERE (done_at IS NULL);

CREATE INDEX live_expiry ON live USING btree (expires_at) WHERE (ended_at IS NULL);

CREATE UNIQUE INDEX live_one_per_device ON live USING btree (account_id, device_id) WHERE (ended_at IS NULL);

CREATE INDEX live_place_hub ON live_place USING btree (hub_serial);

CREATE INDEX live_place_relay ON live_place USING btree (relay_id);

REVOKE ALL ON TABLE audit FROM porchlight;
GRANT SELECT,INSERT,REFERENCES,TRIGGER ON TABLE audit TO porchlight;
