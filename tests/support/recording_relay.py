"""Passes TCP connections on, unchanged, and keeps what came back: the bytes that a client really got."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.threads import in_thread

PIECE_BYTES = 64 * 1024


class Answer(NamedTuple):
    """One answer as it came: its status, its content type and its body without the framing of a connection."""

    status: int
    content_type: str
    body: bytes


@dataclass
class RecordingRelay:
    """The relay's address, and what came back on each connection, the oldest first."""

    target: str
    address: str = ""
    came: list[bytearray] = field(default_factory=list)

    def answers(self) -> list[Answer]:
        """Every answer that is whole, of each connection in turn."""
        return [answer for raw in self.came for answer in _answers(bytes(raw))]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(self.target)
        far_reader, far_writer = await asyncio.open_connection(url.hostname, url.port)
        kept = bytearray()
        self.came.append(kept)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_copy(reader, far_writer, bytearray()), _copy(far_reader, writer, kept))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(PIECE_BYTES):
            kept += piece
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        writer.close()


class _Wire:
    """What `http.client` reads an answer from: bytes that stand where they are between two answers."""

    def __init__(self, raw: bytes) -> None:
        self.file = io.BytesIO(raw)

    def makefile(self, *_: Any) -> io.BufferedIOBase:
        """The same file each time; closing it closes nothing."""
        wire = self.file
        wire.close = lambda: None  # type: ignore[method-assign]
        return wire


def _answers(raw: bytes) -> Iterator[Answer]:
    wire = _Wire(raw)
    while wire.file.tell() < len(raw):
        answer = http.client.HTTPResponse(wire, method="POST")  # type: ignore[arg-type]
        answer.begin()
        yield Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())


@contextmanager
def recording_relay(target: str) -> Iterator[RecordingRelay]:
    """A relay to this address, on a loopback port, until the block ends."""
    relay = RecordingRelay(target)

    async def serve(started: threading.Event, stopping: asyncio.Event) -> None:
        server = await asyncio.start_server(relay._pass, "127.0.0.1", 0)
        relay.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await stopping.wait()
        server.close()
        passing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    with in_thread(serve):
        yield relay
