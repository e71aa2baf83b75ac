"""Settings, and one wiring module per process."""
