"""Which durable marks the leases need: how far ahead of what is spent each of them stands (L46).

A lease begins without a mark: a power loss would leave all of it out, and so all of it may be spent, waiting for
nothing. When the keeper looks, every few seconds, it marks those of which that would leave out at least twice what
the next while needs: once more what calls held at once of late, and what is spent in `mark_cover_s`. An overdraft's
lease, which is for an outage and else lies idle, is marked where it stands. From then on the mark runs ahead: at half
of what it leaves, the next is written, and the outbox's group sync brings it to the disk while calls go on below the
present one. Where calls come faster, one waits for a sync, and the lease is without a mark again until the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sidecar.leases.accounts import NO_MARK, Lease
from sidecar.leases.renewal import demand

if TYPE_CHECKING:
    from sidecar.leases.table import LeaseTable
    from sidecar.leases.verdicts import Short


class MarkWriter(Protocol):
    """Who brings marks to the disk: the spool, which asks `Marks.due` and tells `Marks.bounded`."""

    def mark_soon(self) -> None:
        """There are marks to write: with the next sync."""
        ...

    async def sync(self) -> bool:
        """Write those that are due, and bring them to the disk; False: it failed."""
        ...


class Marks:
    """The marks of one table's leases. Without a writer there are none."""

    def __init__(self, table: LeaseTable, now: Callable[[], float], cover_s: float) -> None:
        """`now` gives monotonic seconds; `cover_s` is how far ahead of the rate of spending marks are kept."""
        self._table = table
        self._now = now
        self._cover_s = cover_s
        self._writer: MarkWriter | None = None
        self._wanted: dict[str, tuple[Lease, bool]] = {}
        self._syncs: set[asyncio.Task[bool]] = set()

    def attach(self, writer: MarkWriter) -> None:
        """Keep marks from now on, by this writer."""
        self._writer = writer

    # for the keeper

    def look(self, lease: Lease) -> None:
        """Mark a lease lower if that at least halves what a power loss would leave out; called now and then."""
        mark = self._mark(lease)
        open_atoms = lease.cap - lease.spent - lease.held
        if mark is not None and 2 * (mark - lease.spent - lease.held) <= open_atoms > 0:
            self._want(lease)

    def passed(self, lease: Lease) -> bool:
        """A lease is below low water; true if it is its mark's, which is moved ahead."""
        if not lease.is_marked or lease.spent + lease.held <= lease.low_durable:
            return False
        lease.low_durable = NO_MARK
        self._want(lease)
        return True

    def binds(self, short: Short, *, grace: bool = False) -> list[Lease]:
        """The leases that would do more for a call, if their marks let them; with those of overdrafts if `grace`."""
        plan = short.plan
        accounts = [*plan.hard, *plan.grants]
        if grace:
            accounts += [one.overdraft for one in plan.hard if one.overdraft is not None]
        leases = [lease for account in accounts if (lease := account.live(short.at)) is not None]
        return [lease for lease in leases if lease.room < min(short.atoms, lease.free)]

    async def lift(self, leases: list[Lease], timeout_s: float) -> bool:
        """Wait for a sync after which no mark bounds these leases; False: the disk fails, or took too long."""
        if self._writer is None:
            return False
        for lease in leases:
            self._wanted[lease.lease_id] = lease, True
        sync = asyncio.create_task(self._writer.sync())  # of its own: it goes on when who waits is gone
        self._syncs.add(sync)
        sync.add_done_callback(self._syncs.discard)
        await asyncio.wait((sync,), timeout=timeout_s)
        return sync.done() and sync.result()

    # for the spool

    def due(self) -> list[tuple[str, int | None]]:
        """Marks to write now, ahead of a sync, by lease; None: none from now on. Each is given once."""
        wanted, self._wanted = self._wanted, {}
        return [
            (lease.lease_id, None if lifts else self._mark(lease))
            for lease, lifts in wanted.values()
            if not lease.closed
        ]

    def bounded(self, lease_id: str, atoms: int | None) -> None:
        """Beyond so much nothing may be admitted on a lease from now on; None: no mark bounds it."""
        lease = self._table.lease(lease_id)
        if lease is not None:
            lease.set_durable(atoms)

    # inside

    def _want(self, lease: Lease) -> None:
        if self._writer is not None:
            self._wanted.setdefault(lease.lease_id, (lease, False))
            self._writer.mark_soon()

    def _mark(self, lease: Lease) -> int | None:
        """Where a lease's mark should stand; None: none would leave out much less than all of it."""
        needed = demand(lease, self._cover_s, self._now())
        if not needed and not lease.account.is_overdraft:
            return None  # it goes back when it stays idle, and the next call should wait for nothing
        return lease.spent + lease.held + needed if 2 * needed <= lease.free else None
