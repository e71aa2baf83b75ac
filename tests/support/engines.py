"""A book on each engine that the product has, for tests that must hold on all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from sidecar.ports import Book
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from sidecar.storage.sqlite import open_book
from tests.support import postgres

SQLITE: Final = "SQLite"
POSTGRES: Final = "PostgreSQL"
STUMBLING: Final = "PostgreSQL, serializable and stumbling"
ENGINES: Final = (SQLITE, POSTGRES, STUMBLING)

STUMBLES: Final = 0.3
"""How many transactions, of all, fail as if another one had come in between."""

LAST_STATEMENT: Final = 12
"""They do so at a statement up to this one, or at their COMMIT if they come to it first."""


class Stumbling(asyncpg.Connection):  # type: ignore[misc]  # untyped
    """A connection on which some transactions end with 40001 somewhere; the same ones in every run."""

    chance = random.Random(40001)
    left = 0
    """Statements until it stumbles; 0: it does not."""

    __slots__ = ("__dict__",)

    async def fetch(self, *args: Any, **more: Any) -> Any:
        self._stumble(args[0])
        return await super().fetch(*args, **more)

    async def execute(self, *args: Any, **more: Any) -> Any:
        self._stumble(args[0])
        return await super().execute(*args, **more)

    def _stumble(self, sql: str) -> None:
        if sql.startswith("BEGIN"):
            self.left = self.chance.randint(1, LAST_STATEMENT) if self.chance.random() < STUMBLES else 0
        elif self.left:
            self.left = 0 if sql == "COMMIT" else self.left - 1
            if not self.left:
                raise asyncpg.SerializationError("as if another transaction had come in between")


def postgres_url() -> str:
    """A new database on the server of this process; the test is skipped where there is no PostgreSQL."""
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    return postgres.shared_server().new_database()


@asynccontextmanager
async def book_on(engine: str, folder: Path) -> AsyncIterator[Book]:
    """An empty book on one of ENGINES."""
    if engine == SQLITE:
        embedded = open_book(folder / "book.db")
        try:
            yield embedded
        finally:
            embedded.close()
        return
    options = DatabaseOptions(postgres_url())
    if engine == STUMBLING:
        options = DatabaseOptions(options.url, isolation="serializable")
        Stumbling.chance.seed(40001)
        shared = await open_postgres(options, connection_class=Stumbling)
    else:
        shared = await open_postgres(options)
    try:
        yield shared
    finally:
        await shared.close()
