"""Spending power held here: the table that spends it and the keeper that renews it."""
