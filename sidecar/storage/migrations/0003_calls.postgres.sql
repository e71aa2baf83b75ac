-- Settled calls are booked many at a time: an entry of kind 'usage' is the posting of all calls of a batch, and
-- beside its text stand those calls as they were recorded (`ledger/booked_calls.py`), NULL in entries from before.
-- They are compressed already.
ALTER TABLE entries ADD COLUMN calls BYTEA;
ALTER TABLE entries ALTER COLUMN calls SET STORAGE EXTERNAL;

-- Where a call is booked, by its id alone; and that each is booked once, whatever the code above believes.
CREATE TABLE calls (
    request_id TEXT COLLATE "C" NOT NULL,
    customer TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL, -- of its entry
    position BIGINT NOT NULL, -- among the calls of it, from 0
    checksum BIGINT NOT NULL, -- CRC-32 of its bytes, so that a change is found in the call and not only in the batch
    PRIMARY KEY (request_id, customer)
);

INSERT INTO calls (request_id, customer, sequence, position, checksum)
    SELECT entry_key, customer, sequence, 0, 0 FROM entries WHERE kind = 'usage' ORDER BY entry_key;

CREATE TRIGGER calls_are_not_changed BEFORE UPDATE OR DELETE ON calls
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change();

CREATE TRIGGER calls_are_not_emptied BEFORE TRUNCATE ON calls
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change();
