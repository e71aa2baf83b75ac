"""The book of record: its rules, its API, its client."""
