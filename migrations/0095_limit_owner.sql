-- Whose number a message went to, when it was proved to be theirs: what strangers ask for is no record of its owner (S-F4). Forgotten with the account.
ALTER TABLE limit_sent ADD COLUMN owner_id uuid;
CREATE INDEX limit_sent_owner ON limit_sent (owner_id, at) WHERE owner_id IS NOT NULL;
