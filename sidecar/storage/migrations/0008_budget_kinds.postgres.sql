-- 'cap', or 'allocation': a part of a budget above, which is never divided into more than it has.
ALTER TABLE budgets ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT 'cap';

-- 1: a member set it for itself, beside what others have set for the same, and never above that.
ALTER TABLE budgets ADD COLUMN guardrail BIGINT NOT NULL DEFAULT 0;

DROP INDEX budgets_identity;

CREATE UNIQUE INDEX budgets_identity ON budgets (customer, node, match, each_child, cadence, currency, guardrail);
