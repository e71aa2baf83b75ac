"""JSON objects, one a line, cut out of bytes that come in any pieces (NDJSON).

Source: Ollama's API reference, `api/chat` and `api/generate`, checked 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.providers.event_stream import EventStream


class LineStream(EventStream):
    """An `EventStream` whose events are lines; an event has no name, its data is the line."""

    def feed(self, piece: bytes) -> bytes:
        """The lines that `piece` completes, one after another; b"" if none."""
        if not self._rest and piece.endswith(b"\n"):
            self.offset += len(piece)
            return piece
        return self._join(piece)

    def split(self, events: bytes) -> Iterator[tuple[int, bytes]]:
        """Each line of a run, with its offset in the run."""
        start = 0
        for line in events.splitlines(keepends=True):
            yield start, line
            start += len(line)

    def halve(self, events: bytes) -> int:
        """Where a line ends, about the middle; 0 where it is one line."""
        middle = len(events) // 2
        end = events.rfind(b"\n", 0, middle) + 1 or events.find(b"\n", middle) + 1
        return end if end < len(events) else 0

    def read(self, event: bytes) -> tuple[bytes, bytes]:
        """No name, and the line."""
        return b"", event.strip()

    def _join(self, piece: bytes) -> bytes:
        end = piece.rfind(b"\n") + 1
        rest = self._rest
        if not end:
            rest += piece
            ready = b""
        else:
            ready = bytes(rest) + piece[:end]
            self.offset += len(ready)
            rest[:] = piece[end:]
            if self._skipping:
                ready = ready[ready.find(b"\n") + 1 :]
                self._skipping = False
        if len(rest) > self._max_bytes:
            self._skip()
        return ready
