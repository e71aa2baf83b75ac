-- Which entries people brought about, so that who did what can be listed without reading the whole journal.
CREATE TABLE acts (
    customer TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL, -- of its entry
    actor TEXT COLLATE "C" NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    PRIMARY KEY (customer, sequence)
);

CREATE INDEX acts_by_time ON acts (recorded_at_ms, customer, sequence);

-- Those of before: the text of an entry begins with its actor.
INSERT INTO acts (customer, sequence, actor, recorded_at_ms)
    SELECT customer, sequence, substr(body, 11, position('","customer":"' IN body) - 11), recorded_at_ms FROM entries
    WHERE kind IN (
        'customer_added', 'timezone_set', 'nodes_added', 'grant_issued', 'grant_voided', 'budget_set', 'budget_removed',
        'node_moved', 'frozen', 'unfrozen', 'key_created', 'key_revoked', 'token_made', 'token_revoked'
    );

CREATE TRIGGER acts_are_not_changed BEFORE UPDATE OR DELETE ON acts
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change();

CREATE TRIGGER acts_are_not_emptied BEFORE TRUNCATE ON acts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change();
