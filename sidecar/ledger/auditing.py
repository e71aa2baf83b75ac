"""Who did what, and why: the acts of people, over all customers, oldest first.

An act is an entry like any other; `acts` only says which entries are one, so that nobody reads a whole
journal to find them. `CheckingActs` holds the one against the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sidecar.core.credits.entries import PostingError, read_body
from sidecar.errors import Rejected
from sidecar.ledger.reading import page_size
from sidecar.ledger.usage_facts import KIND as USAGE
from sidecar.ledger.views import ActView
from sidecar.ports import Row, Transaction

_ACTS = (
    "SELECT a.recorded_at_ms, a.customer, a.sequence, e.body, e.hash FROM acts a"
    " JOIN entries e ON e.customer = a.customer AND e.sequence = a.sequence"
    " WHERE (a.recorded_at_ms, a.customer, a.sequence) > (?, ?, ?) AND a.recorded_at_ms < ?"
    " AND (? = '' OR a.customer = ?) AND (? = '' OR a.actor = ?)"
    " ORDER BY a.recorded_at_ms, a.customer, a.sequence LIMIT ?"
)


async def acts(
    tx: Transaction, *, customer: str, actor: str, since_ms: int, until_ms: int, after: str, limit: int
) -> tuple[list[ActView], str]:
    """Acts in the order recorded, and the cursor to go on with (`` at the end).

    Args:
        tx: the snapshot.
        customer: of this one, or `_system`; `` for all.
        actor: by this one; `` for all.
        since_ms: recorded then or later.
        until_ms: recorded before.
        after: a cursor that an earlier page gave.
        limit: rows at most.

    Raises:
        Rejected: the cursor is none.
    """
    size = page_size(limit)
    first = (since_ms, "", 0)  # no customer has an empty name: what was recorded at that instant is in
    place = max(_read_cursor(after), first) if after else first
    rows = await tx.fetch(_ACTS, (*place, until_ms, customer, customer, actor, actor, size + 1))
    views = [_view(row) for row in rows[:size]]
    if len(rows) <= size:
        return views, ""
    last = rows[size - 1]
    return views, f"{last['recorded_at_ms']}:{last['sequence']}:{last['customer']}"


class CheckingActs:
    """Holds the acts of one customer against its entries: each that says its reason is listed, and no other is."""

    def __init__(self, listed: dict[int, str], problem: Callable[[str], None]) -> None:
        self._listed = listed
        self._problem = problem

    @classmethod
    async def begin(cls, tx: Transaction, customer: str, problem: Callable[[str], None]) -> CheckingActs:
        """Read which entries are listed."""
        rows = await tx.fetch("SELECT sequence, actor FROM acts WHERE customer = ?", (customer,))
        return cls({row["sequence"]: row["actor"] for row in rows}, problem)

    def take(self, row: Row) -> None:
        """Check one entry."""
        if row["kind"] == USAGE:
            return
        try:
            entry = read_body(row["body"])
        except PostingError:
            return  # told already
        actor = self._listed.pop(entry.sequence, None)
        if actor is None and "reason" in entry.facts:
            self._problem(f"entry {entry.sequence}: is somebody's act, and not listed among the acts")
        elif actor is not None and actor != entry.actor:
            self._problem(f"entry {entry.sequence}: is listed as an act of another")

    def finish(self) -> None:
        """All entries were taken."""
        for sequence in sorted(self._listed):
            self._problem(f"entry {sequence}: is listed among the acts, and is none")


def _view(row: Row) -> ActView:
    entry = read_body(row["body"])
    facts = {name: value for name, value in entry.facts.items() if name != "reason"}
    reason = entry.facts.get("reason", "")
    return ActView(
        entry.customer,
        entry.sequence,
        entry.kind,
        entry.key,
        entry.actor,
        reason if isinstance(reason, str) else "",
        entry.recorded_at_ms,
        facts,
        row["hash"],
    )


def _read_cursor(text: str) -> tuple[int, str, int]:
    match = re.fullmatch(r"(\d{1,18}):(\d{1,18}):([^:].*)", text, re.ASCII)
    if match is None:
        raise Rejected("invalid_cursor", {"cursor": "expected one that an earlier page gave"})
    return int(match[1]), match[3], int(match[2])
