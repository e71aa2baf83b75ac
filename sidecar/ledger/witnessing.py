"""Holding a customer's book against the heads of it that were signed and left it (L8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from sidecar.ports import Row


class SignedHead(msgspec.Struct, frozen=True):
    """What a checkpoint says of one customer: the hash of its last entry then.

    `where` names the checkpoint for people. `until_ms`: the book's history was renewed at that instant, by a
    restore; of what was recorded from then on this says nothing (L50a).
    """

    customer: str
    sequence: int
    hash: str
    where: str
    until_ms: int | None = None


class Witnessing:
    """The signed heads of one customer, against its entries as they come, in order.

    Of a chain that was computed anew every later head disagrees; so the first one is told, with the last one
    that agrees: what was done was done between them.

    Attributes:
        agreed: heads that agree with the book.
        lost: how many entries a restore took away, as far as a head tells.
    """

    def __init__(self, heads: Iterable[SignedHead], problem: Callable[[str], None]) -> None:
        self._problem = problem
        self._heads: dict[int, list[SignedHead]] = {}
        for head in heads:
            self._heads.setdefault(head.sequence, []).append(head)
        self._good = 0  # the last entry that a head agrees with
        self._first_other: SignedHead | None = None
        self._is_forked = False
        self._end = 0
        self._last_before: dict[int, int] = {}  # by the instant of a restore: the last entry recorded before it
        self.agreed = 0
        self.lost = 0
        self._restores = {head.until_ms for heads in self._heads.values() for head in heads if head.until_ms}

    def take(self, row: Row) -> None:
        """Hold the heads of one entry against it."""
        self._end = sequence = row["sequence"]
        for until_ms in self._restores:
            if row["recorded_at_ms"] < until_ms:
                self._last_before[until_ms] = sequence
        heads = self._heads.pop(sequence, None)
        if heads is None:
            return
        bound = [head for head in heads if head.until_ms is None or row["recorded_at_ms"] < head.until_ms]
        for head in heads:
            if head not in bound:
                self._note_lost(head)
        self._forked(bound)
        for head in bound:
            if head.hash == row["hash"]:
                self.agreed += 1
                self._good = sequence
                self._forked_before(head)
            elif self._first_other is None:
                self._first_other = head
                self._problem(
                    f"{_span(self._good + 1, sequence)}: altered, removed, added or moved, and the chain computed anew:"
                    f" {head.where} signed another hash for entry {sequence}"
                )

    def finish(self) -> None:
        """All entries were taken: the heads that are left are of entries that the book does not have."""
        beyond = [head for heads in self._heads.values() for head in heads]
        for head in beyond:
            if head.until_ms is not None:
                self._note_lost(head)
        missing = [head for head in beyond if head.until_ms is None]
        if missing and max(head.sequence for head in missing) > self._end:
            last = max(missing, key=lambda head: head.sequence)
            self._problem(f"{_span(self._end + 1, last.sequence)}: cut off: {last.where} signed entry {last.sequence}")
        for head in missing:
            if head.sequence < self._end:
                self._problem(f"entry {head.sequence}: missing, and {head.where} signed it")

    def _note_lost(self, head: SignedHead) -> None:
        before = self._last_before.get(head.until_ms or 0, 0)
        self.lost = max(self.lost, head.sequence - before)

    def _forked(self, heads: list[SignedHead]) -> None:
        """Two signatures for one entry: the key has signed two books."""
        other = next((head for head in heads if head.hash != heads[0].hash), None)
        if other is not None and not self._is_forked:
            self._tell_fork(heads[0], other)

    def _forked_before(self, good: SignedHead) -> None:
        """A later entry agrees where an earlier one did not: no chain has both."""
        other = self._first_other
        if other is not None and other.sequence < good.sequence and not self._is_forked:
            self._tell_fork(other, good)

    def _tell_fork(self, one: SignedHead, other: SignedHead) -> None:
        self._is_forked = True
        first = min(one.sequence, other.sequence)
        self._problem(f"entry {first}: the book was forked: {one.where} and {other.where} are not of one chain")


def _span(first: int, last: int) -> str:
    return f"entry {last}" if first >= last else f"entries {first} to {last}"
