-- Messages on their way out: queued -> leased -> sent -> done | expired | dead. The body (destination, text, PIN) is sealed under a key that is not in the
-- database, and is wiped when the row leaves queued/leased. account_id is NULL for messages to people who have no account yet.
CREATE TABLE outbox (
    id uuid NOT NULL CONSTRAINT outbox_key PRIMARY KEY,
    account_id uuid,
    ref uuid,
    kind text NOT NULL,
    channel text NOT NULL CONSTRAINT outbox_channel_check CHECK (channel IN ('email', 'sms', 'voice')),
    status text NOT NULL CONSTRAINT outbox_status_check CHECK (status IN ('queued', 'leased', 'sent', 'done', 'expired', 'dead')),
    body bytea,
    lease uuid,
    attempts smallint NOT NULL,
    next_at timestamptz NOT NULL,
    send_by timestamptz NOT NULL,
    wipe_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    why text,
    CONSTRAINT outbox_body_check CHECK ((body IS NOT NULL) = (status IN ('queued', 'leased')))
);
CREATE INDEX outbox_due ON outbox (next_at) WHERE status IN ('queued', 'leased');
CREATE INDEX outbox_wipe ON outbox (wipe_at) WHERE status IN ('queued', 'leased');
CREATE INDEX outbox_ended ON outbox (ended_at);
CREATE INDEX outbox_ref ON outbox (ref);
CREATE INDEX outbox_account ON outbox (account_id);
