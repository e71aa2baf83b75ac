-- The book of record. Every row but those of `meta` and `incarnations` begins with its customer,
-- so that an engine which spreads one database over machines can keep a customer in one place.
-- Instants are Unix milliseconds, amounts whole atoms. STRICT refuses a float in either.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE incarnations (
    incarnation TEXT NOT NULL PRIMARY KEY,
    sidecar TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE customers (
    customer TEXT NOT NULL PRIMARY KEY,
    wallet TEXT NOT NULL CHECK (wallet IN ('required', 'none')),
    created_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL, -- sequence of the last entry that changed a policy
    head_sequence INTEGER NOT NULL,
    head_hash TEXT NOT NULL,
    last_recorded_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    customer TEXT NOT NULL REFERENCES customers (customer),
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    path TEXT NOT NULL, -- canonical, with every ancestor and itself: 'department:a/team:b'
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    customer TEXT NOT NULL REFERENCES customers (customer),
    grant_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    issued_atoms INTEGER NOT NULL CHECK (issued_atoms > 0),
    effective_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    category TEXT NOT NULL,
    priority INTEGER NOT NULL,
    models TEXT NOT NULL, -- JSON list of patterns
    features TEXT NOT NULL, -- JSON list of patterns
    sequence INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0, -- 1 once its expiry stands in the journal
    PRIMARY KEY (customer, grant_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE budgets (
    customer TEXT NOT NULL REFERENCES customers (customer),
    budget_id TEXT NOT NULL,
    node TEXT NOT NULL, -- 'kind:id', or '' for the customer itself
    depth INTEGER NOT NULL, -- nodes above it, for "outermost first"
    path TEXT NOT NULL, -- as people write it: 'acme/team:b'
    match TEXT NOT NULL, -- JSON object, keys sorted
    each_child TEXT NOT NULL,
    currency TEXT NOT NULL,
    cadence TEXT NOT NULL,
    limit_atoms INTEGER NOT NULL CHECK (limit_atoms >= 0),
    hard INTEGER NOT NULL,
    on_outage TEXT NOT NULL,
    thresholds TEXT NOT NULL, -- JSON list of percents
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (customer, budget_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX budgets_identity ON budgets (customer, node, match, each_child, cadence, currency);

CREATE TABLE accounts (
    customer TEXT NOT NULL REFERENCES customers (customer),
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    source INTEGER NOT NULL,
    available INTEGER NOT NULL,
    held INTEGER NOT NULL,
    leased INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    revoked INTEGER NOT NULL,
    unaccounted INTEGER NOT NULL,
    alerted_percent INTEGER NOT NULL, -- highest threshold whose crossing stands in the journal
    wanted_until_ms INTEGER NOT NULL, -- until then somebody waits for what others hold
    PRIMARY KEY (customer, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    customer TEXT NOT NULL REFERENCES customers (customer),
    lease_id TEXT NOT NULL,
    account TEXT NOT NULL,
    sidecar TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    granted INTEGER NOT NULL,
    returned INTEGER NOT NULL,
    posted INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    pays_until_ms INTEGER NOT NULL, -- its holder cannot admit later than this without talking to us
    PRIMARY KEY (customer, lease_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX leases_open ON leases (customer, account) WHERE closed = 0;

CREATE INDEX leases_of_incarnation ON leases (incarnation) WHERE closed = 0;

-- Users, agents and sessions that once got an account of their own.
CREATE TABLE children (
    customer TEXT NOT NULL REFERENCES customers (customer),
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    first_seen_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX children_by_time ON children (customer, first_seen_at_ms);

CREATE TABLE entries (
    customer TEXT NOT NULL REFERENCES customers (customer),
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entry_key TEXT, -- NULL where nothing needs to be unique
    recorded_at_ms INTEGER NOT NULL,
    occurred_at_ms INTEGER NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (customer, sequence)
) STRICT;

-- What is booked once is booked once, whatever the code above believes. The key comes first, so
-- that a request can be found by its id alone.
CREATE UNIQUE INDEX entries_once ON entries (entry_key, kind, customer) WHERE entry_key IS NOT NULL;

CREATE INDEX usage_by_time ON entries (recorded_at_ms, customer, sequence) WHERE kind = 'usage';

CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
BEGIN
    SELECT raise(ABORT, 'entries are never updated');
END;

CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
BEGIN
    SELECT raise(ABORT, 'entries are never deleted');
END;

CREATE TABLE idempotency (
    customer TEXT NOT NULL,
    operation TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request TEXT NOT NULL, -- JSON, keys sorted
    answer TEXT NOT NULL, -- JSON
    recorded_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, operation, idempotency_key)
) STRICT, WITHOUT ROWID;
