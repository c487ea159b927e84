-- One MFA question with its PIN. Keyed by its own id: a person who signs up has no account yet. subject_id is whose tries count together: the account, or
-- the sign-up. The PIN stands here only as a keyed hash; the key (pin_key names it) is outside the database.
CREATE TABLE challenge (
    id uuid NOT NULL CONSTRAINT challenge_key PRIMARY KEY,
    account_id uuid,
    subject_id uuid NOT NULL,
    client_id uuid,
    purpose text NOT NULL,
    key_hash bytea NOT NULL,
    channel text CONSTRAINT challenge_channel_check CHECK (channel IN ('email', 'sms', 'voice')),
    destination text,
    context text,
    decoy boolean NOT NULL,
    pin_hash bytea,
    pin_key smallint NOT NULL,
    sent_count smallint NOT NULL CONSTRAINT challenge_sends_check CHECK (sent_count BETWEEN 0 AND 5),
    tries smallint NOT NULL CONSTRAINT challenge_tries_check CHECK (tries BETWEEN 0 AND 5),
    issued_at timestamptz,
    expires_at timestamptz NOT NULL,
    resend_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    verified_at timestamptz
);
CREATE INDEX challenge_ends ON challenge (ends_at);
CREATE INDEX challenge_account ON challenge (account_id);

-- Locks the counting of one subject and purpose, over all its challenges.
CREATE TABLE challenge_budget (
    subject_id uuid NOT NULL,
    purpose text NOT NULL,
    touched_at timestamptz NOT NULL,
    CONSTRAINT challenge_budget_key PRIMARY KEY (subject_id, purpose)
);
CREATE INDEX challenge_budget_touched ON challenge_budget (touched_at);

-- One row a try, made before the comparison and taken back when the PIN was right: what stands here were wrong ones.
CREATE TABLE challenge_try (
    subject_id uuid NOT NULL,
    purpose text NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT challenge_try_key PRIMARY KEY (subject_id, purpose, id)
);
CREATE INDEX challenge_try_at ON challenge_try (at);
