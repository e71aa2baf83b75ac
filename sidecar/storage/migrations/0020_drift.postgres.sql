-- What was charged on a lease in all by its holder's count, as far as was heard, and by how much that was more than
-- was posted on it then. NULL: its holder has not said.
ALTER TABLE leases ADD COLUMN tally BIGINT;
ALTER TABLE leases ADD COLUMN drift BIGINT NOT NULL DEFAULT 0;

-- How each sidecar is, as it said when it was heard: its version, and what waits in its outbox. NULL: it has not said.
ALTER TABLE fleet ADD COLUMN software TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE fleet ADD COLUMN outbox_calls BIGINT;
ALTER TABLE fleet ADD COLUMN outbox_age_ms BIGINT;
ALTER TABLE fleet ADD COLUMN outbox_bytes BIGINT;
