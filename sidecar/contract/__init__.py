"""What the sidecar and the ledger say to each other: messages to bytes and back, versioned."""
