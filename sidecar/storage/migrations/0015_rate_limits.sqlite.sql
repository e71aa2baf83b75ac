-- Rate limits of a customer's nodes and users: how many requests or tokens in any window, how many calls at once.
-- Where a node stands is told by `nodes`; '' is the customer itself.
CREATE TABLE rate_limits (
    customer TEXT NOT NULL REFERENCES customers (customer),
    limit_id TEXT NOT NULL,
    node TEXT NOT NULL, -- 'kind:id', or '' for the customer itself
    match TEXT NOT NULL, -- JSON: a pattern by dimension
    each_child TEXT NOT NULL,
    counts TEXT NOT NULL, -- requests, tokens or concurrent
    window_ms INTEGER NOT NULL, -- 0 for concurrent
    most INTEGER NOT NULL,
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL, -- the entry that set it first
    PRIMARY KEY (customer, limit_id),
    UNIQUE (customer, node, match, each_child, counts, window_ms)
) STRICT, WITHOUT ROWID;

-- How many a customer has: nearly always none, and then nobody looks.
ALTER TABLE customers ADD COLUMN rate_limits INTEGER NOT NULL DEFAULT 0;

-- When each sidecar was last heard, roughly: those heard of late share what they cannot count together.
CREATE TABLE fleet (
    sidecar TEXT NOT NULL PRIMARY KEY,
    heard_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
