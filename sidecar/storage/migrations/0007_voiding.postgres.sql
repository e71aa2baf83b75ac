-- 1 once somebody has voided the grant: what comes back of it is revoked, whenever it comes. It has ended then, too.
ALTER TABLE grants ADD COLUMN voided BIGINT NOT NULL DEFAULT 0;
