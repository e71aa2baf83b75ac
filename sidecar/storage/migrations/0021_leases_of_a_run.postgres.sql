-- The leases of one run of a sidecar, closed ones too, which is what its end asks for: the index that had only the open
-- ones did not serve that, and a plan made for an empty table read the whole of it to count who holds an account.
DROP INDEX leases_of_incarnation;

CREATE INDEX leases_by_incarnation ON leases (incarnation);
