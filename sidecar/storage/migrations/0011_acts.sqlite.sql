-- Which entries people brought about, so that who did what can be listed without reading the whole journal.
CREATE TABLE acts (
    customer TEXT NOT NULL REFERENCES customers (customer),
    sequence INTEGER NOT NULL, -- of its entry
    actor TEXT NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX acts_by_time ON acts (recorded_at_ms, customer, sequence);

-- Those of before: the text of an entry begins with its actor.
INSERT INTO acts (customer, sequence, actor, recorded_at_ms)
    SELECT customer, sequence, substr(body, 11, instr(body, '","customer":"') - 11), recorded_at_ms FROM entries
    WHERE kind IN (
        'customer_added', 'timezone_set', 'nodes_added', 'grant_issued', 'grant_voided', 'budget_set', 'budget_removed',
        'node_moved', 'frozen', 'unfrozen', 'key_created', 'key_revoked', 'token_made', 'token_revoked'
    );

CREATE TRIGGER acts_are_not_updated BEFORE UPDATE ON acts
BEGIN
    SELECT raise(ABORT, 'acts are never updated');
END;

CREATE TRIGGER acts_are_not_deleted BEFORE DELETE ON acts
BEGIN
    SELECT raise(ABORT, 'acts are never deleted');
END;
