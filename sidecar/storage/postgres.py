"""The shared book: one PostgreSQL database, any number of ledgers on it.

Whoever writes a customer's book locks its row of `customers` first (`Transaction.fetch_locked`), so
one customer's transactions come one after another, on whichever ledger, and none of them can form a
circle of waiting. Within this process those that wait for the same customer share a transaction: a
busy customer costs a commit for each group, and not for each request.

Works of a group run one after another in that transaction. One that fails before it has written
anything is told so, and the others go on. If anything else goes wrong, the whole is rolled back and
each runs once more, alone.

What did not commit is tried again, a bounded number of times. A COMMIT without an answer is neither
done nor failed: its askers hear LedgerUnavailable, and ask again with the same keys (L27).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from sidecar.errors import ConfigurationError, LedgerUnavailable, WireFormatError
from sidecar.ports import Transaction
from sidecar.storage import migrate
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres_connections import Pool, PostgresTransaction
from sidecar.storage.postgres_faults import (
    ENGINE,
    MADE_MEANWHILE,
    MAX_TRIES,
    MAX_TRIES_LOST,
    OTHERS_TOO,
    UNFIT,
    Unsettled,
    code,
    is_lost,
    may_have_happened,
    said,
    tries_of,
)
from sidecar.storage.postgres_rows import BEGIN_OF_EVERYONE, EVERYONE, beginning, role_of_rows

MAX_QUEUED: Final = 4096
"""Works that may wait. One more is refused with LedgerUnavailable."""

MAX_GROUP: Final = 64
"""Works that share one commit at most: the first of them waits for the last."""

SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
SNAPSHOT_OF_EVERYONE: Final = f"{SNAPSHOT}; {EVERYONE}"

LONGEST_PAUSE_S: Final = 0.25
"""Between two tries, at most."""

CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 10.0
"""After which a statement is given up, with its connection."""

SILENT_TIMEOUT_S: Final = 15.0
"""After which the database takes its locks from a ledger that stopped in the middle of a transaction."""

MIGRATION_TIMEOUT_S: Final = 600.0
"""For a migration, or for waiting until another ledger has made it."""

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[T]]

logger = logging.getLogger(__name__)


class _Job(NamedTuple):
    customer: str
    work: Work[Any]
    future: asyncio.Future[Any]


class PostgresBook:
    """`ports.Book` in a PostgreSQL database; made by `open_postgres`. For one event loop."""

    in_order = False

    def __init__(self, writers: Pool, readers: Pool, begin: str) -> None:
        self._writers = writers
        self._readers = readers
        self._begin = begin
        self._columns: dict[str, str | None] = {}
        self._lanes: dict[str, deque[_Job]] = {}
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.fault = ""
        """Why the database could not be used when it was last tried; empty if it could."""

    async def transact(self, customer: str, work: Work[T]) -> T:
        """Run `work` in a transaction and commit it; see `ports.Book`."""
        if self._closed:
            raise LedgerUnavailable("the book is closed")
        if self._queued >= MAX_QUEUED:
            raise LedgerUnavailable(f"{MAX_QUEUED} transactions are waiting for the book")
        job = _Job(customer, work, asyncio.get_running_loop().create_future())
        self._queued += 1
        lane = self._lanes.get(customer)
        if lane is not None:
            lane.append(job)
        else:
            self._lanes[customer] = deque([job])
            task = asyncio.create_task(self._serve(customer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        result: T = await job.future
        return result

    async def read(self, customer: str, work: Work[T]) -> T:
        """Run `work` on one consistent snapshot of one customer's rows; writing raises an asyncpg.PostgresError."""
        return await self._read(beginning(SNAPSHOT, customer), work)

    async def read_everyone(self, work: Work[T]) -> T:
        """The same on the rows of all customers."""
        return await self._read(SNAPSHOT_OF_EVERYONE, work)

    async def _read(self, begin: str, work: Work[T]) -> T:
        if self._closed:
            raise LedgerUnavailable("the book is closed")
        tries = 0
        while True:
            tries += 1
            try:
                return await self._read_once(begin, work)
            except Unsettled as failed:
                await self._pause(failed, tries)

    async def now_ms(self) -> int:
        """The database's clock: Unix milliseconds, UTC."""

        async def look(tx: Transaction) -> int:
            rows = await tx.fetch("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms")
            found: int = rows[0]["now_ms"]
            return found

        return await self.read("", look)

    async def close(self) -> None:
        """Finish what is queued, then close; twice is once."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._writers.close()
        self._readers.close()

    async def _serve(self, customer: str) -> None:
        """Everything that waits for a customer, group by group."""
        lane = self._lanes[customer]
        try:
            while lane:
                async with self._writers.slots:  # and meanwhile more may come
                    group = [lane.popleft() for _ in range(min(len(lane), MAX_GROUP))]
                    self._queued -= len(group)
                    await self._settle(group)
        finally:
            del self._lanes[customer]

    async def _settle(self, group: Sequence[_Job]) -> None:
        """Run a group until each of its askers knows what came of it."""
        tries = 0
        while group := [job for job in group if not job.future.done()]:  # the others' askers have gone
            tries += 1
            try:
                outcomes = await self._run_group(group)
            except Unsettled as failed:
                if failed.tries < MAX_TRIES_LOST and len(group) > 1:  # one of them is at fault
                    for job in group:
                        await self._settle([job])
                    return
                try:
                    await self._pause(failed, tries)
                except Exception as problem:  # whatever it is, it is theirs who asked
                    outcomes = [(None, problem)] * len(group)
                else:
                    continue
            except Exception as problem:
                outcomes = [(None, problem)] * len(group)
            _tell(group, outcomes)

    async def _run_group(self, group: Sequence[_Job]) -> list[tuple[Any, Exception | None]]:
        """All works in one transaction, committed: what came of each.

        Raises:
            Unsettled: nothing was committed.
            LedgerUnavailable: whether it was committed is unknown.
        """
        begin = beginning(self._begin, group[0].customer)
        connection = await self._writers.take()
        sound = committing = False
        try:
            await connection.execute(begin)
            tx = PostgresTransaction(connection, self._columns)
            outcomes: list[tuple[Any, Exception | None]] = []
            for job in group:
                tx.wrote = False
                try:
                    outcomes.append((await job.work(tx), None))
                except ENGINE:
                    raise
                except Exception as raised:
                    if tx.wrote:
                        raise Unsettled(raised, 1) from raised
                    outcomes.append((None, raised))
            committing = True
            if await connection.execute("COMMIT") != "COMMIT":  # a work has swallowed an error of the engine
                raise Unsettled(RuntimeError("the transaction had failed before its end"), 1)
            sound = True
            self.fault = ""
            return outcomes
        except ENGINE as problem:
            if committing and may_have_happened(problem):
                self._note(problem)
                raise LedgerUnavailable("the book did not answer to a commit: whether it was is unknown") from problem
            raise self._unsettled(problem, connection) from problem
        finally:
            await self._writers.give(connection, sound=sound)

    async def _read_once(self, begin: str, work: Work[T]) -> T:
        async with self._readers.slots:
            connection = await self._readers.take()
            sound = False
            try:
                await connection.execute(begin)
                result = await work(PostgresTransaction(connection, self._columns))
                await connection.execute("COMMIT")
                sound = True
                self.fault = ""
                return result
            except asyncpg.ReadOnlySQLTransactionError:  # it is the work that is wrong, and not a standby
                raise
            except ENGINE as problem:
                raise self._unsettled(problem, connection) from problem
            finally:
                await self._readers.give(connection, sound=sound)

    def _unsettled(self, problem: Exception, connection: asyncpg.Connection) -> Unsettled:
        if connection.is_closed() or code(problem).startswith(OTHERS_TOO):
            self._writers.forget()
            self._readers.forget()
        return Unsettled(problem, tries_of(problem))

    def _note(self, problem: BaseException) -> None:
        if not self.fault:
            logger.error("book_unreachable", extra={"facts": {"problem": said(problem)}})
        self.fault = said(problem)

    async def _pause(self, failed: Unsettled, tries: int) -> None:
        """Wait before the next try.

        Raises:
            Exception: there is none: what went wrong, or LedgerUnavailable where it may pass.
        """
        if is_lost(failed.problem):
            self._note(failed.problem)
        if tries < failed.tries and not self._closed:
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_S, 0.002 * 2**tries)))
            return
        problem = failed.problem
        if isinstance(problem, UNFIT):
            raise WireFormatError("the asker", "a text or number that the book cannot hold") from problem
        if failed.tries == 1 or isinstance(problem, asyncpg.UniqueViolationError):
            raise problem
        raise LedgerUnavailable(f"the book cannot now: {said(problem)}") from problem


async def open_postgres(
    options: DatabaseOptions, *, connection_class: type[asyncpg.Connection] = asyncpg.Connection
) -> PostgresBook:
    """Open a book, and bring its tables up to date.

    Args:
        options: where and how.
        connection_class: what talks to the database; tests let theirs fail.

    Raises:
        ConfigurationError: the database cannot be reached or used as it is said, or was made by a newer version.
    """

    settings = {
        "application_name": "spend ledger",
        "jit": "off",
        "idle_in_transaction_session_timeout": str(round(1000 * SILENT_TIMEOUT_S)),
        "standard_conforming_strings": "on",
    }

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            options.url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            statement_cache_size=512,
            connection_class=connection_class,
            server_settings=settings,
        )

    try:
        connection = await connect()
        try:
            await prepare(connection)
            await _warn_of_losses(connection)
            settings |= await role_of_rows(connection)
        finally:
            connection.terminate()
    except (*ENGINE, ValueError) as problem:
        raise ConfigurationError([f"ledger.database.url: cannot be used as a book: {said(problem)}"]) from None
    level = options.isolation.replace("_", " ").upper()
    readers = max(2, options.connections // 2)
    return PostgresBook(Pool(connect, options.connections), Pool(connect, readers), f"BEGIN ISOLATION LEVEL {level}")


async def _warn_of_losses(connection: asyncpg.Connection) -> None:
    """Say it where the database answers a commit before it is safe: a lease could then be lent twice (L50a)."""
    rows = await connection.fetch(
        "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off' ORDER BY name"
    )
    if rows:
        facts = {"off": " ".join(row["name"] for row in rows)}
        logger.warning("database_may_lose_what_it_answered", extra={"facts": facts})


async def prepare(connection: asyncpg.Connection) -> None:
    """Apply the migrations that the database lacks, all in one transaction.

    Of several ledgers that start together the first locks the row of number 0, and the others find
    everything done.
    """
    for attempt in range(MAX_TRIES):
        try:
            await connection.execute(migrate.TABLE)
            break
        except asyncpg.PostgresError as problem:
            if code(problem) not in MADE_MEANWHILE:
                raise
            await asyncio.sleep(0.01 * attempt)
    insert = "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3) ON CONFLICT (number) DO NOTHING"
    await connection.execute(insert, 0, "lock", "")
    timeout = MIGRATION_TIMEOUT_S
    await connection.execute(BEGIN_OF_EVERYONE)
    await connection.fetch("SELECT number FROM migrations WHERE number = 0 FOR UPDATE", timeout=timeout)
    rows = await connection.fetch("SELECT number, sha256 FROM migrations WHERE number > 0")
    applied = {row["number"]: row["sha256"] for row in rows}
    for migration in migrate.pending(migrate.shipped("postgres"), applied, where="ledger.database"):
        await connection.execute(migration.sql, timeout=timeout)
        await connection.execute(insert, migration.number, migration.name, migration.sha256)
    await connection.execute("COMMIT")


def _tell(group: Sequence[_Job], outcomes: Sequence[tuple[Any, Exception | None]]) -> None:
    for job, (result, raised) in zip(group, outcomes, strict=True):
        if job.future.done():  # its asker has gone
            continue
        if raised is not None:
            job.future.set_exception(raised)
        else:
            job.future.set_result(result)
