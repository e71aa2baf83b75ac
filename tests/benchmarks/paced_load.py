"""Requests at a fixed pace, whoever is slow: latency counts from when each was due.

    python -m tests.benchmarks.paced_load --port 8402 --request FILE --rate 500 --seconds 5

Prints one JSON object: requests answered, failed, and latency percentiles in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import deque
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 64
"""More than are ever busy at these rates; a request that finds none free waits, and its latency tells."""


class Caller(asyncio.Protocol):
    """One connection that carries one request at a time; answers have a Content-Length."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._due_at = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._load.free.append(self)

    def send(self, due_at: float) -> None:
        """Send the request that was due then."""
        self._due_at = due_at
        if self.transport is not None:
            self.transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        if len(body) >= int(length.split(b"\r\n", 1)[0] or b"0"):
            self._received = b""
            self._load.answered(self, self._due_at, ok=head.startswith(b"HTTP/1.1 200"))


class Load:
    """What is due, who is free, and how long it took."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.free: deque[Caller] = deque()
        self.waiting: deque[float] = deque()
        self.latencies_s: list[float] = []
        self.failed = 0

    def due(self, at: float) -> None:
        """One more request is due."""
        if self.free:
            self.free.popleft().send(at)
        else:
            self.waiting.append(at)

    def answered(self, caller: Caller, due_at: float, *, ok: bool) -> None:
        """A caller has its answer."""
        self.latencies_s.append(time.monotonic() - due_at)
        self.failed += not ok
        if self.waiting:
            caller.send(self.waiting.popleft())
        else:
            self.free.append(caller)


async def run(port: int, request: bytes, rate: float, seconds: float) -> Load:
    """Send `rate` requests a second for `seconds`, evenly."""
    loop = asyncio.get_running_loop()
    load = Load(request)
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Caller(load), "127.0.0.1", port)
    began, number = time.monotonic(), 0
    while (at := began + number / rate) < began + seconds:
        wait_s = at - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        load.due(at)
        number += 1
    await asyncio.sleep(0.5)
    load.failed += len(load.waiting)
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="the whole request, head and body")
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    load = uvloop.run(run(options.port, options.request.read_bytes(), options.rate, options.seconds))
    ranked = sorted(load.latencies_s) or [0.0]
    found = {f"p{part}_us": 1e6 * ranked[len(ranked) * part // 100] for part in (50, 90, 99)}
    print(json.dumps({"answered": len(load.latencies_s), "failed": load.failed, **found}))


if __name__ == "__main__":
    main()
