"""Server-sent events, cut out of bytes that come in any pieces.

Lines end in LF, CRLF or CR; an event ends at an empty line. Nothing is decoded: U+2028 and its
kin are no line ends, and a character cut in two by the network is whole again in its event. Most
pieces are one or more whole events and cost one `endswith`.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6, checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

EVENT_BYTES_MAX: Final = 2**20
"""Kept of one unfinished event at most; a longer one is not read. The stream is read on after it."""

HELD_BYTES_MAX: Final = 64 * 1024
"""Held back at most, until an event is known not to be one to hide."""

_WHOLE_EVENTS: Final = (b"\n\n", b"\r\n\r\n")
_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")  # a CR at the very end may yet become CRLF
_BOUNDARY_BYTES_MAX: Final = 4
_PLAIN_BOUNDARIES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class EventStream:
    """Takes pieces, gives whole events; keeps what is unfinished, EVENT_BYTES_MAX of it at most.

    `offset` is where, in all bytes fed, the last event that was given ends. `skipped` says whether
    an event was too long to be read.
    """

    __slots__ = ("_carriage_returns", "_max_bytes", "_rest", "_skipping", "offset", "skipped")

    def __init__(self, max_bytes: int = EVENT_BYTES_MAX) -> None:
        self.offset = 0
        self.skipped = False
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._skipping = False  # the rest is the end of an event too long
        self._carriage_returns = False

    def feed(self, piece: bytes) -> bytes:
        """The events that `piece` completes, as they stand, one after another; b"" if none."""
        if not self._rest and piece.endswith(_WHOLE_EVENTS):
            self.offset += len(piece)
            return piece
        return self._join(piece)

    def rest(self) -> bytes:
        """The unfinished event: at the end of a stream, perhaps one whose empty line was not sent."""
        return b"" if self._skipping else bytes(self._rest)

    @property
    def is_skipping(self) -> bool:
        """Whether the unfinished event is too long to be read."""
        return self._skipping

    def end(self) -> None:
        """Take the rest as an event that is over."""
        self.offset += len(self._rest)
        self._rest.clear()

    def split(self, events: bytes) -> Iterator[tuple[int, bytes]]:
        """Each event of a run that `feed` gave, with its offset in the run."""
        return split_events(events)

    def halve(self, events: bytes) -> int:
        """Where an event ends in a run, about the middle; 0 where none does."""
        return halve(events)

    def find(self, pattern: re.Pattern[bytes], events: bytes) -> list[bytes]:
        """What the one group of a pattern finds in a run; nothing that it finds may reach over a line's end."""
        return pattern.findall(events)

    def read(self, event: bytes) -> tuple[bytes, bytes]:
        """An event's name and data; b"" for what it does not have."""
        return read_event(event)

    def _join(self, piece: bytes) -> bytes:
        rest = self._rest
        scanned = max(0, len(rest) - _BOUNDARY_BYTES_MAX + 1)
        self._carriage_returns = self._carriage_returns or b"\r" in piece
        rest += piece
        end = self._last_boundary(scanned)
        ready = bytes(memoryview(rest)[:end])
        del rest[:end]
        self.offset += end
        if ready and self._skipping:
            first = _BOUNDARY.search(ready + b" ")
            ready = ready[first.end() :] if first else b""
            self._skipping = False
        if len(rest) > self._max_bytes:
            self._skip()
        return ready

    def _last_boundary(self, scanned: int) -> int:
        if not self._carriage_returns:
            found = self._rest.rfind(b"\n\n", scanned)
            return found + 2 if found >= 0 else 0
        end = 0
        for boundary in _BOUNDARY.finditer(self._rest, scanned):
            end = boundary.end()
        return end

    def _skip(self) -> None:
        self.skipped = self._skipping = True
        dropped = len(self._rest) - _BOUNDARY_BYTES_MAX + 1
        del self._rest[:dropped]
        self.offset += dropped


def split_events(events: bytes) -> Iterator[tuple[int, bytes]]:
    """Each event of a run of whole events, with its offset in the run."""
    start = 0
    for boundary in _BOUNDARY.finditer(events):
        yield start, events[start : boundary.end()]
        start = boundary.end()
    if start < len(events):
        yield start, events[start:]


def halve(events: bytes) -> int:
    """Where an event ends in a run of whole events: the last end in its first half, else the first in its second.

    0: none is found; then it is one event, or its lines end in several manners at once. Looked for
    by plain searches: a pattern over an event of a megabyte would take longer than all else.
    """
    middle = len(events) // 2
    ends = [at + len(mark) for mark in _PLAIN_BOUNDARIES if (at := events.rfind(mark, 0, middle)) >= 0]
    if ends:
        return max(ends)
    ends = [at + len(mark) for mark in _PLAIN_BOUNDARIES if (at := events.find(mark, middle)) >= 0]
    end = min(ends, default=0)
    return end if end < len(events) else 0


def read_event(event: bytes) -> tuple[bytes, bytes]:
    """An event's name and data; b"" for what it does not have. Comments and other fields are passed over."""
    name, data = b"", []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return name, b"\n".join(data)


class Veil:
    """Passes bytes on, less the events to hide, holding back only the event that is unfinished.

    Offsets count the bytes passed through it. An event of which a part was passed on already,
    because it was longer than HELD_BYTES_MAX, is not hidden any more.
    """

    __slots__ = ("_held", "_hidden", "_start")

    def __init__(self) -> None:
        self._held = bytearray()
        self._start = 0  # offset of the first byte held
        self._hidden: list[tuple[int, int]] = []

    def hide(self, start: int, end: int) -> None:
        """Leave out the bytes from `start` to `end`, once they come by."""
        self._hidden.append((start, end))

    def pass_on(self, piece: bytes, upto: int) -> bytes:
        """What may be seen once `piece` has come and everything before offset `upto` is known."""
        if not self._held and not self._hidden and upto == self._start + len(piece):
            self._start = upto
            return piece
        self._held += piece
        if len(self._held) - (upto - self._start) > HELD_BYTES_MAX:
            upto = self._start + len(self._held)
        return self._take(max(upto, self._start))

    def rest(self) -> bytes:
        """Everything held, less what is to be hidden; at the end."""
        return self._take(self._start + len(self._held))

    def _take(self, upto: int) -> bytes:
        origin, at, seen = self._start, self._start, []
        for start, end in self._hidden:
            if start >= at:
                seen.append(self._held[at - origin : start - origin])
                at = end
        seen.append(self._held[at - origin : max(at, upto) - origin])
        self._start = max(at, upto)
        self._hidden.clear()
        del self._held[: self._start - origin]
        return b"".join(seen)
