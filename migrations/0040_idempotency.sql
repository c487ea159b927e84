-- Answers of calls that came with an Idempotency-Key (S-S9), written in the transaction of the call's effect and kept 24 hours. owner_id is the account; for calls
-- of nobody signed in it is made from the key. Of the key only a hash is here; what seals the answer is made from the key itself.
CREATE TABLE idempotency (
    owner_id uuid NOT NULL,
    key_hash bytea NOT NULL,
    request_hash bytea NOT NULL,
    answer bytea NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT idempotency_pkey PRIMARY KEY (owner_id, key_hash)
);
CREATE INDEX idempotency_created_idx ON idempotency (created_at);
