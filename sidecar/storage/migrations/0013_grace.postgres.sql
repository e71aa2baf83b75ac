-- What a budget with on_outage 'grace' may spend beyond its limit in each period while the ledger is away (L47).
ALTER TABLE budgets ADD COLUMN grace_atoms BIGINT NOT NULL DEFAULT 0;
