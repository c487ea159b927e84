-- A system: a named group of devices of one account. version is raised by every change; raising it is also how slots are taken one after another.
CREATE TABLE system (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT system_key PRIMARY KEY (account_id, id)
);
-- "Home" and "home" are one name.
CREATE UNIQUE INDEX system_name_key ON system (account_id, lower(name));
