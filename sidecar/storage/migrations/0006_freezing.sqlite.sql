-- Customers, nodes of their trees and users whose calls may not run.
CREATE TABLE frozen (
    customer TEXT NOT NULL REFERENCES customers (customer),
    node TEXT NOT NULL, -- 'kind:id', or '' for the customer itself
    frozen_at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (customer, node)
) STRICT, WITHOUT ROWID;

-- How many rows of `frozen` a customer has: nearly always none, and then nobody looks.
ALTER TABLE customers ADD COLUMN frozen_nodes INTEGER NOT NULL DEFAULT 0;

-- The newest revision of the customer by which the holder has said that it decides; 0: it has said none.
ALTER TABLE leases ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;
