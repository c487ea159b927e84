-- Messages to phones that were paid for, for two days: how many of a prefix of numbers were answered (S-F4).
CREATE TABLE limit_sent (
    prefix text NOT NULL,
    id uuid NOT NULL,
    challenge_id uuid NOT NULL,
    at timestamptz NOT NULL,
    answered boolean NOT NULL,
    CONSTRAINT limit_sent_key PRIMARY KEY (prefix, id)
);
CREATE INDEX limit_sent_challenge ON limit_sent (challenge_id);
CREATE INDEX limit_sent_at ON limit_sent (at);

-- Prefixes of numbers that are sent nothing. stops: how often in a row; each lasts twice as long as the one before.
CREATE TABLE limit_stop (
    prefix text NOT NULL CONSTRAINT limit_stop_key PRIMARY KEY,
    stops integer NOT NULL,
    until timestamptz NOT NULL
);
CREATE INDEX limit_stop_until ON limit_stop (until);

-- Wrong passwords (S-A6). id is a hash over e-mail and address prefix, or over the prefix alone. No try is taken before `until`.
CREATE TABLE limit_failure (
    id bytea NOT NULL CONSTRAINT limit_failure_key PRIMARY KEY,
    failures integer NOT NULL,
    until timestamptz NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX limit_failure_at ON limit_failure (at);
