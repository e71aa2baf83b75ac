-- Tokens of the ledger's API. The token itself is nowhere, only its SHA-256. Those that reach over
-- the whole ledger stand under the customer '_system', which is in no other table.
CREATE TABLE api_tokens (
    customer TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    token_sha256 TEXT COLLATE "C" NOT NULL, -- 64 hex digits
    role TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL, -- what it reaches: '', 'acme' or 'acme/team:b'
    created_at_ms BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at_ms BIGINT, -- NULL for never
    revoked_at_ms BIGINT, -- NULL while it is good
    revoked_by TEXT COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (customer, name)
);

-- The digest comes first, for a token is all that a request brings.
CREATE UNIQUE INDEX api_tokens_by_digest ON api_tokens (token_sha256, customer);
