"""Reading what earlier runs of this sidecar left in the outbox."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from sidecar.errors import WireFormatError
from sidecar.outbox.frames import Span, scan
from sidecar.outbox.records import Admitted, Ended, EventBrief, Header, Noted, Record, Settled, Tallies, read_record
from sidecar.outbox.segments import segment_numbers, segment_path, trust_path
from sidecar.ports import Disk
from sidecar.providers.doors import ANSWERS_KEPT_MAX, KEPT_BY_ID

logger = logging.getLogger("sidecar.outbox")


class Segment(msgspec.Struct):
    """One file: its header (None: damaged), and why it cannot be trusted (empty: it can)."""

    number: int
    header: Header | None
    doubts: list[str] = msgspec.field(default_factory=list)


class Remains(msgspec.Struct):
    """What the segments add up to.

    Attributes:
        segments: in order.
        open: the admissions that no settlement followed, as recorded, by request id.
        tallies: the leases not yet ended.
        settled: how many settlements there are in all.
        made: by provider and id, which customer's call made an answer that its provider keeps; the latest of them.
        damaged_bytes: what could not be read, kept aside.
        damaged_spans: in how many places.
        acknowledged: every segment before this one is, and may have been removed since.
    """

    segments: list[Segment] = msgspec.field(default_factory=list)
    open: dict[str, Admitted] = msgspec.field(default_factory=dict)
    tallies: Tallies = msgspec.field(default_factory=Tallies)
    settled: int = 0
    made: dict[tuple[str, str], str] = msgspec.field(default_factory=dict)
    damaged_bytes: int = 0
    damaged_spans: int = 0
    acknowledged: int = 0

    @property
    def incarnations(self) -> set[str]:
        """Every earlier one whose segments are still here."""
        return {segment.header.incarnation for segment in self.segments if segment.header is not None}

    def doubts(self, directory: Path, incarnation: str) -> list[str]:
        """Why the leases of an earlier incarnation cannot be closed on the word of these files; empty: they can.

        Its totals are made from every segment since its first one, so all of those must be whole,
        unmoved and of this run of the kernel (L46).
        """
        found: list[str] = []
        if not trust_path(directory, incarnation).exists():
            found.append("a write failed")
        began = False
        for before, segment in zip([None, *self.segments], self.segments, strict=False):
            header = segment.header
            began = began or (bool(segment.doubts) if header is None else header.incarnation == incarnation)
            if not began:
                continue
            found += segment.doubts
            follows = _follows(segment)
            if follows >= max(1, self.acknowledged) if before is None else follows != before.number:
                found.append("a segment is missing")
        if not any(
            segment.header is not None and segment.header.incarnation == incarnation for segment in self.segments
        ):
            found.append("its segments are gone")
        return list(dict.fromkeys(found))


def read_remains(directory: Path, *, sidecar: str, pod_uid: str, disk: Disk) -> Remains:
    """Read every segment in a locked folder. Damaged bytes are copied to `damaged/` and passed over.

    Raises:
        OSError: a file cannot be read.
    """
    remains = Remains()
    now_boot = disk.boot_id()
    for number in segment_numbers(directory):
        path = segment_path(directory, number)
        data = path.read_bytes()
        segment = Segment(number, None)
        remains.segments.append(segment)
        for span in scan(data):
            record = _record(span)
            if record is None:
                segment.doubts.append("a record is torn or damaged")
                _keep_aside(directory, number, span, data)
                remains.damaged_spans += 1
                remains.damaged_bytes += span.end - span.start
            elif isinstance(record, Header):
                segment.header = segment.header or record
            else:
                _count(remains, record)
        _doubt(segment, disk.identity(path.stat()), now_boot, sidecar, pod_uid, is_empty=not data)
    if remains.damaged_spans:
        facts = {"bytes": remains.damaged_bytes, "places": remains.damaged_spans}
        logger.error("outbox_damaged", extra={"facts": facts})
    return remains


def _record(span: Span) -> Record | None:
    """A span's record; None for damage, also where the checksum is right and the record is none."""
    if span.payload is None:
        return None
    try:
        return read_record(span.payload)
    except WireFormatError:
        return None


def _count(remains: Remains, record: Record) -> None:
    if isinstance(record, Admitted):
        remains.open[record.request_id] = record
    elif isinstance(record, Settled):
        brief = record.brief
        remains.open.pop(brief.admission.request_id, None)
        remains.tallies.charge(brief.admission.budget_leases, brief.paid, brief.charge_atoms)
        remains.settled += 1
        _note_maker(remains.made, brief)
    elif isinstance(record, Noted):
        remains.tallies.note(record.lease_id, record.tally)
    elif isinstance(record, Ended):
        remains.tallies.end(record.lease_id)


def _note_maker(made: dict[tuple[str, str], str], brief: EventBrief) -> None:
    admission, usage = brief.admission, brief.usage
    if admission.protocol not in KEPT_BY_ID or admission.subject is None or usage is None:
        return
    if usage.provider_request_id:
        made.setdefault((admission.provider, usage.provider_request_id), admission.subject.customer)
        if len(made) > ANSWERS_KEPT_MAX:
            del made[next(iter(made))]


def _doubt(
    segment: Segment, identity: tuple[int, int], now_boot: str, sidecar: str, pod_uid: str, *, is_empty: bool
) -> None:
    """Hold a segment's header against the world (L46)."""
    header = segment.header
    if header is None:
        if not is_empty:  # an empty file is one that was being begun when its process ended
            segment.doubts.append("a header is damaged")
        return
    if not now_boot or header.boot_id != now_boot:
        segment.doubts.append("the machine was restarted")
    if (header.device, header.inode) != identity:
        segment.doubts.append("the files were copied")
    if header.pod_uid != pod_uid:
        segment.doubts.append("it is another pod's")
    if header.sidecar != sidecar:
        segment.doubts.append("it is another sidecar's")


def _follows(segment: Segment) -> int:
    """Which segment was the one before when this one was begun."""
    header = segment.header
    return segment.number - 1 if header is None or header.follows < 0 else header.follows


def _keep_aside(directory: Path, number: int, span: Span, data: bytes) -> None:
    """Copy damaged bytes once, under a name that says where they stood."""
    aside = directory / "damaged"
    target = aside / f"{number:08}-{span.start}-{span.end}.bin"
    if target.exists():
        return
    try:
        aside.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, data[span.start : span.end])
        finally:
            os.close(descriptor)
    except OSError as problem:  # the damage itself is reported; only its copy is missing
        logger.warning("damage_not_kept", extra={"facts": {"problem": problem.strerror}})
