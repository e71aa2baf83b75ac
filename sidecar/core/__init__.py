"""The rules: no input or output, clock, randomness or logging; shared by the sidecar and the ledger."""
