"""The book that a ledger stands on: a file of its own, or a database that it shares with others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from sidecar.app.data_folder import BOOK
from sidecar.app.database_clock import DatabaseClock
from sidecar.app.system import SystemClock
from sidecar.errors import ConfigurationError, LedgerUnavailable
from sidecar.ports import Book, Clock
from sidecar.storage.options import DatabaseOptions
from sidecar.telemetry.logs import redact_also


class OpenedBook(msgspec.Struct, frozen=True):
    """A book that can be used, and the clock that goes with it.

    `is_shared`: other processes write it as well. `obstacles` says what stands in the way of using it now.
    """

    book: Book
    clock: Clock
    is_shared: bool
    obstacles: Callable[[], Sequence[str]]


@asynccontextmanager
async def opened_book(database: DatabaseOptions, data: Path) -> AsyncIterator[OpenedBook]:
    """Open the book for as long as a block runs: in the database that is set, else in the data folder.

    Raises:
        ConfigurationError: it cannot be opened; says what is wrong and, where it can, what to do.
    """
    machine = SystemClock()
    if not database.url:
        from sidecar.storage.sqlite import open_book  # noqa: PLC0415 (each engine only where it is used)

        embedded = open_book(data / BOOK)
        try:
            yield OpenedBook(embedded, machine, is_shared=False, obstacles=list)
        finally:
            embedded.close()
        return
    try:
        from sidecar.storage.postgres import open_postgres  # noqa: PLC0415 (an extra, which others need not have)
    except ImportError:
        what = "needs the extra `postgres`: pip install 'spend-sidecar[postgres]'"
        raise ConfigurationError([f"ledger.database.url: {what}"]) from None
    forget = redact_also(lambda: secrets_of(database.url))
    shared = await open_postgres(database)
    try:
        clock = await DatabaseClock.following(machine, shared.now_ms)
        following = asyncio.create_task(clock.run())
        try:
            yield OpenedBook(shared, clock, is_shared=True, obstacles=lambda: _obstacles(shared.fault))
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    except LedgerUnavailable as problem:  # of the first look at the clock
        raise ConfigurationError([f"ledger.database.url: {problem}"]) from None
    finally:
        await shared.close()
        forget()


def secrets_of(url: str) -> list[str]:
    """The password in a database's URL, as it stands there and as it is meant."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return [url]
    return [text for text in {password, unquote(password)} if text]


def _obstacles(fault: str) -> list[str]:
    return [f"the database cannot be used: {fault}"] if fault else []
