"""Books whose engine fails once, at a chosen statement: before it is done, or after, with its answer lost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from sidecar.ports import Book
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from sidecar.storage.sqlite import open_book
from tests.support.engines import SQLITE, postgres_url

BEFORE: Final = "before"
AFTER: Final = "after"
CONTENTION: Final = "as if another transaction had come in between"


class Fuse:
    """Burns once, at the statement to which it is set; counts all of them."""

    def __init__(self) -> None:
        self.count = 0
        self.burns_at = 0
        self.burned: str = ""

    def set(self, statement: int) -> None:
        """Count anew, and burn at a statement; 0: at none."""
        self.count, self.burns_at, self.burned = 0, statement, ""

    def burns(self, sql: str) -> bool:
        """Whether it is this statement's turn."""
        self.count += 1
        if self.count == self.burns_at:
            self.burned = sql.partition(" ")[0]
            return True
        return False


class _SQLiteConnection:
    """A connection of `sqlite3`, as far as a book's writer uses it."""

    def __init__(self, real: sqlite3.Connection, fuse: Fuse, when: str) -> None:
        self._real = real
        self._fuse = fuse
        self._when = when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *more: Any) -> Any:
        """With its fault, if it is its turn; taking back never fails."""
        return self._run(self._real.execute, sql, *more)

    def executemany(self, sql: str, *more: Any) -> Any:
        """Likewise."""
        return self._run(self._real.executemany, sql, *more)

    def _run(self, run: Any, sql: str, *more: Any) -> Any:
        burns = not sql.startswith("ROLLBACK") and self._fuse.burns(sql)
        if burns and self._when == BEFORE:
            raise sqlite3.OperationalError("disk I/O error")
        result = run(sql, *more)
        if burns:
            raise sqlite3.OperationalError("disk I/O error")
        return result


def _postgres_connection(fuse: Fuse, when: str) -> type[asyncpg.Connection]:
    class Faulty(asyncpg.Connection):  # type: ignore[misc]  # untyped
        reads = False

        async def fetch(self, *args: Any, **more: Any) -> Any:
            return await self._run(super().fetch, *args, **more)

        async def execute(self, *args: Any, **more: Any) -> Any:
            return await self._run(super().execute, *args, **more)

        async def _run(self, run: Any, sql: str, *args: Any, **more: Any) -> Any:
            if sql.startswith("BEGIN"):
                self.reads = "READ ONLY" in sql
            burns = not sql.startswith("ROLLBACK") and fuse.burns(f"reading:{sql}" if self.reads else sql)
            if burns and when == CONTENTION:
                raise asyncpg.SerializationError(CONTENTION)
            if burns and when == BEFORE:
                self.terminate()
                raise asyncpg.ConnectionDoesNotExistError("the connection was lost")
            result = await run(sql, *args, **more)
            if burns:
                self.terminate()
                raise asyncpg.ConnectionDoesNotExistError("the connection was lost")
            return result

    return Faulty


@asynccontextmanager
async def faulty_book(engine: str, folder: Path, fuse: Fuse, when: str) -> AsyncIterator[Book]:
    """A book on an engine whose writing fails when the fuse burns."""
    if engine == SQLITE:
        embedded = open_book(folder / "book.db")
        writer = embedded._writer
        connection: Any = _SQLiteConnection(writer._connection, fuse, when)
        writer._connection = writer._transaction._connection = connection
        try:
            yield embedded
        finally:
            embedded.close()
        return
    shared = await open_postgres(DatabaseOptions(postgres_url()), connection_class=_postgres_connection(fuse, when))
    try:
        yield shared
    finally:
        fuse.set(0)
        await shared.close()
