-- What of a lease was put elsewhere because its holder was not heard, and where it stands: '' (nowhere), 'unaccounted'
-- after the write-off age, or 'spent' where a person said so. When its holder speaks, it is in the lease again.
ALTER TABLE leases ADD COLUMN resolution TEXT NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN resolved INTEGER NOT NULL DEFAULT 0;
