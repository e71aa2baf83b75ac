"""The outbox's writing side: what a call may cost, and what it did cost, on local disk before anyone relies on it.

One `write()` per record, and no buffer of our own: what has returned from there survives the end
of this process, however it ends (L49). Power loss is another matter: an fdatasync follows in a
group, and after a reboot a restart does not trust the tail (L46). Room for a call's settlement is
kept from the moment it is admitted, so a full outbox refuses calls, never their settlements.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.contract.messages import Admission, UsageEvent
from sidecar.errors import SpoolFull
from sidecar.outbox.event_frames import event_frame
from sidecar.outbox.frames import frame
from sidecar.outbox.records import (
    VERSION,
    Header,
    LeaseTally,
    Tallies,
    admit_record,
    clean_record,
    ended_record,
    header_record,
    lease_record,
)
from sidecar.outbox.segments import SpoolLock, segment_numbers, segment_path, trust_path
from sidecar.ports import Clock, Disk

SETTLE_ROOM_BYTES: Final = 8192
"""Kept for a settlement beyond the admission that it repeats: what was consulted, the usage, the provider's words."""

MAX_BACKLOG: Final = 4096
"""Settlements kept in memory while the disk refuses them."""

logger = logging.getLogger("sidecar.outbox")


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """`max_bytes` of segments in all, `segment_bytes` each; `ballast_bytes` are kept on the disk for settlements.

    What the ledger has acknowledged is kept for `retain_s`, or until the room is needed.
    `pod_uid` names the pod, empty outside of Kubernetes.
    """

    max_bytes: int = 256 * 1024 * 1024
    segment_bytes: int = 8 * 1024 * 1024
    ballast_bytes: int = 1024 * 1024
    fsync_every_s: float = 0.02
    retain_s: float = 86_400.0
    pod_uid: str = ""


class Spool:
    """`ports.Spool` on a folder that this process has locked; made by `recovery.open_spool`.

    Attributes:
        directory: where the segments stand.
        incarnation: of this start.
        number: of the segment being written.
        size: of it, in bytes: what may be read.
        settled: settlements written since the start.
        on_settle: called after each with its customer and its bytes as recorded; must not raise.
        fault: why nothing is admitted now; empty while all is well.
    """

    def __init__(
        self,
        lock: SpoolLock,
        clock: Clock,
        options: SpoolOptions,
        *,
        sidecar: str,
        incarnation: str,
        tallies: Tallies,
        disk: Disk,
        beyond: int = 0,
    ) -> None:
        """Begin a new segment, whose first records are the leases that are still open.

        Its number is above `beyond`: so high the ledger has acknowledged segments, whose files may be lost.

        Raises:
            SpoolFull: it cannot be written.
        """
        self.directory: Path = lock.directory
        self.sidecar = sidecar
        self.incarnation = incarnation
        self.size = 0
        self.settled = 0
        self.on_settle: Callable[[str, bytes], None] | None = None
        self.fault = ""
        self._lock = lock
        self._clock = clock
        self._options = options
        self._tallies = tallies
        self._disk = disk
        self._boot_id = disk.boot_id()
        self._open: dict[str, tuple[int, int]] = {}  # request id: segment of its admission, bytes kept for its end
        self._reserved = 0
        self._backlog: deque[UsageEvent] = deque()
        self._unsynced: list[int] = []
        self._dirty = asyncio.Event()
        self._sizes = {n: segment_path(self.directory, n).stat().st_size for n in segment_numbers(self.directory)}
        self._last = max(self._sizes, default=0)
        self.number = max(self._last, beyond)
        self._has_new_names = True
        self._bytes = sum(self._sizes.values())
        self._descriptor = -1
        self._ballast = self.directory / "ballast"
        try:
            trust_path(self.directory, incarnation).touch(mode=0o600)
            self._begin_segment()
            self._fill_ballast()
        except OSError as problem:
            raise _spool_full(problem) from problem

    @property
    def open_calls(self) -> int:
        """Admissions without a settlement."""
        return len(self._open)

    @property
    def total_bytes(self) -> int:
        """Of all segments."""
        return self._bytes

    @property
    def leases(self) -> dict[str, LeaseTally]:
        """The leases not yet ended, with their totals."""
        return self._tallies.leases

    # ports.Spool

    def admit(self, admission: Admission) -> None:
        """Write that a call may run; see `ports.Spool`.

        Raises:
            SpoolFull: the cap is reached, or the disk has failed and not yet recovered.
        """
        if self.fault:
            raise SpoolFull(f"the outbox cannot record: {self.fault}")
        body = frame(admit_record(admission))
        kept = len(body) + SETTLE_ROOM_BYTES
        if self._bytes + self._reserved + len(body) + kept > self._options.max_bytes:
            raise SpoolFull(f"the outbox holds its {self._options.max_bytes} bytes")
        self._append(body)
        _, before = self._open.get(admission.request_id, (0, 0))  # of one whose hold has grown: the last one counts
        self._open[admission.request_id] = self.number, kept
        self._reserved += kept - before

    def settle(self, event: UsageEvent) -> bytes:
        """Write what a call used; see `ports.Spool`.

        Raises:
            SpoolFull: the disk failed after all. The event is kept in memory and written when the disk
                takes it again; if this process ends before, the call is settled from its admission.
        """
        try:
            recorded, body = event_frame(event)
            try:
                self._append(body)
            except SpoolFull:
                self._ballast.unlink(missing_ok=True)
                self._append(body)
        except (SpoolFull, OSError) as problem:
            self._distrust()
            if len(self._backlog) < MAX_BACKLOG:
                self._backlog.append(event)
            else:
                logger.error("settlement_lost_until_restart", extra={"facts": {"backlog": MAX_BACKLOG}})
            raise problem if isinstance(problem, SpoolFull) else _spool_full(problem) from problem
        self._note_settled(event, recorded)
        return recorded

    # reading back

    def read(self, segment: int, offset: int, limit: int) -> tuple[bytes, bool]:
        """At most `limit` bytes of a segment from an offset, and whether they reach its end as it is now.

        Empty behind the end, and for a segment that is not there.
        """
        size = self._sizes.get(segment, 0)
        if offset >= size:
            return b"", True
        with segment_path(self.directory, segment).open("rb") as file:
            file.seek(offset)
            data = file.read(min(limit, size - offset))
        return data, offset + len(data) >= size

    def segment_after(self, segment: int) -> int | None:
        """The next segment; None behind the current one."""
        return min((number for number in self._sizes if number > segment), default=None)

    # leases.options.LeaseNotes

    def note_lease(self, customer: str, lease_id: str, granted_atoms: int, spent_atoms: int) -> None:
        """Write a lease and its totals, so that a restart can close it. Its charges are then counted here."""
        known = self._tallies.leases.get(lease_id)
        tally = LeaseTally(customer, granted_atoms, spent_atoms if known is None else known.spent_atoms)
        self._tallies.note(lease_id, tally)
        self._try_append(lease_record(lease_id, tally))

    def note_ended(self, lease_id: str) -> None:
        """Write that nothing of a lease is left."""
        if lease_id in self._tallies.leases:
            self._tallies.end(lease_id)
            self._try_append(ended_record(lease_id))

    # in the background

    async def run(self) -> None:
        """Bring what was written to the disk, in groups, and try a failed disk again, until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(self._options.fsync_every_s)
            await self.sync()
            if self.fault:
                await asyncio.sleep(1.0)
                self.probe()

    async def sync(self) -> None:
        """Bring everything written so far to the disk (fdatasync), in a thread."""
        self._dirty.clear()
        done, self._unsynced = self._unsynced, []
        new_names, self._has_new_names = self._has_new_names, False
        try:
            await asyncio.to_thread(self._sync_all, done, self._descriptor, new_names)
        except OSError as problem:
            # The kernel drops what it could not write and calls it clean: only a new file is to be trusted again.
            self._fail(problem)
            self._distrust()

    def probe(self) -> bool:
        """Try a failed disk again: True once the backlog is written and the ballast is back."""
        try:
            while self._backlog:
                recorded, body = event_frame(self._backlog[0])
                self._append(body)
                self._note_settled(self._backlog.popleft(), recorded)
            self._fill_ballast()
            self._begin_segment()  # the old one may be torn, or not be on the disk although the kernel says so
        except (SpoolFull, OSError) as problem:
            self._dirty.set()
            logger.debug("outbox_still_failing", extra={"facts": {"problem": str(problem)}})
            return False
        if self.fault:
            logger.warning("outbox_recovered", extra={"facts": {"fault": self.fault}})
        self.fault = ""
        return True

    def discard(self, before: int) -> None:
        """Delete acknowledged segments: numbered below `before`, no open call in them, and old or in the way.

        From the front only: a gap would look like a lost file to the next start.
        """
        in_use = {number for number, _ in self._open.values()}
        for number in sorted(self._sizes):
            if number >= min(before, self.number) or number in in_use:
                return
            path = segment_path(self.directory, number)
            try:
                age_s = self._clock.wall_ms() / 1000 - path.stat().st_mtime
                crowded = self._bytes + self._reserved > self._options.max_bytes // 2
                if age_s < self._options.retain_s and not crowded:
                    return
                path.unlink()
            except FileNotFoundError:
                pass
            self._bytes -= self._sizes.pop(number)

    def close(self) -> None:
        """Bring everything to the disk and unlock the folder. Nothing may be written any more."""
        if self._descriptor < 0:
            return
        if not (self._open or self._backlog or self._tallies.leases):
            self._try_append(clean_record())
        try:
            self._sync_all(self._unsynced, self._descriptor, self._has_new_names)
        except OSError as problem:
            logger.error("outbox_sync_failed", extra={"facts": {"problem": problem.strerror}})
            self._distrust()
        os.close(self._descriptor)
        self._descriptor = -1
        self._lock.release()

    # inside

    def _note_settled(self, event: UsageEvent, recorded: bytes) -> None:
        admission = event.admission
        _, kept = self._open.pop(admission.request_id, (0, 0))
        self._reserved -= kept
        self._tallies.charge(admission.budget_leases, event.paid, event.charge_atoms)
        self.settled += 1
        if self.on_settle is not None:
            self.on_settle(admission.subject.customer, recorded)

    def _append(self, body: bytes) -> None:
        """One record to the kernel, whole or not at all.

        Raises:
            SpoolFull: it was not written; a part of it may stand there, which a reader sees to be torn.
        """
        try:
            if self.size + len(body) > self._options.segment_bytes:
                self._begin_segment()
            written = self._disk.write(self._descriptor, body)
            if written != len(body):
                written = self._finish(body, written)
        except OSError as problem:
            self._fail(problem)
            raise _spool_full(problem) from problem
        self.size += written
        self._bytes += written
        self._sizes[self.number] = self.size
        if not self._dirty.is_set():
            self._dirty.set()

    def _finish(self, body: bytes, written: int) -> int:
        """The kernel took a part: write the rest, or take the part back."""
        try:
            while written < len(body):
                more = self._disk.write(self._descriptor, body[written:])
                if not more:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += more
        except OSError:
            try:
                os.ftruncate(self._descriptor, self.size)
            except OSError:
                self.size += written  # the part stands there: a reader sees that it is torn
                self._distrust()
            raise
        return written

    def _try_append(self, payload: bytes) -> None:
        """Write what a restart would like to know. Without it the leases are not closed, only waited for."""
        try:
            self._append(frame(payload))
        except SpoolFull:
            self._distrust()

    def _begin_segment(self) -> None:
        """Go on in a new file. The old one stays as it is: what it holds was written.

        Raises:
            OSError: it cannot be made; the old one is still the current one.
        """
        number = self.number + 1
        path = segment_path(self.directory, number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            found = os.fstat(descriptor)
            header = Header(
                VERSION,
                number,
                self.sidecar,
                self.incarnation,
                self._boot_id,
                *self._disk.identity(found),
                self._options.pod_uid,
                self._last,
            )
            head = [frame(header_record(header))]
            head += [frame(lease_record(lease_id, tally)) for lease_id, tally in self._tallies.leases.items()]
            body = b"".join(head)
            if self._disk.write(descriptor, body) != len(body):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        if self._descriptor >= 0:
            self._unsynced.append(self._descriptor)
        self._descriptor, self.number, self.size = descriptor, number, len(body)
        self._last, self._has_new_names = number, True
        self._sizes[number] = len(body)
        self._bytes += len(body)
        self._dirty.set()

    def _sync_all(self, done: list[int], current: int, new_names: bool) -> None:
        """fdatasync of finished segments, which are closed, and of the current one; names first. In a thread."""
        try:
            if new_names:
                self._disk.sync_names(self.directory)
            for descriptor in done:
                self._disk.sync(descriptor)
            self._disk.sync(current)
        finally:
            for descriptor in done:
                os.close(descriptor)

    def _fill_ballast(self) -> None:
        """Take up disk space that a settlement can have when there is no other."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if self._options.ballast_bytes:
                os.posix_fallocate(descriptor, 0, self._options.ballast_bytes)
        except OSError:
            self._ballast.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _fail(self, problem: OSError) -> None:
        if not self.fault:
            self.fault = problem.strerror or type(problem).__name__
            logger.error("outbox_failed", extra={"facts": {"problem": self.fault, "directory": str(self.directory)}})
        self._dirty.set()

    def _distrust(self) -> None:
        """Something that was to be recorded is not: a restart must not close this incarnation's leases."""
        try:
            trust_path(self.directory, self.incarnation).unlink(missing_ok=True)
        except OSError as problem:
            logger.error("outbox_distrust_failed", extra={"facts": {"problem": problem.strerror}})


def _spool_full(problem: OSError) -> SpoolFull:
    return SpoolFull(f"the outbox cannot record: {problem.strerror or type(problem).__name__}")
