-- Whose client watches a running session: a revoked client's sessions end although another one opened them (S-S5). Gone when the session ends.
CREATE TABLE live_viewer (
    account_id uuid NOT NULL,
    live_id    uuid NOT NULL,
    client_id  uuid NOT NULL,
    PRIMARY KEY (account_id, live_id, client_id)
);

-- Sessions that ended are forgotten some time later.
CREATE INDEX live_ended ON live (ended_at) WHERE ended_at IS NOT NULL;
