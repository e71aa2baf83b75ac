-- Virtual keys: each names a subject of its customer. The key itself is nowhere, only its SHA-256.
CREATE TABLE virtual_keys (
    customer TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL, -- 64 hex digits
    name TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL, -- JSON, as `core.governance.tenancy.Subject`
    created_at_ms BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL, -- of the entry that made it
    revoked_at_ms BIGINT, -- NULL while it is good
    revoked_by TEXT COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (customer, key_id)
);

-- The digest comes first, for a key is all that a request brings.
CREATE UNIQUE INDEX virtual_keys_by_digest ON virtual_keys (sha256, customer);

CREATE INDEX virtual_keys_in_order ON virtual_keys (customer, sequence);
