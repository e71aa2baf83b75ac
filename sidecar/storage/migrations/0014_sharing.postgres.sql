-- Customers whose transactions are committed together are the `spend.customers` of that one, each between blanks: what is
-- done for all of them in one statement sees and writes their rows, and nobody else's (`storage/postgres_rows.py`).

ALTER POLICY of_one_customer ON customers USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON nodes USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON grants USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON budgets USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON accounts USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON leases USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON children USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON entries USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON calls USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON acts USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON idempotency USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON virtual_keys USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON frozen USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);

ALTER POLICY of_one_customer ON api_tokens USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);
