-- Virtual keys: each names a subject of its customer. The key itself is nowhere, only its SHA-256.
CREATE TABLE virtual_keys (
    customer TEXT NOT NULL REFERENCES customers (customer),
    key_id TEXT NOT NULL,
    sha256 TEXT NOT NULL, -- 64 hex digits
    name TEXT NOT NULL,
    subject TEXT NOT NULL, -- JSON, as `core.governance.tenancy.Subject`
    created_at_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    sequence INTEGER NOT NULL, -- of the entry that made it
    revoked_at_ms INTEGER, -- NULL while it is good
    revoked_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (customer, key_id)
) STRICT, WITHOUT ROWID;

-- The digest comes first, for a key is all that a request brings.
CREATE UNIQUE INDEX virtual_keys_by_digest ON virtual_keys (sha256, customer);

CREATE INDEX virtual_keys_in_order ON virtual_keys (customer, sequence);
