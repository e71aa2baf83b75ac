"""Connections to PostgreSQL: a bounded number of them, the statements prepared for many rows, and what reads on one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from sidecar.ports import Row
from sidecar.storage.postgres_faults import ENGINE, MAX_TRIES_LOST, Unsettled
from sidecar.storage.postgres_rows import EVERYONE, ONE_AGAIN
from sidecar.storage.postgres_sql import NUMBERS, TEXTS, locking, numbered, over_columns, over_rows, with_one, written


class Pool:
    """Connections, at most as many as `slots`; who takes one has entered `slots` before."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], size: int) -> None:
        self.slots = asyncio.Semaphore(size)
        self._connect = connect
        self._free: list[asyncpg.Connection] = []

    async def take(self) -> asyncpg.Connection:
        """The connection used last, or a new one.

        Raises:
            Unsettled: there is none to be had now.
        """
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        try:
            return await self._connect()
        except ENGINE as problem:
            raise Unsettled(problem, MAX_TRIES_LOST) from problem

    async def give(self, connection: asyncpg.Connection, *, sound: bool) -> None:
        """Back; one whose transaction is not over is rolled back, or ended if it cannot be."""
        if not sound:
            try:
                await connection.execute("ROLLBACK")
            except ENGINE:
                connection.terminate()
                return
        self._free.append(connection)

    def forget(self) -> None:
        """End those that are free: where one was lost, the others are, too."""
        while self._free:
            self._free.pop().terminate()

    close = forget


Parameters = Sequence[object]


class Statements:
    """The ledger's statements as PostgreSQL takes them for many sets of parameters; they are some hundred."""

    def __init__(self) -> None:
        self._types: dict[str, list[str]] = {}
        self._over_columns: dict[tuple[str, ...], str | None] = {}
        self._over_rows: dict[tuple[str, ...], str] = {}

    async def fetch(self, connection: asyncpg.Connection, sql: str, sets: Sequence[Parameters]) -> Sequence[Row]:
        """The rows of a SELECT with parameters for each of several sets of them, marked (`postgres_sql.MARK`)."""
        types, columns = _columns(await self._types_of(connection, sql), sets)
        whole = self._over_rows.get((sql, *types))
        if whole is None:
            whole = self._over_rows[sql, *types] = over_rows(sql, types)
        rows: Sequence[Row] = await connection.fetch(whole, *columns)
        return rows

    async def execute(self, connection: asyncpg.Connection, sql: str, sets: Sequence[Parameters]) -> None:
        """One statement for all sets of parameters where there is one, else one for each."""
        if len(sets) == 1:
            await connection.execute(numbered(sql), *sets[0])
            return
        types, columns = _columns(await self._types_of(connection, sql), sets)
        key = (sql, *types)
        if key not in self._over_columns:
            self._over_columns[key] = over_columns(sql, types)
        whole = self._over_columns[key]
        if whole is None:
            await connection.executemany(numbered(sql), sets)
        else:
            await connection.execute(whole, *columns)

    async def _types_of(self, connection: asyncpg.Connection, sql: str) -> list[str]:
        types = self._types.get(sql)
        if types is None:
            prepared = await connection.prepare(numbered(sql))
            types = self._types[sql] = [kind.name for kind in prepared.get_parameters()]
        return types


def _columns(types: Sequence[str], sets: Sequence[Parameters]) -> tuple[list[str], list[Any]]:
    """All values of each parameter, as one text where they can be, and what each is given as."""
    given: list[str] = list(types)
    columns: list[Any] = []
    for number, values in enumerate(zip(*sets, strict=True)):
        text = written(types[number], values) if len(values) > 1 else None
        if text is None:
            columns.append(list(values))
        else:
            given[number] = TEXTS if types[number] == "text" else NUMBERS
            columns.append(text)
    return given, columns


class ReadTransaction:
    """`ports.Transaction` on a connection that reads one snapshot."""

    def __init__(self, connection: asyncpg.Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements

    async def fetch(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """All rows of a query."""
        rows: Sequence[Row] = await self._connection.fetch(numbered(sql), *parameters)
        return rows

    async def fetch_locked(self, sql: str, parameters: Parameters = (), *, share: bool = False) -> Sequence[Row]:
        """All rows of a query, which nobody else may change before this transaction ends."""
        return await self.fetch(locking(sql, share=share), parameters)

    async def fetch_of_everyone(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        """All rows of a query, whosever they are."""
        await self._connection.execute(EVERYONE)
        rows = await self.fetch(sql, parameters)
        await self._connection.execute(ONE_AGAIN)
        return rows

    async def fetch_in(
        self, sql: str, first: Parameters, values: Sequence[Sequence[str]], *, share: bool = False
    ) -> Sequence[Row]:
        """All rows of a query for any of several values."""
        one = with_one(sql, len(values[0]))
        if share:
            one = locking(one, share=True)
        return await self._statements.fetch(self._connection, one, [(*first, *value) for value in values])

    async def execute(self, sql: str, parameters: Parameters = ()) -> None:
        """A statement without rows."""
        await self._connection.execute(numbered(sql), *parameters)

    async def execute_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        """One statement for all sets of parameters where there is one, else one for each."""
        if parameters:
            await self._statements.execute(self._connection, sql, parameters)
