"""One address in front of a server that may be replaced by another: what a virtual address or a proxy does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.threads import in_thread


class Switch:
    """Where connections go; those to the former place are cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

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
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._port)
            self._open.add(there)
            await asyncio.gather(_pump(reader, there), _pump(back, writer))
        except OSError:
            pass
        finally:
            for end in (writer, there):
                if end is not None:
                    self._open.discard(end)
                    end.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@contextmanager
def switched(port: int) -> Iterator[Switch]:
    """A switch that leads to a loopback port at first."""
    switch = Switch(port)
    with in_thread(switch.serve):
        yield switch
