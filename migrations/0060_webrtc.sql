-- The SHA-256 of the certificate that a relay shows to browsers, new at each start of it: an answer is written before the relay is asked.
ALTER TABLE relay ADD COLUMN fingerprint bytea;
