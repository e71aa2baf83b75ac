"""JSON objects, cut out of bytes that come in any pieces: the items of an array, or one after another.

Gemini streams one JSON array where it is not asked for server-sent events. An object ends where its
last brace closes; strings are passed over as strings. Nothing is decoded here, and each byte is looked
at once, however the bytes are cut.

Source: googleapis/python-genai `_api_client.py` (its reader of the array), ai.google.dev/api
`models.streamGenerateContent`, RFC 8259; checked 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sidecar.providers.event_stream import EVENT_BYTES_MAX, EventStream

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}]', re.DOTALL)
"""A whole string, a brace, or the quote of a string that has not ended yet."""

_IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_QUOTE: Final = ord('"')
_OPEN: Final = ord("{")


class JsonStream(EventStream):
    """An `EventStream` whose events are JSON objects; an event has no name, its data is the object.

    What stands between objects (brackets, commas, blanks) belongs to none of them. An object longer
    than `max_bytes` is passed over, and the next one is read.
    """

    __slots__ = ("_depth", "_in_string", "_scanned")

    def __init__(self, max_bytes: int = EVENT_BYTES_MAX) -> None:
        super().__init__(max_bytes)
        self._depth = 0
        self._in_string = False
        self._scanned = 0  # of the rest, so much has been looked at

    def feed(self, piece: bytes) -> bytes:
        """What reaches to the end of the last object that `piece` completes; b"" if it completes none."""
        rest = self._rest
        rest += piece
        first, last = self._ends()
        ready = bytes(memoryview(rest)[first if self._skipping else 0 : last])
        if last:
            del rest[:last]
            self._scanned -= last
            self.offset += last
            self._skipping = False
        if len(rest) > self._max_bytes:
            self.skipped = self._skipping = True
            self.offset += self._scanned
            del rest[: self._scanned]
            self._scanned = 0
        return ready

    def split(self, events: bytes) -> Iterator[tuple[int, bytes]]:
        """Each object of a run, with its offset in the run; last of all one that is not whole, if there is one."""
        depth = start = 0
        for token in _TOKEN.finditer(events):
            at = token.start()
            byte = events[at]
            if byte == _QUOTE:
                continue
            if byte == _OPEN:
                start = start if depth else at
                depth += 1
            elif depth:
                depth -= 1
                if not depth:
                    yield start, events[start : at + 1]
        if depth:
            yield start, events[start:]

    def halve(self, events: bytes) -> int:
        """0, for none: what this framing carries tells something in every object."""
        del events
        return 0

    def find(self, pattern: re.Pattern[bytes], events: bytes) -> list[bytes]:
        """What a pattern finds in the objects of a run: one may end within a line, and another run begin there."""
        return [text for _, event in self.split(events) for text in pattern.findall(event)]

    def read(self, event: bytes) -> tuple[bytes, bytes]:
        """No name, and the object."""
        return b"", event

    def end(self) -> None:
        """Take the rest as an event that is over."""
        super().end()
        self._scanned = 0
        self._depth = 0
        self._in_string = False

    def _ends(self) -> tuple[int, int]:
        """Where the first and the last object end that are whole now; 0 for none. Looks at what is new only."""
        rest, depth, first, last = self._rest, self._depth, 0, 0
        at = self._behind_string(self._scanned) if self._in_string else self._scanned
        self._scanned = at if self._in_string else len(rest)
        if not self._in_string:
            for token in _TOKEN.finditer(rest, at):
                byte = rest[token.start()]
                if byte == _OPEN:
                    depth += 1
                elif byte != _QUOTE:
                    depth = max(0, depth - 1)
                    if not depth:
                        last = token.end()
                        first = first or last
                elif token.end() - token.start() == 1:
                    self._in_string = True
                    break
            if self._in_string:
                self._scanned = self._behind_string(token.end())
        self._depth = depth
        return first, last

    def _behind_string(self, at: int) -> int:
        """From within a string: behind its quote, or as far as is known to be in it yet."""
        found = _IN_STRING.match(self._rest, at)
        end = at if found is None else found.end()
        if end < len(self._rest) and self._rest[end] == _QUOTE:
            self._in_string = False
            return end + 1
        return end
