-- Settled calls are booked many at a time: an entry of kind 'usage' is the posting of all calls of a batch, and
-- beside its text stand those calls as they were recorded (`ledger/booked_calls.py`), NULL in entries from before.
ALTER TABLE entries ADD COLUMN calls BLOB;

-- Where a call is booked, by its id alone; and that each is booked once, whatever the code above believes.
CREATE TABLE calls (
    request_id TEXT NOT NULL,
    customer TEXT NOT NULL REFERENCES customers (customer),
    sequence INTEGER NOT NULL, -- of its entry
    position INTEGER NOT NULL, -- among the calls of it, from 0
    checksum INTEGER NOT NULL, -- CRC-32 of its bytes, so that a change is found in the call and not only in the batch
    PRIMARY KEY (request_id, customer)
) STRICT, WITHOUT ROWID;

INSERT INTO calls (request_id, customer, sequence, position, checksum)
    SELECT entry_key, customer, sequence, 0, 0 FROM entries WHERE kind = 'usage' ORDER BY entry_key;

CREATE TRIGGER calls_are_not_updated BEFORE UPDATE ON calls
BEGIN
    SELECT raise(ABORT, 'calls are never updated');
END;

CREATE TRIGGER calls_are_not_deleted BEFORE DELETE ON calls
BEGIN
    SELECT raise(ABORT, 'calls are never deleted');
END;
