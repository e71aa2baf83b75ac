"""Pricing as configuration: read and checked."""
