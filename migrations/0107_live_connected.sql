-- Who watches is counted from the viewers themselves: connected_at, since when the relay has one of them. A number kept beside them went down with each viewer that never came.
ALTER TABLE live_viewer ADD COLUMN connected_at timestamptz;
UPDATE live_viewer SET connected_at = now() WHERE kind = 'viewer' AND revoked_at IS NULL; -- those of sessions that run: their relays do not say it again
ALTER TABLE live DROP COLUMN viewers;
