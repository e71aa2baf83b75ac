"""The shared book: one PostgreSQL database, any number of ledgers on it.

Whoever writes a customer's book locks its row of `customers` first (`Transaction.fetch_locked`), so
one customer's transactions come one after another, on whichever ledger, and none of them can form a
circle of waiting. Within this process those that wait share a transaction, whomever they are of: a
crowd costs a commit for each group, and not for each request (`postgres_together`). Who comes alone
goes alone, and nobody waits for company.

One that fails before it has written anything is told so, and the others go on. If anything else goes
wrong, the whole is rolled back and each runs once more, alone. A customer whose row another ledger
keeps locked holds up nobody else for longer than LOCK_PATIENCE_MS: its group parts.

What did not commit is tried again, a bounded number of times. A COMMIT without an answer is neither
done nor failed: its askers hear LedgerUnavailable, and ask again with the same keys (L27).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from sidecar.errors import ConfigurationError, LedgerUnavailable, WireFormatError
from sidecar.ports import Transaction
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres_connections import Pool, ReadTransaction, Statements
from sidecar.storage.postgres_faults import (
    ENGINE,
    LOCKED,
    MAX_TRIES,
    MAX_TRIES_LOST,
    OTHER_TABLES,
    OTHERS_TOO,
    UNFIT,
    Unsettled,
    code,
    is_lost,
    may_have_happened,
    said,
    tries_of,
)
from sidecar.storage.postgres_opening import prepare, warn_of_losses
from sidecar.storage.postgres_rows import EVERYONE, beginning, beginning_for_several, may_share, role_of_rows
from sidecar.storage.postgres_together import Outcome, Together, Work
from sidecar.storage.postgres_turns import Turns

MAX_QUEUED: Final = 4096
"""Works that may wait. One more is refused with LedgerUnavailable."""

MAX_GROUP: Final = 64
"""Works that share one commit at most: the first of them waits for the last."""

SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
SNAPSHOT_OF_EVERYONE: Final = f"{SNAPSHOT}; {EVERYONE}"

MAX_GROUPS: Final = 3
"""Groups under way at a time: while the database works for one, we compute for another."""

TRIES_TOGETHER: Final = 2
"""How often a group of several customers is tried that others stood in the way of, before each goes alone."""

LOCK_PATIENCE_MS: Final = 250
"""How long a group of several customers waits for a row that somebody else has locked."""

PATIENCE: Final = f"; SET LOCAL lock_timeout = {LOCK_PATIENCE_MS}"

LONGEST_PAUSE_S: Final = 0.25
"""Between two tries, at most."""

CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 10.0
"""After which a statement is given up, with its connection."""

SILENT_TIMEOUT_S: Final = 15.0
"""After which the database takes its locks from a ledger that stopped in the middle of a transaction."""

BY_KEY: Final = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
"""Of connections that write: all that a transaction reads is found by a key. A plan made for tables that were still
empty would be kept, and read the whole of them when they no longer are."""

NO_CUSTOMER: Final = "_"
"""The first character of a name that is no customer's: what belongs to none locks other rows, and goes alone."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Job(NamedTuple):
    work: Work
    future: asyncio.Future[Any]


class _Party(NamedTuple):
    """Works of one customer, which nobody else has at the time."""

    customer: str
    jobs: list[_Job]


class PostgresBook:
    """`ports.Book` in a PostgreSQL database; made by `open_postgres`. For one event loop."""

    in_order = False

    def __init__(self, writers: Pool, readers: Pool, begin: str, max_customers: int) -> None:
        self._writers = writers
        self._readers = readers
        self._begin = begin
        self._max_customers = max_customers
        self._statements = Statements()
        self._turns = Turns()
        self._lanes: dict[str, deque[_Job]] = {}
        self._ready: deque[str] = deque()  # customers in `_lanes` whose works nobody has taken
        self._queued = 0
        self._carriers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.fault = ""
        """Why the database could not be used when it was last tried; empty if it could."""

    async def transact(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction and commit it; see `ports.Book`."""
        if self._closed:
            raise LedgerUnavailable("the book is closed")
        if self._queued >= MAX_QUEUED:
            raise LedgerUnavailable(f"{MAX_QUEUED} transactions are waiting for the book")
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._queued += 1
        lane = self._lanes.get(customer)
        if lane is not None:
            lane.append(job)
        else:
            self._lanes[customer] = deque([job])
            self._make_ready(customer)
        result: T = await job.future
        return result

    async def read(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` on one consistent snapshot of one customer's rows; writing raises an asyncpg.PostgresError."""
        return await self._read(beginning(SNAPSHOT, customer), work)

    async def read_everyone(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """The same on the rows of all customers."""
        return await self._read(SNAPSHOT_OF_EVERYONE, work)

    async def _read(self, begin: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
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

    def _make_ready(self, customer: str) -> None:
        """Have somebody carry out what waits for a customer; it is in `_lanes`, and nobody has it."""
        if customer.startswith(NO_CUSTOMER) or not may_share(customer):
            self._start(self._serve_alone(_Party(customer, [])))
            return
        self._ready.append(customer)
        if self._carriers < MAX_GROUPS:
            self._carriers += 1
            self._start(self._carry())

    def _start(self, running: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self) -> None:
        """Group after group, while anything is ready."""
        try:
            while self._ready:
                async with self._writers.slots:  # and meanwhile more may come
                    group = self._take_group()
                    apart = {party.customer: party for party in await self._settle(group)}
                for customer, _ in group:
                    if customer in apart:
                        self._start(self._serve_alone(apart[customer]))
                    else:
                        self._release(customer)
        finally:
            self._carriers -= 1

    async def _serve_alone(self, party: _Party) -> None:
        """What a party has, and then what waits for its customer."""
        async with self._writers.slots:
            jobs = party.jobs or self._take(party.customer, MAX_GROUP)
            await self._settle([_Party(party.customer, jobs)])
        self._release(party.customer)

    def _release(self, customer: str) -> None:
        if self._lanes[customer]:
            self._make_ready(customer)
        else:
            del self._lanes[customer]

    def _take_group(self) -> list[_Party]:
        """Those that have waited longest, in the order of their customers."""
        group: list[_Party] = []
        left = MAX_GROUP
        while self._ready and left > 0 and len(group) < self._max_customers:
            customer = self._ready.popleft()
            jobs = self._take(customer, left)
            left -= len(jobs)
            group.append(_Party(customer, jobs))
        return sorted(group, key=lambda party: party.customer)

    def _take(self, customer: str, at_most: int) -> list[_Job]:
        lane = self._lanes[customer]
        jobs = [lane.popleft() for _ in range(min(len(lane), at_most))]
        self._queued -= len(jobs)
        return jobs

    async def _settle(self, group: list[_Party]) -> list[_Party]:
        """Run a group until each of its askers knows what came of it; gives the parties that must go alone instead."""
        tries = 0
        while group := _still_asked(group):
            tries += 1
            try:
                outcomes = await self._run_group(group)
            except Unsettled as failed:
                if failed.tries < MAX_TRIES_LOST and sum(len(party.jobs) for party in group) > 1:
                    for party in group:  # one of them is at fault
                        for job in party.jobs:
                            await self._settle([_Party(party.customer, [job])])
                    return []
                is_locked = code(failed.problem) == LOCKED
                if len(group) > 1 and (is_locked or (failed.tries == MAX_TRIES and tries >= TRIES_TOGETHER)):
                    return group
                try:
                    await self._pause(failed, tries)
                except Exception as problem:  # whatever it is, it is theirs who asked
                    outcomes = _for_all(group, problem)
                else:
                    continue
            except Exception as problem:
                outcomes = _for_all(group, problem)
            _tell(group, outcomes)
        return []

    async def _run_group(self, group: Sequence[_Party]) -> list[list[Outcome]]:
        """All works in one transaction, committed: what came of each.

        Raises:
            Unsettled: nothing was committed.
            LedgerUnavailable: whether it was committed is unknown.
        """
        # What belongs to no customer is short, and the end of every sync.
        place = self._turns.place(first=group[0].customer.startswith(NO_CUSTOMER))
        if len(group) == 1:
            begin = beginning(self._begin, group[0].customer)
        else:
            begin = beginning_for_several(self._begin, [party.customer for party in group]) + PATIENCE
        connection = await self._writers.take()
        sound = committing = False
        try:
            await connection.execute(begin)
            together = Together(connection, self._statements, self._turns, place)
            outcomes = await together.run([(customer, [job.work for job in jobs]) for customer, jobs in group])
            committing = True
            if await connection.execute("COMMIT") != "COMMIT":
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

    async def _read_once(self, begin: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        async with self._readers.slots:
            connection = await self._readers.take()
            sound = False
            try:
                await connection.execute(begin)
                result = await work(ReadTransaction(connection, self._statements))
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
        if code(problem) in OTHER_TABLES:
            self._note(problem)
            raise LedgerUnavailable(f"the book's tables are another version's: {said(problem)}") from problem
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

    async def connect(**more: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            options.url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            statement_cache_size=512,
            connection_class=connection_class,
            server_settings=settings | more,
        )

    try:
        connection = await connect()
        try:
            await prepare(connection)
            await warn_of_losses(connection)
            settings |= await role_of_rows(connection)
        finally:
            connection.terminate()
    except (*ENGINE, ValueError) as problem:
        raise ConfigurationError([f"ledger.database.url: cannot be used as a book: {said(problem)}"]) from None
    level = options.isolation.replace("_", " ").upper()
    readers = max(2, options.connections // 2)
    writers = Pool(partial(connect, **BY_KEY), options.connections)
    begin = f"BEGIN ISOLATION LEVEL {level}"
    return PostgresBook(writers, Pool(connect, readers), begin, options.customers_together)


def _still_asked(group: list[_Party]) -> list[_Party]:
    """Without the works whose askers have gone, or have been answered."""
    left = [_Party(party.customer, [job for job in party.jobs if not job.future.done()]) for party in group]
    return [party for party in left if party.jobs]


def _for_all(group: Sequence[_Party], problem: Exception) -> list[list[Outcome]]:
    return [[(None, problem)] * len(party.jobs) for party in group]


def _tell(group: Sequence[_Party], outcomes: Sequence[Sequence[Outcome]]) -> None:
    for party, some in zip(group, outcomes, strict=True):
        for job, (result, raised) in zip(party.jobs, some, strict=True):
            if job.future.done():  # its asker has gone
                continue
            if raised is not None:
                job.future.set_exception(raised)
            else:
                job.future.set_result(result)
