-- What of a lease was put elsewhere because its holder was not heard, and where it stands: '' (nowhere), 'unaccounted'
-- after the write-off age, or 'spent' where a person said so. When its holder speaks, it is in the lease again.
ALTER TABLE leases ADD COLUMN resolution TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN resolved BIGINT NOT NULL DEFAULT 0;
