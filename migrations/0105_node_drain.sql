-- Since when a node sends whom it serves to the others, because it is about to end; null: it does not.
ALTER TABLE node ADD COLUMN draining_since timestamptz;
