-- What the relay counted of a watched session and its viewers, as it said last (every five seconds while somebody watches).
ALTER TABLE live ADD COLUMN figures jsonb;
ALTER TABLE live ADD COLUMN figures_at timestamptz;
