-- How long a budget's window is from its first use on; 0 where a calendar tells its periods.
ALTER TABLE budgets ADD COLUMN window_ms BIGINT NOT NULL DEFAULT 0;

DROP INDEX budgets_identity;

CREATE UNIQUE INDEX budgets_identity
    ON budgets (customer, node, match, each_child, cadence, currency, guardrail, window_ms);
