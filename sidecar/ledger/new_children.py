"""Users, agents and sessions that are seen for the first time, within one transaction: so many an hour (L33).

A session's name is the application's word; who mints names mints accounts. What several requests that share a
transaction need to know of it is read once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.ledger.journal import Journal
from sidecar.ledger.sql import fetch_in

HOUR_MS: Final = 3_600_000

Child = tuple[str, str]
"""Kind and id."""


class NewChildren:
    """The children of a customer, as far as requests name some that have no account yet."""

    def __init__(self, journal: Journal, max_per_hour: int) -> None:
        self._journal = journal
        self._max_per_hour = max_per_hour
        self._known: set[Child] = set()
        self._of_late = 0
        self._noted: list[Child] = []

    async def load(self, children: Iterable[Child]) -> None:
        """Read which of some were seen before, and how many others were of late."""
        asked = sorted(set(children))
        if not asked:
            return
        tx, customer = self._journal.tx, self._journal.customer
        sql = "SELECT kind, id FROM children WHERE customer = ? AND (kind, id) IN (VALUES {})"
        self._known = {(row["kind"], row["id"]) for row in await fetch_in(tx, sql, (customer,), asked)}
        if len(self._known) < len(asked):
            counted = await tx.fetch(
                "SELECT count(*) AS new FROM children WHERE customer = ? AND first_seen_at_ms > ?",
                (customer, self._journal.now_ms - HOUR_MS),
            )
            self._of_late = counted[0]["new"]

    def among(self, children: set[Child]) -> list[Child] | None:
        """Those never seen before, of some that were asked for in `load`; None: with them it would be too many."""
        new = sorted(children - self._known)
        return None if new and self._of_late + len(new) > self._max_per_hour else new

    def note(self, new: list[Child]) -> None:
        """Take some as seen from now on."""
        self._known.update(new)
        self._of_late += len(new)
        self._noted += new

    async def write(self) -> None:
        """Write those that were noted."""
        if self._noted:
            await self._journal.tx.execute_many(
                "INSERT INTO children (customer, kind, id, first_seen_at_ms) VALUES (?, ?, ?, ?)",
                [(self._journal.customer, kind, name, self._journal.now_ms) for kind, name in self._noted],
            )
            self._noted = []
