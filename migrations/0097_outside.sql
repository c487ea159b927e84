-- Accounts elsewhere (OpenID Connect) by which somebody may log in. An outside account belongs to one account at most.
CREATE TABLE outside_subject (
    issuer text NOT NULL,
    subject text NOT NULL,
    account_id uuid NOT NULL,
    CONSTRAINT outside_subject_key PRIMARY KEY (issuer, subject)
);

-- What an account has linked: one a provider. label: what its owner knows it by; used_at: empty until somebody logs in by it.
CREATE TABLE outside_link (
    account_id uuid NOT NULL,
    provider text NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    label text,
    linked_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT outside_link_key PRIMARY KEY (account_id, provider)
);

-- Who was sent to a provider and has not come back, for minutes. Of linking: account and client; of a log-in: the hash of the key that its app keeps.
CREATE TABLE outside_flow (
    state_hash bytea NOT NULL CONSTRAINT outside_flow_key PRIMARY KEY,
    provider text NOT NULL,
    account_id uuid,
    client_id uuid,
    key_hash bytea,
    created_at timestamptz NOT NULL
);
CREATE INDEX outside_flow_created ON outside_flow (created_at);
CREATE INDEX outside_flow_account ON outside_flow (account_id);
