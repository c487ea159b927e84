-- Who brought in whom, so that who revokes one sees who came by him. Empty: the machine's owner.
ALTER TABLE admin ADD COLUMN invited_by uuid;
CREATE INDEX admin_invited_by ON admin (invited_by);
