"""Looking at an outbox from outside, and having all that it keeps sent once more."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sidecar.errors import ConfigurationError, WireFormatError
from sidecar.outbox.cursor import Cursor, Position
from sidecar.outbox.frames import HEAD_BYTES, scan
from sidecar.outbox.records import Admitted, Header, Settled, read_record
from sidecar.outbox.segments import SpoolLock, segment_numbers, segment_path


class SegmentLook(msgspec.Struct, frozen=True):
    """One file: how many calls were admitted and settled in it, how many of these wait for the ledger."""

    segment: int
    bytes: int
    incarnation: str
    admitted: int
    settled: int
    waiting: int
    damaged_bytes: int


def look_at(directory: Path) -> list[SegmentLook]:
    """The segments of an outbox, in order, also while its sidecar writes on; what it writes just then may look torn.

    Raises:
        ConfigurationError: there is none, or it cannot be read.
    """
    try:
        position = Cursor(directory).position
        return [_look(directory, number, position) for number in segment_numbers(directory)]
    except OSError as problem:
        raise ConfigurationError([f"{directory}: expected an outbox: {problem.strerror}"]) from None


def send_again(directory: Path) -> int:
    """Have the next start send all that is kept, also what was acknowledged; gives how many settlements that are.

    The ledger books what it lacks, and nothing twice. Until it has answered for all, that start borrows nothing.

    Raises:
        ConfigurationError: a sidecar is using the outbox, or there is none.
    """
    segments = look_at(directory)
    lock = SpoolLock(directory)
    try:
        cursor = Cursor(directory)
        if segments:
            last = segments[-1]
            cursor.begin_again(cursor.history_id, cursor.heard, Position(last.segment, last.bytes))
    finally:
        lock.release()
    return sum(segment.settled for segment in segments)


def _look(directory: Path, number: int, position: Position) -> SegmentLook:
    data = segment_path(directory, number).read_bytes()
    incarnation = ""
    admitted = settled = waiting = damaged = 0
    for span in scan(data):
        try:
            record = None if span.payload is None else read_record(span.payload)
        except WireFormatError:
            record = None
        if record is None:
            damaged += span.end - span.start
        elif isinstance(record, Header):
            incarnation = incarnation or record.incarnation
        elif isinstance(record, Admitted):
            admitted += 1
        elif isinstance(record, Settled):
            settled += 1
            waiting += Position(number, span.end - HEAD_BYTES) >= position
    return SegmentLook(number, len(data), incarnation, admitted, settled, waiting, damaged)
