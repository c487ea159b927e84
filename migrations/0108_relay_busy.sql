-- How busy a relay's thread is, in percent of a core, as it said last: a busy one takes nobody new, whatever it has in sessions.
ALTER TABLE relay ADD COLUMN busy integer NOT NULL DEFAULT 0;
