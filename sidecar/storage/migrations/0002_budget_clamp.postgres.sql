-- Whether a call's output limit may be lowered so that it fits this budget (1), or an answer must not be shortened (0).
ALTER TABLE budgets ADD COLUMN clamp BIGINT NOT NULL DEFAULT 1;
