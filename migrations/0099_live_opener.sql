-- Who opened a session: their export tells of it, wherever the home of its system is. With that account goes who it was, and by which client. NULL: an account that is no more.
ALTER TABLE live ADD COLUMN opener_id uuid;
ALTER TABLE live ALTER COLUMN client_id DROP NOT NULL;
UPDATE live SET opener_id = c.account_id FROM client c WHERE c.id = live.client_id;
UPDATE live SET opener_id = d.account_id FROM delegation d WHERE d.id = live.client_id;
UPDATE live SET client_id = NULL WHERE opener_id IS NULL;
CREATE INDEX live_opener ON live (opener_id, id);

-- By what does not change when a system moves to another home: the running session of a device, a viewer of a session.
CREATE INDEX live_device ON live (device_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX live_viewer_id_key ON live_viewer (live_id, viewer_id);
