-- The language in which somebody is written to: a tag as in Accept-Language (RFC 5646). Of a challenge: so that its resends are in the same.
ALTER TABLE account ADD COLUMN locale text NOT NULL DEFAULT 'en';
ALTER TABLE signup ADD COLUMN locale text NOT NULL DEFAULT 'en';
ALTER TABLE challenge ADD COLUMN locale text NOT NULL DEFAULT 'en';

-- Calls under way: what they say when the key is pressed, sealed as in the outbox (S-P12). Minutes at most.
CREATE TABLE voice_call (
    id uuid NOT NULL CONSTRAINT voice_call_key PRIMARY KEY,
    account_id uuid,
    ref uuid,
    body bytea NOT NULL,
    ends_at timestamptz NOT NULL
);
CREATE INDEX voice_call_ends ON voice_call (ends_at);
CREATE INDEX voice_call_ref ON voice_call (ref);
CREATE INDEX voice_call_account ON voice_call (account_id);
