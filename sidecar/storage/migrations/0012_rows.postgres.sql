-- The second wall between customers (S-31): a transaction sees and writes the rows of the customer that it has set,
-- and those of all only where it says so. With neither set there are none. FORCE: also for who owns the tables.

ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE customers FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON customers USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE nodes ENABLE ROW LEVEL SECURITY;
ALTER TABLE nodes FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON nodes USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE grants FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON grants USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON budgets USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON accounts USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE leases FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON leases USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE children ENABLE ROW LEVEL SECURITY;
ALTER TABLE children FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON children USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE entries FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON entries USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON calls USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE acts ENABLE ROW LEVEL SECURITY;
ALTER TABLE acts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON acts USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON idempotency USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE virtual_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE virtual_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON virtual_keys USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE frozen ENABLE ROW LEVEL SECURITY;
ALTER TABLE frozen FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON frozen USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);

ALTER TABLE api_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY of_one_customer ON api_tokens USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
);
