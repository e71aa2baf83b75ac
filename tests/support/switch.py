"""One address in front of a server that may be replaced by another: what a virtual address or a proxy does."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.support.threads import in_thread

_REQUEST_LINE = re.compile(rb"^[A-Z]+ (/\S*) HTTP/1\.1\r\n", re.MULTILINE)


class Switch:
    """Where connections go; those to the former place are cut. What comes by is counted, where it is HTTP."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.opened: list[float] = []
        """When each connection was opened, also those that led nowhere (monotonic)."""
        self.asked: list[tuple[float, str]] = []
        """When which path was asked for (monotonic)."""

    def to(self, port: int) -> None:
        """Send everybody to another loopback port from now on."""

        def turn() -> None:
            self._port = port
            for writer in self._open:
                writer.transport.abort()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(turn)

    async def serve(self, started: threading.Event, stopping: asyncio.Event) -> None:
        """Relay until stopped."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await stopping.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.opened.append(time.monotonic())
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._port)
            self._open.add(there)
            await asyncio.gather(_pump(reader, there, self._note), _pump(back, writer))
        except OSError:
            pass
        finally:
            for end in (writer, there):
                if end is not None:
                    self._open.discard(end)
                    end.close()

    def _note(self, data: bytes) -> None:
        now = time.monotonic()
        self.asked += [(now, path.decode("ascii", "replace")) for path in _REQUEST_LINE.findall(data)]


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, note: Callable[[bytes], None] | None = None
) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            if note is not None:
                note(data)
            target.write(data)
            await target.drain()
    target.close()


@contextmanager
def switched(port: int) -> Iterator[Switch]:
    """A switch that leads to a loopback port at first."""
    switch = Switch(port)
    with in_thread(switch.serve):
        yield switch
