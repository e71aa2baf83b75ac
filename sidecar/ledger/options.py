"""What an operator can set of the ledger's rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """Durations are milliseconds, amounts atoms of `currency`.

    `valid_for_ms` is how long a lease may be spent from without hearing of the ledger,
    `refresh_every_ms` how often its holder talks (L41); `grace_for_ms` how long one on a budget's overdraft
    may, which is for outages alone (L47). A standing is asked for again after
    `fresh_for_ms`. A customer whose debt is above `debt_limit_atoms` is lent nothing (L17).
    Of children never seen before (users, agents, sessions with budgets of their own) at most
    `max_new_children_per_hour` are taken per customer (L33).
    """

    currency: str = "usd"
    plan: str = "default@1"
    valid_for_ms: int = 900_000
    refresh_every_ms: int = 10_000
    grace_for_ms: int = 86_400_000
    write_off_after_ms: int = 86_400_000
    fresh_for_ms: int = 60_000
    debt_limit_atoms: int = 0
    max_new_children_per_hour: int = 10_000
    thresholds_percent: tuple[int, ...] = (100,)
