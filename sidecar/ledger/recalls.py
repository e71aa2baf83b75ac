"""Asking back at once what sidecars hold and somebody waits for (L45).

A holder hears with its next report that a lease is wanted, which may take a refresh. Whoever was found short waits a
quarter of a second. So all who listen are told; but not by each call of a crowd that finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PAUSE_MS: Final = 50
"""An account is asked back at most so often: within less nobody can have answered."""

MAX_REMEMBERED: Final = 4096
"""Accounts of which it is remembered when; all are forgotten at once when there would be more."""


class Recalls:
    """When accounts were last asked back, in one process."""

    def __init__(self) -> None:
        self._asked_at_ms: dict[tuple[str, str], int] = {}

    def due(self, customer: str, accounts: Iterable[str], now_ms: int) -> list[str]:
        """Those of a customer's accounts that are to be asked back now."""
        found: list[str] = []
        for account in accounts:
            key = customer, account
            if now_ms - self._asked_at_ms.get(key, -PAUSE_MS) < PAUSE_MS:
                continue
            if len(self._asked_at_ms) >= MAX_REMEMBERED:
                self._asked_at_ms.clear()
            self._asked_at_ms[key] = now_ms
            found.append(account)
        return found
