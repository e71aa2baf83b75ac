"""An upstream that streams: chat completion events at a fixed pace to however many callers, cheaply.

    python -m tests.benchmarks.stream_provider --port 9000 --pieces 100 --interval-ms 20

The load generator shares its core, so it is written close to the socket: one write for each event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any, cast

import uvloop

_BASE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-4o-mini"}
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def _framed(value: dict[str, Any] | bytes) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(_BASE | value).encode()
    event = b"data: " + text + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


_PIECE = _framed({"choices": [{"index": 0, "delta": {"content": " a word or two"}, "finish_reason": None}]})
_USAGE = {"prompt_tokens": 180, "completion_tokens": 300, "total_tokens": 480}
_TAIL = (
    _framed({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + _framed({"choices": [], "usage": _USAGE})
    + _framed(b"[DONE]")
    + b"0\r\n\r\n"
)


class Streamer(asyncio.Protocol):
    """One connection; every request on it is answered with a stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pieces: int, interval_s: float) -> None:
        self._loop = loop
        self._pieces = pieces
        self._interval_s = interval_s
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        missing = int(length.split(b"\r\n", 1)[0] or b"0") - len(rest)
        if missing <= 0 and self._transport is not None:
            self._received = b""
            self._transport.write(_HEAD)
            self._step(self._pieces)

    def _step(self, left: int) -> None:
        if self._transport is None:
            return
        if left:
            self._transport.write(_PIECE)
            self._loop.call_later(self._interval_s, self._step, left - 1)
        else:
            self._transport.write(_TAIL)


async def serve(port: int, pieces: int, interval_s: float) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(lambda: Streamer(loop, pieces, interval_s), "127.0.0.1", port, backlog=4096)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pieces", type=int, default=100)
    parser.add_argument("--interval-ms", type=float, default=20.0)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.pieces, options.interval_ms / 1000))
