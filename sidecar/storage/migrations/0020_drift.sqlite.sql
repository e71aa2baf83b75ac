-- What was charged on a lease in all by its holder's count, as far as was heard, and by how much that was more than
-- was posted on it then. NULL: its holder has not said.
ALTER TABLE leases ADD COLUMN tally INTEGER;
ALTER TABLE leases ADD COLUMN drift INTEGER NOT NULL DEFAULT 0;

-- How each sidecar is, as it said when it was heard: its version, and what waits in its outbox. NULL: it has not said.
ALTER TABLE fleet ADD COLUMN software TEXT NOT NULL DEFAULT '';
ALTER TABLE fleet ADD COLUMN outbox_calls INTEGER;
ALTER TABLE fleet ADD COLUMN outbox_age_ms INTEGER;
ALTER TABLE fleet ADD COLUMN outbox_bytes INTEGER;
