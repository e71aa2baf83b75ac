"""Callers that hold streams open and count what comes, each starting again when its stream ends.

    python -m tests.benchmarks.stream_load --port 8402 --request FILE --streams 64 --seconds 5

Prints one JSON object: pieces and streams that came, streams lost, and seconds from request to first piece.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import cast

import uvloop

_PIECE = b'"delta": {"content"'
_END = b"data: [DONE]\n\n\r\n0\r\n\r\n"


class Counts:
    """What all streams together got."""

    def __init__(self) -> None:
        self.pieces = 0
        self.streams = 0
        self.lost = 0
        self.first_piece_s: list[float] = []


class Reader(asyncio.Protocol):
    """One stream after the other on one connection."""

    def __init__(self, request: bytes, counts: Counts) -> None:
        self._request = request
        self._counts = counts
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._began_at = 0.0
        self._waiting = True
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.lost += not self.stopped

    def data_received(self, data: bytes) -> None:
        pieces = data.count(_PIECE)  # an event is one write, and is not split on the loopback at this size
        self._counts.pieces += pieces
        if pieces and self._waiting:
            self._waiting = False
            self._counts.first_piece_s.append(time.monotonic() - self._began_at)
        self._tail = (self._tail + data)[-len(_END) :]
        if self._tail == _END and not self.stopped:
            self._counts.streams += 1
            self._begin()

    def _begin(self) -> None:
        self._tail, self._waiting, self._began_at = b"", True, time.monotonic()
        if self._transport is not None:
            self._transport.write(self._request)


async def load(port: int, request: bytes, streams: int, seconds: float) -> Counts:
    """Hold `streams` open for `seconds`."""
    loop = asyncio.get_running_loop()
    counts, readers = Counts(), []
    for _ in range(streams):
        _, reader = await loop.create_connection(lambda: Reader(request, counts), "127.0.0.1", port)
        readers.append(reader)
        await asyncio.sleep(0.5 / streams)
    await asyncio.sleep(seconds)
    for reader in readers:
        reader.stopped = True
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="the whole request, head and body")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    counts = uvloop.run(load(options.port, options.request.read_bytes(), options.streams, options.seconds))
    first = statistics.median(counts.first_piece_s) if counts.first_piece_s else 0.0
    print(json.dumps({"pieces": counts.pieces, "streams": counts.streams, "lost": counts.lost, "first_piece_s": first}))


if __name__ == "__main__":
    main()
