"""A book in PostgreSQL without its ledger: one snapshot of it to read, and an empty database to fill.

For commands: everything here blocks, on an event loop of its own, so there must be none in its thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import asyncpg

from sidecar.errors import ConfigurationError
from sidecar.ports import Transaction
from sidecar.storage import migrate
from sidecar.storage.postgres import CONNECT_TIMEOUT_S, SNAPSHOT_OF_EVERYONE
from sidecar.storage.postgres_connections import ReadTransaction, Statements
from sidecar.storage.postgres_faults import ENGINE, said
from sidecar.storage.postgres_opening import prepare
from sidecar.storage.postgres_rows import BEGIN_OF_EVERYONE
from sidecar.storage.postgres_sql import numbered, over_columns
from sidecar.storage.table_sql import adding, counting, emptying, reading

STATEMENT_TIMEOUT_S: Final = 600.0

PREFETCH: Final = 64
"""Rows that are asked for at a time: an entry may hold a whole message's calls."""

WHERE: Final = "ledger.database.url"
T = TypeVar("T")
Values = tuple[object, ...]


class Snapshot:
    """A book as it is at one instant, whatever ledgers write meanwhile."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._runner = runner
        self._connection = connection
        self._tx = ReadTransaction(connection, Statements())

    def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` on it, here and now; it may wait for nothing but the book."""

        async def run() -> T:
            return await work(self._tx)

        return self._runner.run(run())

    def damage(self) -> list[str]:
        """What is wrong with the file of a book: this one has none."""
        return []

    def count(self, table: str) -> int:
        """How many rows a table has."""
        rows = self.read(lambda tx: tx.fetch(counting(table)))
        found: int = rows[0]["n"]
        return found

    def batches(self, table: str, columns: Sequence[str]) -> Iterator[list[Values]]:
        """All rows of a table, PREFETCH at a time."""

        async def begin() -> Any:
            return await self._connection.cursor(reading(table, columns))

        cursor = self._runner.run(begin())
        while rows := self._runner.run(_fetch(cursor)):
            yield [tuple(row) for row in rows]


async def _fetch(cursor: Any) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await cursor.fetch(PREFETCH)
    return found


@contextmanager
def opened_database(url: str) -> Iterator[Snapshot]:
    """The book in a database, as it is now, to read; its tables must be those of this version.

    Raises:
        ConfigurationError: it cannot be reached or read, is no book, or is of another version.
    """
    with _connected(url) as (runner, connection):
        runner.run(connection.execute(SNAPSHOT_OF_EVERYONE))
        known = runner.run(connection.fetch("SELECT to_regclass('migrations') IS NOT NULL AS is_there"))
        if not known[0]["is_there"]:
            raise ConfigurationError([f"{WHERE}: there is no book in this database"])
        rows = runner.run(connection.fetch("SELECT number, sha256 FROM migrations WHERE number > 0"))
        applied = {row["number"]: row["sha256"] for row in rows}
        if migrate.pending(migrate.shipped("postgres"), applied, where=WHERE):
            raise ConfigurationError([f"{WHERE}: is of an older version; start a ledger on it once"])
        yield Snapshot(runner, connection)


class Empty:
    """A database whose book has no customer yet, to be filled in one transaction."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._runner = runner
        self._connection = connection
        self._statements: dict[str, str] = {}

    def put(self, table: str, columns: Sequence[str], rows: Sequence[Values]) -> None:
        """Add rows."""
        if table not in self._statements:
            sql = adding(table, columns)
            types = self._runner.run(self._connection.prepare(numbered(sql))).get_parameters()
            self._statements[table] = over_columns(sql, [kind.name for kind in types]) or sql
        columns_of = [list(column) for column in zip(*rows, strict=True)]
        self._runner.run(self._connection.execute(self._statements[table], *columns_of))

    def count(self, table: str) -> int:
        """How many rows a table has."""
        rows = self._runner.run(self._connection.fetch(counting(table)))
        found: int = rows[0]["n"]
        return found


@contextmanager
def empty_database(url: str) -> Iterator[Empty]:
    """A database to fill within a block: its tables are made, and what is put there stands after it, all or nothing.

    Raises:
        ConfigurationError: it cannot be reached or written, was made by a newer version, or has a book with customers.
    """
    with _connected(url) as (runner, connection):
        runner.run(prepare(connection))
        runner.run(connection.execute(BEGIN_OF_EVERYONE))
        runner.run(connection.fetch("SELECT value FROM meta WHERE name = 'system' FOR UPDATE"))
        others = "SELECT customer FROM customers WHERE customer <> '_system' ORDER BY customer LIMIT 1"
        for row in runner.run(connection.fetch(others)):
            raise ConfigurationError([f"{WHERE}: a book stands there, with customer {row['customer']}"])
        if runner.run(connection.fetch("SELECT sequence FROM entries LIMIT 1")):
            raise ConfigurationError([f"{WHERE}: a book stands there, in which somebody has done something"])
        for table in ("meta", "incarnations", "idempotency", "customers", "api_tokens", "fleet"):
            runner.run(connection.execute(emptying(table)))  # of what a ledger's start left there
        yield Empty(runner, connection)
        runner.run(connection.execute("COMMIT"))


@contextmanager
def _connected(url: str) -> Iterator[tuple[asyncio.Runner, asyncpg.Connection]]:
    with asyncio.Runner() as runner:
        try:
            connection = runner.run(_connect(url))
        except (*ENGINE, ValueError) as problem:
            raise ConfigurationError([f"{WHERE}: cannot be used as a book: {said(problem)}"]) from None
        try:
            yield runner, connection
        except ENGINE as problem:
            if isinstance(problem, OSError) and problem.filename:
                raise  # of the file on the other side
            raise ConfigurationError([f"{WHERE}: cannot be used as a book: {said(problem)}"]) from None
        finally:
            connection.terminate()


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings={"application_name": "spend", "jit": "off"},
    )
