"""The doors to the world. Every room that needs one takes it as an argument.

What satisfies a port stands elsewhere: clocks and ids in `app`, the ledger in `ledger`, the
book in `storage`, the spool and its disk in `outbox`. Tests bring their own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sidecar.contract.messages import (
    Admission,
    AnySync,
    Change,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
    UsageEvent,
)
from sidecar.core.governance.rate_orders import Order, Reply

T = TypeVar("T")


class Clock(Protocol):
    """Two clocks: one that only goes forward, one that people read."""

    def monotonic(self) -> float:
        """Seconds since some fixed instant; never goes back, not even when the wall clock is set.

        The time that the machine sleeps counts, where the machine can tell: a lease is not good for longer by it (L41).
        """
        ...

    def wall_ms(self) -> int:
        """Unix milliseconds, UTC; may jump."""
        ...


class Ids(Protocol):
    """Randomness for names."""

    def new(self, prefix: str) -> str:
        """A fresh id, `prefix_` and at least 96 random bits in [0-9a-z]."""
        ...


class Ledger(Protocol):
    """The ledger as a sidecar sees it: in process, or over HTTP.

    Every method raises LedgerUnavailable when there is no answer; asking again is always safe.
    """

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """Say that an incarnation has started."""
        ...

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """Who is this, and lend me enough for this call."""
        ...

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """Whom does this virtual key name."""
        ...

    async def sync(self, request: AnySync) -> SyncReply:
        """What was spent, what comes back, what more is wanted."""
        ...

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Hear of changes until the function given back is called. The listener must not block."""
        ...


class Spool(Protocol):
    """The outbox's writing side. Both writes reach the kernel before they return (L49)."""

    def admit(self, admission: Admission) -> None:
        """Write that a call may run.

        Raises:
            SpoolFull: it could not be written; the call must not run.
        """
        ...

    def settle(self, event: UsageEvent) -> bytes:
        """Write what a call used. Room for it was kept when it was admitted.

        Returns:
            The event as it was written (`contract.codec`).

        Raises:
            SpoolFull: the disk failed after all; the call is then settled from its admission
                when the outbox is next read.
        """
        ...


class Disk(Protocol):
    """What a spool must know of its disk beyond the files: what is written there can yet be lost, or be elsewhere."""

    def boot_id(self) -> str:
        """Names this run of the machine: what was not synced before it may be missing. Empty: it cannot be told."""
        ...

    def identity(self, found: os.stat_result) -> tuple[int, int]:
        """Device and inode: of a copied file they are others."""
        ...

    def write(self, descriptor: int, data: bytes) -> int:
        """Give bytes to the kernel, where they outlive this process; how many it took.

        Raises:
            OSError: none.
        """
        ...

    def sync(self, descriptor: int) -> None:
        """Bring what was written to where it outlives the machine's run.

        Raises:
            OSError: that failed, and what was written since the last time may be lost.
        """
        ...

    def sync_names(self, directory: Path) -> None:
        """Bring the names of a folder's files there: a file whose name is lost is lost, however well it was synced.

        Raises:
            OSError: that failed, and files made since the last time may be lost.
        """
        ...


class Windows(Protocol):
    """Where a fleet counts its rate limits together."""

    async def order(self, order: Order) -> Reply:
        """Do one order, all of it at once or nothing of it.

        Raises:
            WindowsUnavailable: there was no answer; whether it was done is then unknown, and the next order of the
                same incarnation makes up for it.
        """
        ...


class Copies(Protocol):
    """Where a fleet leaves copies of policies for sidecars that start in an outage. Others may write there."""

    async def read(self, customer: str, name: str) -> bytes | None:
        """What lies under a customer's name; None: nothing, or more than `warm_copies.MAX_COPY_BYTES`.

        Raises:
            CopiesUnavailable: there was no answer in time.
        """
        ...

    async def write(self, customer: str, name: str, data: bytes) -> None:
        """Put something there, to be forgotten after `warm_copies.MAX_COPY_AGE_MS`.

        Raises:
            CopiesUnavailable: there was no answer in time.
        """
        ...


class Row(Protocol):
    """A row as an engine gives it: values by column name."""

    def __getitem__(self, column: str) -> Any: ...


class Transaction(Protocol):
    """One transaction on one customer's book. Its methods suspend only where the engine must.

    SQL here is what SQLite and PostgreSQL both take, with `?` for parameters; the engine's own
    module rewrites what differs.
    """

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a query."""
        ...

    async def fetch_locked(self, sql: str, parameters: Sequence[object] = (), *, share: bool = False) -> Sequence[Row]:
        """All rows of a query, which no other transaction changes before this one ends.

        Nor does another lock them, unless both `share`. Whoever writes a customer's book locks that
        customer's row before anything else.
        """
        ...

    async def fetch_of_everyone(self, sql: str, parameters: Sequence[object] = ()) -> Sequence[Row]:
        """All rows of a query, whosever they are: of what must be known over all customers while one's book is written.

        Every other method sees and writes the rows of the transaction's customer alone, where the engine can do so.
        """
        ...

    async def fetch_in(
        self, sql: str, first: Sequence[object], values: Sequence[Sequence[str]], *, share: bool = False
    ) -> Sequence[Row]:
        """All rows of a query for any of several values.

        Args:
            sql: a query in which a column is compared by `IN ({})`, or several by `(a, b) IN (VALUES {})`; `{}` is its
                last parameter. It neither orders rows nor sums them up over several values.
            first: the parameters before that.
            values: distinct, each of as many texts as the query compares.
            share: as `fetch_locked` that shares.
        """
        ...

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """A statement without rows."""
        ...

    async def execute_many(self, sql: str, parameters: Sequence[Sequence[object]]) -> None:
        """One statement for each set of parameters."""
        ...


class Book(Protocol):
    """Where the ledger keeps what it knows."""

    @property
    def in_order(self) -> bool:
        """Whether transactions commit in the order in which they were asked for, whomever they are of."""
        ...

    async def transact(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one serialisable transaction on a customer's book, and commit.

        `work` may run more than once (a serialisation failure), so it must have no effect but
        through the transaction. Anything it raises rolls back and is raised here.

        Raises:
            LedgerUnavailable: the engine cannot now; whether a commit happened is then unknown.
        """
        ...

    async def read(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` on one consistent snapshot of one customer's book, without writing.

        As in `transact`, an engine that can keeps the rows of others out of its sight (S-31).
        """
        ...

    async def read_everyone(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """The same over the books of all customers: for what is asked of the whole ledger, or of no known customer."""
        ...
