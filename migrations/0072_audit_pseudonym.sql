-- S-S11: the audit of an account stands under a pseudonym, and this is the only place that says whose. The row goes with the account; the audit stays, and is nobody's.
CREATE TABLE audit_pseudonym (
    account_id uuid NOT NULL CONSTRAINT audit_pseudonym_key PRIMARY KEY,
    pseudonym uuid NOT NULL
);
-- Accounts made before this file keep the chain that they have, which stands under their own id.
INSERT INTO audit_pseudonym (account_id, pseudonym) SELECT account_id, account_id FROM account;
