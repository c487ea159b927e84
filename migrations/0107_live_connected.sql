-- Who watches is counted from the viewers themselves: connected_at, since when the relay has one of them. A number kept beside them went down with each viewer that never came.
ALTER TABLE live_viewer ADD COLUMN connected_at timestamptz;
-- Those of sessions that run: their relays do not say it again.
UPDATE live_viewer v SET connected_at = l.created_at FROM live l WHERE l.account_id = v.account_id AND l.id = v.live_id AND v.kind = 'viewer' AND v.revoked_at IS NULL;
ALTER TABLE live DROP COLUMN viewers;
