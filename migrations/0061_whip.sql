-- A hub that publishes by WebRTC is handed a token for its offer (WHIP): its hash and its end stand here until it is spent.
ALTER TABLE live_place ADD COLUMN whip_hash bytea;
ALTER TABLE live_place ADD COLUMN whip_until timestamptz;
