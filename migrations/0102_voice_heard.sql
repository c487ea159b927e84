-- Signatures of the questions that were answered about a call, 32 bytes each: none is answered twice.
ALTER TABLE voice_call ADD COLUMN heard bytea NOT NULL DEFAULT '';
