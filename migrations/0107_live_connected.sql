-- Who watches is counted from the viewers themselves: connected_at, since when the relay has one of them. A number kept beside them went down with each viewer that never came.
ALTER TABLE live_viewer ADD COLUMN connected_at timestamptz;
ALTER TABLE live DROP COLUMN viewers;
