"""Amounts, grants, burn order, leases: what money is here and how it moves."""
