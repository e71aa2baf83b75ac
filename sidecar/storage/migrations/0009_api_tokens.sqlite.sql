-- Tokens of the ledger's API. The token itself is nowhere, only its SHA-256. Those that reach over
-- the whole ledger stand under the customer '_system', which is in no other table.
CREATE TABLE api_tokens (
    customer TEXT NOT NULL,
    name TEXT NOT NULL,
    token_sha256 TEXT NOT NULL, -- 64 hex digits
    role TEXT NOT NULL,
    path TEXT NOT NULL, -- what it reaches: '', 'acme' or 'acme/team:b'
    created_at_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at_ms INTEGER, -- NULL for never
    revoked_at_ms INTEGER, -- NULL while it is good
    revoked_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (customer, name)
) STRICT, WITHOUT ROWID;

-- The digest comes first, for a token is all that a request brings.
CREATE UNIQUE INDEX api_tokens_by_digest ON api_tokens (token_sha256, customer);
