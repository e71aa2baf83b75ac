"""What one sync carries: settlements as they were recorded, sorted by customer and never otherwise read.

They come from the files, or, where the ledger keeps up, from memory: the bytes that went to the disk a
moment ago. Both give the same events in the same order, and say behind which place of the files they end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sidecar.contract.codec import decode
from sidecar.contract.messages import MAX_EVENTS_PER_SYNC, LeaseReport, RecordedPart, UsageEvent
from sidecar.errors import WireFormatError
from sidecar.outbox.cursor import Position
from sidecar.outbox.frames import HEAD_BYTES, MAX_PAYLOAD_BYTES, scan
from sidecar.outbox.records import EventBrief, Kind
from sidecar.outbox.segments import segment_numbers, segment_path
from sidecar.outbox.spool import Spool

READ_BYTES: Final = 2 * (HEAD_BYTES + MAX_PAYLOAD_BYTES)
"""Read at a time: at least one whole frame, wherever in it the reading begins."""

MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
"""Of events in one sync; well below the contract's limit for a message."""

MAX_LATEST: Final = 4 * MAX_EVENTS_PER_SYNC
"""Settlements kept in memory beside the files at most: where the ledger is further behind, the files are read."""

MAX_LATEST_BYTES: Final = 2 * MAX_BATCH_BYTES
"""Of them."""

_SETTLE: Final = bytes([Kind.SETTLE])
"""What stands behind the first byte of a settlement's payload: that is the array's, this its kind."""

_RECORD: Final = msgspec.msgpack.Decoder(tuple[int, memoryview])


class _Subject(msgspec.Struct, gc=False):
    customer: str


class _Admission(msgspec.Struct, gc=False):
    subject: _Subject


class _Whose(msgspec.Struct, gc=False):
    """Of an event, whose it is: the ledger reads the rest."""

    admission: _Admission


_WHOSE: Final = msgspec.msgpack.Decoder(_Whose)


class Batch(msgspec.Struct):
    """At most `most` events from a place on, as they were recorded, by customer; and the place behind the last."""

    end: Position
    most: int = MAX_EVENTS_PER_SYNC
    events: dict[str, list[msgspec.Raw]] = msgspec.field(default_factory=dict)
    count: int = 0
    size: int = 0
    reaches_end: bool = False

    @property
    def is_full(self) -> bool:
        """Whether a sync should carry no more."""
        return self.count >= self.most or self.size >= MAX_BATCH_BYTES

    def add(self, customer: str, event: msgspec.Raw, size: int) -> None:
        """Take one in."""
        self.events.setdefault(customer, []).append(event)
        self.count += 1
        self.size += size


class Latest:
    """All that was settled behind some place of the files, as long as that is not much.

    Args:
        since: this place; nothing was settled behind it yet.
    """

    def __init__(self, since: Position) -> None:
        self._since = since
        self._events: deque[tuple[Position, str, bytes]] = deque()
        self._size = 0

    def add(self, end: Position, customer: str, recorded: bytes) -> None:
        """A settlement was written, up to a place."""
        if len(self._events) >= MAX_LATEST or self._size + len(recorded) > MAX_LATEST_BYTES:
            self._events.clear()
            self._since, self._size = end, 0
            return
        self._events.append((end, customer, recorded))
        self._size += len(recorded)

    def batch(self, position: Position, spool: Spool, most: int = MAX_EVENTS_PER_SYNC) -> Batch | None:
        """Settlements from a place on, and forget those before it; None: not all of them are here."""
        if position < self._since:
            return None
        events = self._events
        while events and events[0][0] <= position:
            self._size -= len(events.popleft()[2])
        batch = Batch(Position(spool.number, spool.size), most, reaches_end=True)
        for end, customer, recorded in events:
            if batch.is_full:
                batch.reaches_end = False
                break
            batch.add(customer, msgspec.Raw(recorded), len(recorded))
            last = end
        if not batch.reaches_end:
            batch.end = last
        return batch


def read_batch(spool: Spool, position: Position, most: int = MAX_EVENTS_PER_SYNC) -> Batch:
    """Settlements in the files from a place on, at most as many as one sync may carry, or `most`."""
    batch = Batch(position, most)
    while not batch.is_full:
        at = batch.end
        data, is_all = spool.read(at.segment, at.offset, READ_BYTES)
        if not data:
            following = spool.segment_after(at.segment)
            if following is None:
                batch.reaches_end = True
                break
            batch.end = Position(following, 0)
            continue
        _add(batch, data, is_all)
    return batch


def parts_of(
    events: Mapping[str, Sequence[msgspec.Raw]],
    reports: Mapping[str, Sequence[LeaseReport]],
    heard: Callable[[str], int] = lambda _customer: 0,
) -> list[RecordedPart]:
    """Events and reports together, by customer; `heard` tells the revision of each by which it is decided."""
    return [
        RecordedPart(customer, tuple(events.get(customer, ())), tuple(reports.get(customer, ())), heard(customer))
        for customer in dict.fromkeys((*reports, *events))
    ]


def request_id_of(event: msgspec.Raw) -> str:
    """Of which call it is; `unreadable` where that cannot be told."""
    try:
        return decode(bytes(event), EventBrief).admission.request_id
    except WireFormatError:
        return "unreadable"


def refused_incarnations(aside: Path) -> set[str] | None:
    """On whose leases the calls in a folder of refused events are; None: a file in it cannot be read whole."""
    found: set[str] = set()
    try:
        for path in sorted(aside.iterdir()):
            for span in scan(path.read_bytes()):
                recorded = None if span.payload is None else _recorded(span.payload)
                if recorded is None:
                    return None
                event = decode(bytes(recorded[1]), UsageEvent)
                leases = (
                    *event.admission.budget_leases,
                    *(lease for lease, _ in (*event.admission.slices, *event.paid)),
                )
                found.update(lease.partition("/")[0] for lease in leases)
    except FileNotFoundError:
        return found
    except (OSError, WireFormatError):
        return None
    return found


def count_unshipped(spool: Spool, position: Position) -> int:
    """How many settlements stand behind a position."""
    count = 0
    for number in segment_numbers(spool.directory):
        if number < position.segment:
            continue
        data = segment_path(spool.directory, number).read_bytes()
        skip = position.offset if number == position.segment else 0
        payloads = [span.payload for span in scan(data[skip:]) if span.payload is not None]
        count += sum(_recorded(payload) is not None for payload in payloads)
    return count


def _add(batch: Batch, data: bytes, is_all: bool) -> None:
    """Add the settlements of some bytes that begin at the batch's end, and move that behind what was used of them."""
    start = batch.end.offset
    used = 0
    for span in scan(data):
        if span.payload is None and span.end == len(data) and not is_all:
            # Perhaps the head of a frame whose rest was not read; so much cannot be one, and is damage.
            used = max(span.start, len(data) - (HEAD_BYTES + MAX_PAYLOAD_BYTES))
            break
        used = span.end
        found = None if span.payload is None else _recorded(span.payload)
        if found is not None:
            batch.add(*found, span.end - span.start)
            if batch.is_full:
                break
    batch.end = Position(batch.end.segment, start + used)


def _recorded(payload: bytes) -> tuple[str, msgspec.Raw] | None:
    """A settlement's customer and its bytes, if a frame holds one; damage was reported when the outbox was opened."""
    if payload[1:2] != _SETTLE:  # half of them are admissions: not worth reading
        return None
    try:
        _, event = _RECORD.decode(payload)
        return _WHOSE.decode(event).admission.subject.customer, msgspec.Raw(event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
