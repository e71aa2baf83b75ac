-- Until when a virtual key is good, NULL for ever; and the last day on which a sidecar asked for it (days since 1970,
-- UTC), NULL if none has.
ALTER TABLE virtual_keys ADD COLUMN expires_at_ms INTEGER;
ALTER TABLE virtual_keys ADD COLUMN last_used_day INTEGER;
