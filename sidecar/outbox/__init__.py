"""Settled usage on local disk until the ledger has acknowledged it."""
