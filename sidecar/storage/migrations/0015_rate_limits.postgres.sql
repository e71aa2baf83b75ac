-- Rate limits of a customer's nodes and users: how many requests or tokens in any window, how many calls at once.
-- Where a node stands is told by `nodes`; '' is the customer itself.
CREATE TABLE rate_limits (
    customer TEXT COLLATE "C" NOT NULL REFERENCES customers (customer),
    limit_id TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL, -- 'kind:id', or '' for the customer itself
    match TEXT COLLATE "C" NOT NULL, -- JSON: a pattern by dimension
    each_child TEXT COLLATE "C" NOT NULL,
    counts TEXT COLLATE "C" NOT NULL, -- requests, tokens or concurrent
    window_ms BIGINT NOT NULL, -- 0 for concurrent
    most BIGINT NOT NULL,
    version BIGINT NOT NULL,
    sequence BIGINT NOT NULL, -- the entry that set it first
    PRIMARY KEY (customer, limit_id),
    UNIQUE (customer, node, match, each_child, counts, window_ms)
);

ALTER TABLE rate_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_limits FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON rate_limits USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

-- How many a customer has: nearly always none, and then nobody looks.
ALTER TABLE customers ADD COLUMN rate_limits BIGINT NOT NULL DEFAULT 0;

-- When each sidecar was last heard, roughly: those heard of late share what they cannot count together.
CREATE TABLE fleet (
    sidecar TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    heard_at_ms BIGINT NOT NULL
);
