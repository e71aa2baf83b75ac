"""Holding virtual keys against the entries that made and ended them: a key that nobody made lets in nobody unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from sidecar.core.credits.entries import PostingError, read_body
from sidecar.core.governance.virtual_keys import fingerprint
from sidecar.ports import Row, Transaction

CREATED: Final = "key_created"
REVOKED: Final = "key_revoked"
"""Kinds of entries, as `virtual_keys` posts them."""


class CheckingKeys:
    """The keys of one customer, against its entries as they come."""

    def __init__(self, stored: dict[str, Row], problem: Callable[[str], None]) -> None:
        self._stored = stored
        self._problem = problem
        self._made: set[str] = set()
        self._ended: set[str] = set()

    @classmethod
    async def begin(cls, tx: Transaction, customer: str, problem: Callable[[str], None]) -> CheckingKeys:
        """Read the keys as they are stored."""
        rows = await tx.fetch("SELECT * FROM virtual_keys WHERE customer = ?", (customer,))
        return cls({row["key_id"]: row for row in rows}, problem)

    def take(self, row: Row) -> None:
        """Check one entry."""
        kind = row["kind"]
        if kind not in (CREATED, REVOKED):
            return
        try:
            facts = read_body(row["body"]).facts
        except PostingError:
            return  # told already
        key_id = str(facts.get("key_id"))
        if kind == REVOKED:
            self._ended.add(key_id)
            return
        self._made.add(key_id)
        key = self._stored.get(key_id)
        if key is None:
            self._problem(f"key {key_id}: entry {row['sequence']} made it, and it is gone")
            return
        said = (
            facts.get("fingerprint"),
            facts.get("name"),
            facts.get("subject"),
            facts.get("expires_at_ms"),
            row["sequence"],
        )
        subject = msgspec.json.decode(key["subject"])
        if (fingerprint(key["sha256"]), key["name"], subject, key["expires_at_ms"], key["sequence"]) != said:
            self._problem(f"key {key_id}: is not the one that entry {row['sequence']} made")

    def finish(self) -> None:
        """All entries were taken."""
        for key_id, row in sorted(self._stored.items()):
            if key_id not in self._made:
                self._problem(f"key {key_id}: no entry made it")
            elif (row["revoked_at_ms"] is None) is (key_id in self._ended):
                ended = (
                    "is good, and its entries say that it was revoked"
                    if key_id in self._ended
                    else ("is revoked, and no entry says so")
                )
                self._problem(f"key {key_id}: {ended}")
