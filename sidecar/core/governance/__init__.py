"""Tenancy, budgets, periods, standings, decisions: who may still spend."""
