-- The book of record. Every row but those of `meta` and `incarnations` begins with its customer,
-- so that an engine which spreads one database over machines can keep a customer in one place.
-- Instants are Unix milliseconds, amounts whole atoms. Texts compare by their bytes, as they do in
-- SQLite: pages and ranges of names mean the same on both.
--
-- There are no references to `customers`: every transaction that writes a customer's rows has
-- locked that customer's own, and to look for it again at each row would cost more than the row.

CREATE TABLE meta (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
) WITH (fillfactor = 70);

-- What is locked by whoever writes what belongs to no customer.
INSERT INTO meta (name, value) VALUES ('system', '');

CREATE TABLE incarnations (
    incarnation TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sidecar TEXT COLLATE "C" NOT NULL,
    started_at_ms BIGINT NOT NULL,
    ended_at_ms BIGINT
);

CREATE TABLE customers (
    customer TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    wallet TEXT COLLATE "C" NOT NULL CHECK (wallet IN ('required', 'none')),
    created_at_ms BIGINT NOT NULL,
    revision BIGINT NOT NULL, -- sequence of the last entry that changed a policy
    head_sequence BIGINT NOT NULL,
    head_hash TEXT COLLATE "C" NOT NULL,
    last_recorded_at_ms BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE nodes (
    customer TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL, -- canonical, with every ancestor and itself: 'department:a/team:b'
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (customer, kind, id)
);

CREATE TABLE grants (
    customer TEXT COLLATE "C" NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    issued_atoms BIGINT NOT NULL CHECK (issued_atoms > 0),
    effective_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    category TEXT COLLATE "C" NOT NULL,
    priority BIGINT NOT NULL,
    models TEXT COLLATE "C" NOT NULL, -- JSON list of patterns
    features TEXT COLLATE "C" NOT NULL, -- JSON list of patterns
    sequence BIGINT NOT NULL,
    ended BIGINT NOT NULL DEFAULT 0, -- 1 once its expiry stands in the journal
    PRIMARY KEY (customer, grant_id)
);

CREATE TABLE budgets (
    customer TEXT COLLATE "C" NOT NULL,
    budget_id TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL, -- 'kind:id', or '' for the customer itself
    depth BIGINT NOT NULL, -- nodes above it, for "outermost first"
    path TEXT COLLATE "C" NOT NULL, -- as people write it: 'acme/team:b'
    match TEXT COLLATE "C" NOT NULL, -- JSON object, keys sorted
    each_child TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    cadence TEXT COLLATE "C" NOT NULL,
    limit_atoms BIGINT NOT NULL CHECK (limit_atoms >= 0),
    hard BIGINT NOT NULL,
    on_outage TEXT COLLATE "C" NOT NULL,
    thresholds TEXT COLLATE "C" NOT NULL, -- JSON list of percents
    version BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (customer, budget_id)
);

CREATE UNIQUE INDEX budgets_identity ON budgets (customer, node, match, each_child, cadence, currency);

CREATE TABLE accounts (
    customer TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    source BIGINT NOT NULL,
    available BIGINT NOT NULL,
    held BIGINT NOT NULL,
    leased BIGINT NOT NULL,
    consumed BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    unaccounted BIGINT NOT NULL,
    alerted_percent BIGINT NOT NULL, -- highest threshold whose crossing stands in the journal
    wanted_until_ms BIGINT NOT NULL, -- until then somebody waits for what others hold
    PRIMARY KEY (customer, account)
) WITH (fillfactor = 70);

CREATE TABLE leases (
    customer TEXT COLLATE "C" NOT NULL,
    lease_id TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    sidecar TEXT COLLATE "C" NOT NULL,
    incarnation TEXT COLLATE "C" NOT NULL,
    granted BIGINT NOT NULL,
    returned BIGINT NOT NULL,
    posted BIGINT NOT NULL,
    closed BIGINT NOT NULL,
    pays_until_ms BIGINT NOT NULL, -- its holder cannot admit later than this without talking to us
    PRIMARY KEY (customer, lease_id)
) WITH (fillfactor = 70);

CREATE INDEX leases_open ON leases (customer, account) WHERE closed = 0;

CREATE INDEX leases_of_incarnation ON leases (incarnation) WHERE closed = 0;

-- Users, agents and sessions that once got an account of their own.
CREATE TABLE children (
    customer TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    first_seen_at_ms BIGINT NOT NULL,
    PRIMARY KEY (customer, kind, id)
);

CREATE INDEX children_by_time ON children (customer, first_seen_at_ms);

CREATE TABLE entries (
    customer TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    entry_key TEXT COLLATE "C", -- NULL where nothing needs to be unique
    recorded_at_ms BIGINT NOT NULL,
    occurred_at_ms BIGINT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (customer, sequence)
);

-- What is booked once is booked once, whatever the code above believes. The key comes first, so
-- that a request can be found by its id alone.
CREATE UNIQUE INDEX entries_once ON entries (entry_key, kind, customer) WHERE entry_key IS NOT NULL;

CREATE INDEX usage_by_time ON entries (recorded_at_ms, customer, sequence) WHERE kind = 'usage';

CREATE FUNCTION refuse_to_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are never updated or deleted', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER entries_are_not_changed BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change();

CREATE TRIGGER entries_are_not_emptied BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change();

CREATE TABLE idempotency (
    customer TEXT COLLATE "C" NOT NULL,
    operation TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    request TEXT COLLATE "C" NOT NULL, -- JSON, keys sorted
    answer TEXT COLLATE "C" NOT NULL, -- JSON
    recorded_at_ms BIGINT NOT NULL,
    PRIMARY KEY (customer, operation, idempotency_key)
);
