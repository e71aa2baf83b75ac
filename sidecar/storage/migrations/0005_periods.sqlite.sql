-- The customer's time zones: JSON list of [since when (Unix ms), IANA name], oldest first. Periods are told by them.
ALTER TABLE customers ADD COLUMN timezones TEXT NOT NULL DEFAULT '[[0,"UTC"]]';

-- Where a budget's periods begin: a weekday, or a date; '' where the calendar says.
ALTER TABLE budgets ADD COLUMN anchor TEXT NOT NULL DEFAULT '';
