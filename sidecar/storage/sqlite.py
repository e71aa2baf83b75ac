"""The embedded book: one SQLite file, one writer.

SQLite takes one write transaction at a time and its price is the fsync at the end. So one
thread owns the writing connection and runs whole transactions on it; all that are queued when
it is free share one `BEGIN IMMEDIATE … COMMIT`, each within a savepoint of its own. A work that
fails takes back only itself, and nobody hears of success before the commit that holds it.

A second thread reads, on its own connection: in WAL mode neither waits for the other.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from sidecar.errors import ConfigurationError, InUse, LedgerUnavailable
from sidecar.ports import Row, Transaction
from sidecar.storage import migrate

MAX_QUEUED = 1024
"""Works that may wait for a thread. One more is refused with LedgerUnavailable."""

MAX_GROUP = 64
"""Works that share one commit at most: the first of them waits for the last."""

MAX_IN = 256
"""Values in one IN (…) at most."""

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for its own locks, such as a checkpoint's."""

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[T]]


_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
)


class SQLiteBook:
    """`ports.Book` in one SQLite file; made by `open_book`. May be used from several event loops."""

    in_order = True

    def __init__(self, path: Path, lock: int) -> None:
        self._lock = lock
        self._writer = _Worker("book-writer", _connect(path), "BEGIN IMMEDIATE", MAX_GROUP)
        reading = _connect(path)
        reading.execute("PRAGMA query_only = ON")
        self._reader = _Worker("book-reader", reading, "BEGIN", 1)

    async def transact(self, customer: str, work: Work[T]) -> T:
        """Run `work` in a transaction and commit it; see `ports.Book`.

        The customer is not needed here: with one writer every transaction is alone.
        """
        return await self._writer.run(work)

    async def read(self, customer: str, work: Work[T]) -> T:
        """Run `work` on one consistent snapshot; writing raises sqlite3.OperationalError.

        An embedded book has one wall between customers, which is what its queries say.
        """
        return await self._reader.run(work)

    async def read_everyone(self, work: Work[T]) -> T:
        """The same, for work that goes over all customers."""
        return await self._reader.run(work)

    def close(self) -> None:
        """Finish what is queued, then close. Blocks for as long as that takes; twice is once."""
        if self._lock >= 0:
            self._writer.stop()
            self._reader.stop()
            os.close(self._lock)
            self._lock = -1


def open_book(path: Path) -> SQLiteBook:
    """Open a book, making it (and its folder) if it is not there, and bring its tables up to date.

    Everything made is readable by its owner alone. One process at a time: a lock on `PATH.lock`
    is kept until `close`, and the kernel drops it when the process dies.

    Raises:
        ConfigurationError: another process has it open, it is no book, it is damaged, or it was
            made by a newer version.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_book(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        prepare(path)
        return SQLiteBook(path, lock)
    except (sqlite3.Error, OSError) as problem:
        os.close(lock)
        raise ConfigurationError([f"{path}: cannot be opened as a book: {problem}"]) from problem
    except BaseException:
        os.close(lock)
        raise


def lock_book(path: Path) -> int:
    """Take a book's lock, until the descriptor that is given back is closed.

    Raises:
        ConfigurationError: another process has it, or it cannot be made.
    """
    name = path.with_name(path.name + ".lock")
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise ConfigurationError([f"{name}: cannot be made: {problem.strerror}"]) from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise InUse([f"{path}: another process has this book open; it can be open only once"]) from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    """A connection whose transactions are ours to begin; its rows answer to column names."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.row_factory = sqlite3.Row
    for statement in _PRAGMAS:
        connection.execute(statement)
    return connection


def prepare(path: Path) -> None:
    """Apply the migrations that the file lacks, each in a transaction with the note that it was."""
    connection = _connect(path)
    try:
        connection.execute(migrate.TABLE)
        applied = {row["number"]: row["sha256"] for row in connection.execute("SELECT number, sha256 FROM migrations")}
        for migration in migrate.pending(migrate.shipped("sqlite"), applied, where=str(path)):
            connection.execute("BEGIN IMMEDIATE")
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations (number, name, sha256) VALUES (?, ?, ?)",
                (migration.number, migration.name, migration.sha256),
            )
            connection.execute("COMMIT")
    finally:
        connection.close()


def _statements(script: str) -> list[str]:
    """Cut a script at the ends of its statements (`executescript` would commit before each script)."""
    statements: list[str] = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


_Outcome: TypeAlias = tuple[asyncio.Future[Any], object, BaseException | None]


class _Job(NamedTuple):
    work: Callable[[Transaction], Awaitable[Any]]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _Worker:
    """One thread with its connection and its bounded queue."""

    def __init__(self, name: str, connection: sqlite3.Connection, begin: str, max_group: int) -> None:
        self._connection = connection
        self._transaction = SQLiteTransaction(connection)
        self._begin = begin
        self._max_group = max_group
        self._queue: queue.Queue[_Job | None] = queue.Queue(MAX_QUEUED)
        self._gate = threading.Lock()  # so that nothing is queued behind the end
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """Queue a work and wait for what becomes of it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._stopped:
                raise LedgerUnavailable("the book is closed")
            try:
                self._queue.put_nowait(_Job(work, future, loop))
            except queue.Full:
                raise LedgerUnavailable(f"{MAX_QUEUED} transactions are waiting for the book") from None
        return await future

    def stop(self) -> None:
        """Let the thread end after what is queued, and wait for it."""
        with self._gate:
            self._stopped = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            group = [job]
            ended = False
            while len(group) < self._max_group and not ended:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                ended = following is None
                if following is not None:
                    group.append(following)
            self._run_group([one for one in group if not one.future.cancelled()])
            if ended:
                return

    def _run_group(self, group: Sequence[_Job]) -> None:
        """All works of a group, one commit, and only then what came of each."""
        if not group:
            return
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            self._connection.execute(self._begin)
            outcomes.extend([self._run_one(job) for job in group])
            self._connection.execute("COMMIT")
        except sqlite3.Error as problem:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            lost = f"the book could not commit: {problem}"
            outcomes = [(None, LedgerUnavailable(lost)) for _ in group]
        by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for job, (result, problem_of_one) in zip(group, outcomes, strict=True):
            by_loop.setdefault(job.loop, []).append((job.future, result, problem_of_one))
        for loop, delivery in by_loop.items():  # each is woken once
            try:
                loop.call_soon_threadsafe(_deliver, delivery)
            except RuntimeError:  # that loop is closed: nobody waits for this any more
                continue

    def _run_one(self, job: _Job) -> tuple[Any, BaseException | None]:
        """One work in its savepoint: (result, None) or (None, what it raised)."""
        self._connection.execute("SAVEPOINT work")
        try:
            result = drive(job.work(self._transaction))
        except Exception as raised:
            if not self._connection.in_transaction:  # SQLite itself gave the whole group up: disk full, I/O error
                raise sqlite3.OperationalError(str(raised)) from raised
            self._connection.execute("ROLLBACK TO work")
            self._connection.execute("RELEASE work")
            if isinstance(raised, sqlite3.OperationalError):
                return None, LedgerUnavailable(f"the book cannot now: {raised}")
            return None, raised
        self._connection.execute("RELEASE work")
        return result, None


class SQLiteTransaction:
    """`ports.Transaction` on a connection whose thread runs it: its methods never suspend."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a query."""
        rows: list[Row] = self._connection.execute(sql, _bound(parameters)).fetchall()
        return rows

    async def fetch_locked(self, sql: str, parameters: Sequence[object] = (), *, share: bool = False) -> Sequence[Row]:
        """All rows of a query: with one writer nobody else changes them."""
        return await self.fetch(sql, parameters)

    async def fetch_of_everyone(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a query, whosever they are."""
        return await self.fetch(sql, parameters)

    async def fetch_in(
        self, sql: str, first: Sequence[object], values: Sequence[Sequence[str]], *, share: bool = False
    ) -> Sequence[Row]:
        """All rows of a query for any of several values.

        Lists are cut into parts, and each part is filled up to a power of two by repeating its last
        value, so that a handful of different statements serves every length.
        """
        rows: list[Row] = []
        for start in range(0, len(values), MAX_IN):
            part = list(values[start : start + MAX_IN])
            part += [part[-1]] * ((1 << (len(part) - 1).bit_length()) - len(part))
            bound = (*first, *[text for value in part for text in value])
            rows += self._connection.execute(_with_list(sql, len(part), len(part[0])), bound).fetchall()
        return rows

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """A statement without rows."""
        self._connection.execute(sql, _bound(parameters))

    async def execute_many(self, sql: str, parameters: Sequence[Sequence[object]]) -> None:
        """One statement for each set of parameters."""
        self._connection.executemany(sql, [_bound(one) for one in parameters])


@lru_cache(maxsize=1024)  # the ledger has some dozens of them, each in nine lengths
def _with_list(sql: str, count: int, width: int) -> str:
    mark = "?" if width == 1 else f"({', '.join('?' * width)})"
    return sql.replace("{}", ", ".join([mark] * count))


def _bound(parameters: Sequence[object]) -> tuple[Any, ...]:
    return tuple(parameters)


def drive(awaitable: Awaitable[T]) -> T:
    """Run a coroutine to its end here and now; nothing in it may wait for an event loop."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("a transaction may wait for nothing but its book")


def _deliver(delivery: Sequence[_Outcome]) -> None:
    for future, result, problem in delivery:
        if future.done():  # its caller has gone
            continue
        if problem is not None:
            future.set_exception(problem)
        else:
            future.set_result(result)
