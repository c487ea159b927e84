-- What the foundations (db, journal, node) need. Each file is applied in one transaction and never changed afterwards; forward only.

-- What was applied, so that a changed or missing file is refused.
CREATE TABLE migration (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied_at timestamptz NOT NULL,
    CONSTRAINT migration_pkey PRIMARY KEY (version)
);

-- One row. Whoever applies a migration holds it locked until that migration is committed.
CREATE TABLE migration_lease (
    lease_id integer NOT NULL,
    holder uuid,
    taken_at timestamptz,
    CONSTRAINT migration_lease_pkey PRIMARY KEY (lease_id),
    CONSTRAINT migration_lease_one CHECK (lease_id = 1)
);
INSERT INTO migration_lease (lease_id) VALUES (1);

-- A running porchlightd. What hangs on its life (presence of hubs and relays) is joined with lease_until: a dead node marks all of it at once.
CREATE TABLE node (
    node_id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    CONSTRAINT node_pkey PRIMARY KEY (node_id)
);

-- Effects that travel upward against the arrows. A queue of the whole service, not account data: taken oldest first (UUIDv7), leased, done.
CREATE TABLE fact (
    fact_id uuid NOT NULL,
    kind text NOT NULL,
    account_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    detail jsonb NOT NULL,
    lease_until timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    done_at timestamptz,
    CONSTRAINT fact_pkey PRIMARY KEY (fact_id)
);
CREATE INDEX fact_open_idx ON fact (fact_id) WHERE done_at IS NULL;
CREATE INDEX fact_done_idx ON fact (done_at) WHERE done_at IS NOT NULL;

-- What apps see, numbered per account from 1 without gaps; event_counter hands the numbers out.
CREATE TABLE event_counter (
    account_id uuid NOT NULL,
    head bigint NOT NULL,
    CONSTRAINT event_counter_pkey PRIMARY KEY (account_id)
);
CREATE TABLE event (
    account_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamptz NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT event_pkey PRIMARY KEY (account_id, number)
);
CREATE INDEX event_at_idx ON event (at);

-- S-S11: one hash chain per subject (account or device). detail is text, not jsonb: the hash is over its exact bytes.
CREATE TABLE audit_head (
    subject_id uuid NOT NULL,
    number bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT audit_head_pkey PRIMARY KEY (subject_id)
);
CREATE TABLE audit (
    subject_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamptz NOT NULL,
    actor_id uuid,
    action text NOT NULL,
    detail text NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (subject_id, number)
);
-- Insert-only even for the role that owns the table.
REVOKE UPDATE, DELETE, TRUNCATE ON audit FROM CURRENT_USER;
