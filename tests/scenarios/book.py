"""The ledger's book in memory: SQLite, the real tables and the real transactions, without a thread."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sidecar.errors import LedgerUnavailable
from sidecar.ports import Transaction
from sidecar.storage import migrate
from sidecar.storage.sqlite import SQLiteTransaction, drive

T = TypeVar("T")


class Account(NamedTuple):
    """A hard budget's account as the book has it, or that of its overdraft."""

    name: str
    limit: int
    consumed: int
    leased: int


class PretendBook:
    """`ports.Book`. Each transaction is done at once; `on_commit` is called after it.

    `unknown` is how often a commit succeeds and nobody learns of it, `failing` how often nothing is
    committed.
    """

    in_order = True

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.connection = _open(_template())
        self._transaction = SQLiteTransaction(self.connection)
        self.unknown = 0.0
        self.failing = 0.0
        self.on_commit: Callable[[], None] | None = None
        self.commits = 0
        self.happened: Counter[str] = Counter()

    async def transact(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `ports.Book`."""
        chance = self._rng.random() if self.unknown or self.failing else 1.0
        if chance < self.failing:
            self.happened["transaction failed"] += 1
            raise LedgerUnavailable("the book cannot now")
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = drive(work(self._transaction))
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        self.commits += 1
        if self.on_commit is not None:
            self.on_commit()
        if chance < self.failing + self.unknown:
            self.happened["commit of which nobody learns"] += 1
            raise LedgerUnavailable("whether that was committed is not known")
        return result

    async def read(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `ports.Book`."""
        return drive(work(self._transaction))

    async def read_everyone(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `ports.Book`."""
        return drive(work(self._transaction))

    def accounts(self) -> dict[str, Account]:
        """The accounts of hard budgets and of their overdrafts, each with the limit that holds now."""
        limits = dict(self.rows("SELECT budget_id, limit_atoms FROM budgets WHERE hard = 1"))
        limits |= dict(self.rows("SELECT budget_id || '+grace', grace_atoms FROM budgets WHERE hard = 1"))
        found: dict[str, Account] = {}
        for name, consumed, leased in self.rows(
            "SELECT account, consumed, leased FROM accounts WHERE account LIKE 'budget:%'"
        ):
            budget = name.split(":", 2)[1]
            if budget in limits:
                found[name] = Account(name, limits[budget], consumed, leased)
        return found

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a law reads; as plain tuples."""
        cursor = self.connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, parameters).fetchall()

    def copy(self) -> bytes:
        """All of it as it stands."""
        return self.connection.serialize()

    def put_back(self, copy: bytes) -> None:
        """An earlier copy takes the place of all that was committed since."""
        self.connection.deserialize(copy)
        _prepare(self.connection)

    def close(self) -> None:
        """Forget it."""
        self.connection.close()


@cache
def _template() -> bytes:
    """An empty book: the migrations are run once."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in migrate.shipped("sqlite"):
        connection.executescript(migration.sql)
    return connection.serialize()


def _open(copy: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
    connection.deserialize(copy)
    _prepare(connection)
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
