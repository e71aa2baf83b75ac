-- Customers, nodes of their trees and users whose calls may not run.
CREATE TABLE frozen (
    customer TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL, -- 'kind:id', or '' for the customer itself
    frozen_at_ms BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (customer, node)
);

-- How many rows of `frozen` a customer has: nearly always none, and then nobody looks.
ALTER TABLE customers ADD COLUMN frozen_nodes BIGINT NOT NULL DEFAULT 0;

-- The newest revision of the customer by which the holder has said that it decides; 0: it has said none.
ALTER TABLE leases ADD COLUMN heard BIGINT NOT NULL DEFAULT 0;
