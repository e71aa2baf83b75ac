"""Spend Sidecar: decides before every model call whether its customer may still spend."""
