"""Durable marks: what a restart may take a lease to be spent to, where a power loss has eaten the outbox's end (L46).

What was written survives the end of a process, and only what was synced the end of a machine. After a power loss
the charges that stand in the files may therefore be too few, and a lease cannot be closed on their sum. But a lease's
mark is a promise: *what is charged and held on this lease will not pass so much before a higher mark is on the disk.*
So where a mark survived, the lease can be closed as spent to it, and what is lent beyond goes back at once. A lease
without one may be spent to its end, and all of it is out until a person or its write-off ends that.

Why a mark that is found is never less than what was spent. Of one lease let a *candidate* be the mark that was in the
last sync which succeeded (none, if there was none), and each that was written after it. Whatever part of the unsynced
end a power loss leaves, the last mark that is found is a candidate: what a successful sync covered is there, and
what was written before it is overruled by it. The holder's bound is the least of the candidates: it falls with the
`write()` of a lower mark, before the next decision, and rises only after the sync that has brought a higher one to
the disk, and then to the least of that one and of those written since. Every admission leaves charged + held ≤ bound
(`Lease.cap`), every candidate is ≥ the bound at each instant of its candidacy, and charged + held only grows by
admissions: so at the instant of the loss it is ≤ whichever candidate is found. A call that costs more than its hold
passes the mark as it passes its hold, by Ω (L0); of it a restart knows what its settlement said, if that was synced.

A lease's end and its new beginning are candidates too, without a mark. A failed sync confirms nothing, for the kernel
calls clean what it could not write; the next segment begins with every mark again. Marks cost a decision nothing: the
bound stands in the number that it is held against anyway, and new marks ride in the group sync that follows the
records. Where a bound comes in the way, because a load begins faster than marks are moved, a call waits for one sync.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from sidecar.outbox.records import Tallies, mark_record

MAX_MARKS_A_RECORD: Final = 1024
"""So a record stays well below a frame's longest payload."""


class LeaseMarks(Protocol):
    """Who spends from the leases, and says which marks it needs: the keeper's `Marks`."""

    def due(self) -> Sequence[tuple[str, int | None]]:
        """Marks to write now, ahead of a sync, by lease; None: none from now on. Each is given once."""
        ...

    def bounded(self, lease_id: str, atoms: int | None) -> None:
        """Beyond so much nothing may be admitted on a lease from now on; None: no mark bounds it."""
        ...


class Bounds:
    """Which leases are bounded by marks, and by how much: see above. Pure bookkeeping, without a disk."""

    def __init__(self) -> None:
        self._bounds: dict[str, int] = {}
        self._said: dict[str, tuple[int | None, int | None]] = {}  # since the last sync began: the least, the last
        self._syncing: dict[str, tuple[int | None, int | None]] = {}

    def of(self, lease_id: str) -> int | None:
        """Of a lease; None: no mark bounds it."""
        return self._bounds.get(lease_id)

    def said(self, lease_id: str, mark: int | None) -> bool:
        """A lease's mark was written, None: that it has none. True if its bound is lower for it, as of now."""
        before = self._bounds.get(lease_id)
        if mark is None and before is None:
            return False
        least, _ = self._said.get(lease_id, (None, None))
        self._said[lease_id] = _least(least, mark), mark
        if mark is None or (before is not None and before <= mark):
            return False
        self._bounds[lease_id] = mark
        return True

    def begin_sync(self) -> None:
        """What was written until now is about to be brought to the disk."""
        self._syncing, self._said = self._said, {}

    def synced(self) -> list[tuple[str, int | None]]:
        """It is there. Gives the leases whose bound is another now."""
        changed: list[tuple[str, int | None]] = []
        for lease_id, (_, mark) in self._syncing.items():
            least, _ = self._said.get(lease_id, (None, None))
            bound = _least(mark, least)
            if bound == self._bounds.get(lease_id):
                continue
            if bound is None:
                del self._bounds[lease_id]
            else:
                self._bounds[lease_id] = bound
            changed.append((lease_id, bound))
        self._syncing = {}
        return changed

    def failed(self) -> None:
        """Perhaps nothing of it is, nor what was written meanwhile, whatever a later sync says: the bounds stay."""
        self._syncing, self._said = {}, {}


class DurableMarks:
    """The spool's part: writes what the leases' spender says is due, and tells it what the bounds are then."""

    def __init__(self) -> None:
        self.bounds = Bounds()
        self._spender: LeaseMarks | None = None
        self._synced_to = 0, 0

    def attach(self, spender: LeaseMarks) -> None:
        """Ask this one for marks from now on."""
        self._spender = spender

    def begin_sync(self, tallies: Tallies, append: Callable[[bytes], bool]) -> None:
        """Write the marks that are due, of leases that are known; lower ones bound them at once. Then a sync follows.

        `append` writes a record; false: it did not.
        """
        due = [] if self._spender is None else [one for one in self._spender.due() if one[0] in tallies.leases]
        for at in range(0, len(due), MAX_MARKS_A_RECORD):
            marks = due[at : at + MAX_MARKS_A_RECORD]
            if not append(mark_record(self._synced_to, marks)):
                break
            for lease_id, mark in marks:
                tallies.mark(lease_id, mark)
                if self.bounds.said(lease_id, mark):
                    self._tell(lease_id, mark)
        self.bounds.begin_sync()

    def synced(self, until: tuple[int, int]) -> None:
        """The sync is done: all up to a place (segment, bytes) is on the disk."""
        self._synced_to = until
        for lease_id, bound in self.bounds.synced():
            self._tell(lease_id, bound)

    def _tell(self, lease_id: str, bound: int | None) -> None:
        if self._spender is not None:
            self._spender.bounded(lease_id, bound)


def _least(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return min(a, b)
