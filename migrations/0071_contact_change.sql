-- S-P11. A change of e-mail or phone that can be undone by the link that went to the old one. The old address stays reserved as long as its row stands.
CREATE TABLE contact_change (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT contact_change_kind_check CHECK (kind IN ('email', 'phone')),
    old_value text NOT NULL,
    new_value text NOT NULL,
    undo_hash bytea NOT NULL CONSTRAINT contact_change_undo UNIQUE,
    at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    CONSTRAINT contact_change_key PRIMARY KEY (account_id, id)
);
CREATE INDEX contact_change_ends ON contact_change (ends_at);
