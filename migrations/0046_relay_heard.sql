-- The number of the last report of a relay's process that was written: a report that comes again, because its answer was lost, is written once.
ALTER TABLE relay ADD COLUMN heard bigint NOT NULL DEFAULT 0;
