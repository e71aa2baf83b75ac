-- As the other tables (0014): customers whose transactions are committed together.
ALTER POLICY of_one_customer ON rate_limits USING (
    customer = current_setting('spend.customer', true) OR current_setting('spend.everyone', true) = 'on'
    OR strpos(current_setting('spend.customers', true), ' ' || customer || ' ') > 0
);
