"""Starting again after a stop of any kind: nothing admitted is forgotten, nothing lent is stuck if we can help it.

Every admission without a settlement is settled at its whole hold, flagged: nobody knows what
became of the call, and unknown is never zero (L25). Then the leases of earlier incarnations can be
closed: what was lent on them less what is charged on them is free again. Only the files that the
dead process itself wrote can vouch for that sum, so where there is any doubt about them the
leases are left alone and stay reserved at the ledger (L46).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.contract.messages import (
    MAX_LEASES_PER_SYNC,
    Admission,
    CustomerPart,
    LeaseReport,
    SyncReply,
    SyncRequest,
    UsageEvent,
)
from sidecar.core.governance.decisions import Source
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.errors import ConfigurationError, LedgerUnavailable, SpoolFull, WireFormatError
from sidecar.outbox.cursor import Cursor
from sidecar.outbox.local_disk import LocalDisk
from sidecar.outbox.records import LeaseTally
from sidecar.outbox.remains import Remains, read_remains
from sidecar.outbox.segments import SpoolLock, segment_numbers, segment_path, trust_path
from sidecar.outbox.spool import Spool, SpoolOptions
from sidecar.ports import Clock, Disk, Ledger
from sidecar.providers.dialect import Ending

ESTIMATED: Final = "estimated"
CRASH: Final = "crash"
UNPRICED: Final = "unpriced"
"""Flags of a call that a dead process left open: as `settle` has them, and why."""

MAX_REFUSALS: Final = 5
"""Times that the ledger may refuse closes before we leave those leases alone."""

logger = logging.getLogger("sidecar.outbox")


def open_spool(
    directory: Path,
    clock: Clock,
    options: SpoolOptions,
    *,
    sidecar: str,
    incarnation: str,
    disk: Disk | None = None,
) -> Recovery:
    """Lock the folder, take in what earlier runs left, and begin to write.

    When this returns every call that they left open is settled in the outbox; the ledger hears of
    it from the shipper. Their leases are closed by `Recovery.close_leases`.

    Raises:
        ConfigurationError: another process uses the folder, or it cannot be read or written.
        SpoolFull: the disk takes no more.
    """
    disk = LocalDisk() if disk is None else disk
    lock = SpoolLock(directory)
    try:
        remains = read_remains(directory, sidecar=sidecar, pod_uid=options.pod_uid, disk=disk)
        _sync_what_is_left(directory, disk)
        cursor = Cursor(directory)
        remains.acknowledged = max(cursor.position, cursor.replay_until or cursor.position).segment
        spool = Spool(
            lock,
            clock,
            options,
            sidecar=sidecar,
            incarnation=incarnation,
            tallies=remains.tallies,
            disk=disk,
            beyond=remains.acknowledged,
        )
        recovery = Recovery(spool, remains, clock)
        recovery.settle_open_calls()
    except OSError as problem:
        lock.release()
        raise ConfigurationError([f"{directory}: expected readable segments: {problem.strerror}"]) from problem
    except SpoolFull:
        lock.release()
        raise
    return recovery


def _sync_what_is_left(directory: Path, disk: Disk) -> None:
    """Bring to the disk what a killed process had only written: nobody else will, and the power may fail yet (L49)."""
    disk.sync_names(directory)
    for number in segment_numbers(directory):
        descriptor = os.open(segment_path(directory, number), os.O_RDONLY)
        try:
            disk.sync(descriptor)
        finally:
            os.close(descriptor)


def abandoned(admission: Admission, now_ms: int) -> UsageEvent:
    """The settlement of a call that a dead process left open: its whole hold (L25), or no charge without a price.

    A report that was admitted says itself what was used: it is settled as it would have been.
    """
    if admission.reported is not None:
        return UsageEvent(
            admission,
            duration_ms=0,
            status=0,
            ending=Ending.COMPLETE.value,
            usage=admission.reported,
            charge_atoms=admission.held_atoms,
            paid=admission.slices,
            flags=(CRASH,),
        )
    unpriced = admission.decision.source is Source.UNPRICED
    return UsageEvent(
        admission,
        duration_ms=max(0, now_ms - admission.admitted_at_ms),
        status=0,
        ending=Ending.ABANDONED.value,
        usage=Usage(UsageState.ABSENT),
        charge_atoms=None if unpriced else admission.held_atoms,
        paid=() if unpriced else admission.slices,
        flags=(ESTIMATED, CRASH, UNPRICED) if unpriced else (ESTIMATED, CRASH),
    )


class Recovery:
    """A spool that is open, and what is still to be done about its past.

    Attributes:
        spool: to write to.
        settled_calls: calls that were found open and settled.
        damaged_bytes: bytes of the outbox that could not be read; they are kept in `damaged/`.
        surrendered: leases that cannot be closed on this outbox's word.
    """

    def __init__(self, spool: Spool, remains: Remains, clock: Clock) -> None:
        self.spool = spool
        self.settled_calls = 0
        self.damaged_bytes = remains.damaged_bytes
        self.made = remains.made
        self.surrendered: tuple[str, ...] = ()
        self._remains = remains
        self._clock = clock
        self._pending = self._by_incarnation()
        self._refusals = 0

    def settle_open_calls(self) -> None:
        """Write the settlement of every call found open.

        Raises:
            SpoolFull: the disk takes no more; what was not written is found again at the next start.
        """
        for admitted in self._remains.open.values():
            try:
                admission = admitted.admission()
            except WireFormatError:
                logger.exception("admission_unreadable")
                continue
            self.spool.settle(abandoned(admission, self._clock.wall_ms()))
            self.settled_calls += 1
        self._remains.open.clear()
        if self.settled_calls:
            logger.warning("open_calls_settled", extra={"facts": {"calls": self.settled_calls}})
        self._surrender()

    async def close_leases(self, ledger: Ledger, *, all_booked: Callable[[str], bool]) -> bool:
        """Close the leases of earlier incarnations; True once none is left to close.

        Each is first reported, which tells what was lent on it in all: an answer that the dead
        process never heard may have added to it, or have been all that it ever was. The latter is
        found by the ledger alone, and only once it has the calls. Safe to repeat until it succeeds.

        Args:
            ledger: that lent on them.
            all_booked: whether it has every call of an incarnation that was in the outbox at the start, and
                refused none.
        """
        for incarnation, leases in list(self._pending.items()):
            batches = [leases[at : at + MAX_LEASES_PER_SYNC] for at in range(0, len(leases), MAX_LEASES_PER_SYNC)]
            try:
                for batch in batches:
                    self._hear(await ledger.sync(self._request(incarnation, batch)))
                for batch in batches:
                    self._end(incarnation, await ledger.sync(self._request(incarnation, batch, closed=True)))
                if self._pending[incarnation]:
                    return False
                await ledger.sync(self._request(incarnation, [], ended=True, all_booked=all_booked(incarnation)))
            except LedgerUnavailable:
                return False
            del self._pending[incarnation]
            trust_path(self.spool.directory, incarnation).unlink(missing_ok=True)
        return True

    # inside

    def _by_incarnation(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {incarnation: [] for incarnation in self._remains.incarnations}
        for lease_id in self.spool.leases:
            found.setdefault(lease_id.partition("/")[0], []).append(lease_id)
        found.pop(self.spool.incarnation, None)
        return found

    def _surrender(self) -> None:
        """Leave those leases alone for which the files cannot vouch: they are said once, and not looked at again."""
        for incarnation, leases in list(self._pending.items()):
            doubts = self._remains.doubts(self.spool.directory, incarnation)
            if doubts and not leases:
                del self._pending[incarnation]
            elif doubts:
                facts = {"incarnation": incarnation, "leases": len(leases), "why": "; ".join(doubts)}
                logger.warning("leases_surrendered", extra={"facts": facts})
                self.surrendered += tuple(leases)
                for lease_id in leases:
                    self.spool.note_ended(lease_id)
                del self._pending[incarnation]
        vouched = {self.spool.incarnation, *self._pending}
        for mark in self.spool.directory.glob("trusted-*"):
            if mark.name.removeprefix("trusted-") not in vouched:
                mark.unlink(missing_ok=True)

    def _request(
        self,
        incarnation: str,
        leases: list[str],
        *,
        closed: bool = False,
        ended: bool = False,
        all_booked: bool = False,
    ) -> SyncRequest:
        parts: dict[str, list[LeaseReport]] = {}
        for lease_id in leases:
            tally = self.spool.leases[lease_id]
            spent = tally.spent_atoms if closed else None
            # Its total is told with the close alone: who has lost the lease has it among what is spent by then (L50a).
            told = tally.granted_atoms if closed else 0
            report = LeaseReport(lease_id, _returned(tally), 0, closed, spent, told)
            parts.setdefault(tally.customer, []).append(report)
        return SyncRequest(
            self.spool.sidecar,
            incarnation,
            self._clock.wall_ms(),
            tuple(CustomerPart(customer, leases=tuple(reports)) for customer, reports in parts.items()),
            ended=ended,
            all_booked=all_booked,
        )

    def _hear(self, reply: SyncReply) -> None:
        for part in reply.parts:
            for grant in part.leases:
                tally = self.spool.leases.get(grant.lease_id)
                if tally is not None and grant.granted_atoms > tally.granted_atoms:
                    self.spool.note_lease(part.customer, grant.lease_id, grant.granted_atoms, tally.spent_atoms)

    def _end(self, incarnation: str, reply: SyncReply) -> None:
        """Closed is what the ledger applied; what it did not is tried again a few times, and then left alone."""
        refused: set[str] = set()
        for part in reply.parts:
            if part.error:
                facts = {"customer": part.customer, "problem": part.error[:512]}
                logger.warning("lease_close_refused", extra={"facts": facts})
                if not part.booked:
                    refused.add(part.customer)
        self._refusals += bool(refused)
        asked = {part.customer for part in reply.parts}
        left: list[str] = []
        for lease_id in self._pending[incarnation]:
            customer = self.spool.leases[lease_id].customer
            if customer not in asked or (customer in refused and self._refusals < MAX_REFUSALS):
                left.append(lease_id)
            else:
                self.spool.note_ended(lease_id)
        self._pending[incarnation] = left


def _returned(tally: LeaseTally) -> int:
    """What is left of a lease: granted − tally (L42)."""
    return max(0, tally.granted_atoms - tally.spent_atoms)
