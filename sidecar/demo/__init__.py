"""The stand-in provider for first steps."""
