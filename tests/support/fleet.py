"""A ledger in a process of its own, sidecars in theirs, and a wire between them that can be cut."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.product import Product
from tests.support.threads import in_thread


class LedgerProcess(Product):
    """`spend ledger`; started again, it listens where it did."""

    def arguments(self) -> list[str]:
        """The command."""
        port = self.ledger.rpartition(":")[2] or "0"
        return ["ledger", "--ledger-port", port, "--health-port", "0"]

    def token(self, name: str) -> Path:
        """A file with a new token for a sidecar."""
        path = self.data.parent / f"{name}.token"
        path.write_text(self.spend("ledger", "sidecar-token", name).stdout)
        return path

    def problems(self, customer: str) -> list[str]:
        """What `spend verify` finds."""
        found: list[str] = json.loads(self.spend("verify", customer, "--json").stdout)["problems"]
        return found


class SidecarProcess(Product):
    """`spend sidecar` over a ledger."""

    addresses = "sidecar.json"

    def __init__(self, data: Path, environment: Mapping[str, str], ledger: str, token: Path) -> None:
        super().__init__(data, environment)
        self._ledger = ledger
        self._token = token

    def move(self, ledger: str, folder: Path | None) -> None:
        """Over another ledger, and with the package of another folder, from the next start on."""
        self._ledger, self.folder = ledger, folder

    def arguments(self) -> list[str]:
        """The command."""
        ledger = ["--ledger", self._ledger, "--token-file", str(self._token)]
        return ["sidecar", *ledger, "--port", "0", "--health-port", "0"]


@contextmanager
def without_changes(ledger: str) -> Iterator[str]:
    """A way to the ledger on which every stream of changes is cut; gives its address."""
    host, _, port = ledger.removeprefix("http://").partition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    if b"/contract/v1/changes" in data:
                        break
                    target.write(data)
                    await target.drain()
            writer.close()
            back.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))

    found: list[str] = []

    async def serve(started: threading.Event, stopping: asyncio.Event) -> None:
        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        found.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        started.set()
        await stopping.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    with in_thread(serve):
        yield found[0]
