-- Who is given some systems of an account only (delegation.systems) is told of those only: in which system an event happened. Empty: it is about the account itself.
ALTER TABLE event ADD COLUMN system_id uuid;

-- What the person chose, until the code is brought: 16 bytes a system; empty: all, also those to come.
ALTER TABLE oauth_code ADD COLUMN systems bytea;
