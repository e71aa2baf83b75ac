"""Connections to PostgreSQL: a bounded number of them, the statements prepared for many rows, and what reads on one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import asyncpg

from sidecar.ports import Row
from sidecar.storage.postgres_faults import ENGINE, MAX_TRIES_LOST, Unsettled
from sidecar.storage.postgres_rows import EVERYONE, ONE_AGAIN
from sidecar.storage.postgres_sql import locking, numbered, over_columns, over_rows, with_one


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
        self._over_columns: dict[str, str | None] = {}
        self._over_rows: dict[str, str] = {}

    async def fetch(self, connection: asyncpg.Connection, sql: str, sets: Sequence[Parameters]) -> Sequence[Row]:
        """The rows of a SELECT with parameters for each of several sets of them, marked (`postgres_sql.MARK`)."""
        whole = self._over_rows.get(sql)
        if whole is None:
            whole = self._over_rows[sql] = over_rows(sql, await _types(connection, sql))
        rows: Sequence[Row] = await connection.fetch(whole, *_columns(sets))
        return rows

    async def execute(self, connection: asyncpg.Connection, sql: str, sets: Sequence[Parameters]) -> None:
        """One statement for all sets of parameters where there is one, else one for each."""
        if len(sets) == 1:
            await connection.execute(numbered(sql), *sets[0])
            return
        if sql not in self._over_columns:
            self._over_columns[sql] = over_columns(sql, await _types(connection, sql))
        whole = self._over_columns[sql]
        if whole is None:
            await connection.executemany(numbered(sql), sets)
        else:
            await connection.execute(whole, *_columns(sets))


async def _types(connection: asyncpg.Connection, sql: str) -> list[str]:
    return [kind.name for kind in (await connection.prepare(numbered(sql))).get_parameters()]


def _columns(sets: Iterable[Parameters]) -> list[list[Any]]:
    return [list(column) for column in zip(*sets, strict=True)]


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
