"""Connections to PostgreSQL: a bounded number of them, and what a transaction does on one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from sidecar.ports import Row
from sidecar.storage.postgres_faults import ENGINE, MAX_TRIES_LOST, Unsettled
from sidecar.storage.postgres_rows import EVERYONE, ONE_AGAIN
from sidecar.storage.postgres_sql import locking, numbered, over_columns


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


class PostgresTransaction:
    """`ports.Transaction` on a connection. `wrote` becomes true with the first statement that may change something."""

    def __init__(self, connection: asyncpg.Connection, columns: dict[str, str | None]) -> None:
        self._connection = connection
        self._columns = columns
        self.wrote = False

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a query."""
        if not sql.startswith("SELECT"):
            self.wrote = True
        rows: Sequence[Row] = await self._connection.fetch(numbered(sql), *parameters)
        return rows

    async def fetch_locked(self, sql: str, parameters: Sequence[object] = (), *, share: bool = False) -> Sequence[Row]:
        """All rows of a query, which nobody else may change before this transaction ends."""
        return await self.fetch(locking(sql, share=share), parameters)

    async def fetch_of_everyone(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a query, whosever they are."""
        await self._connection.execute(EVERYONE)
        rows = await self.fetch(sql, parameters)
        await self._connection.execute(ONE_AGAIN)
        return rows

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """A statement without rows."""
        self.wrote = True
        await self._connection.execute(numbered(sql), *parameters)

    async def execute_many(self, sql: str, parameters: Sequence[Sequence[object]]) -> None:
        """One statement for all sets of parameters where there is one, else one for each."""
        self.wrote = True
        if len(parameters) == 1:
            await self._connection.execute(numbered(sql), *parameters[0])
        elif parameters:
            if sql not in self._columns:
                types = (await self._connection.prepare(numbered(sql))).get_parameters()
                self._columns[sql] = over_columns(sql, [kind.name for kind in types])
            whole = self._columns[sql]
            if whole is None:
                await self._connection.executemany(numbered(sql), parameters)
            else:
                await self._connection.execute(whole, *map(list, zip(*parameters, strict=True)))
