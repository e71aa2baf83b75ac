"""What stands behind the proxy: its leases and its outbox, and how they join a ledger and leave it.

One start of a sidecar, without a socket: which is why it can be run on a pretend clock, network and disk.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sidecar.app.data_folder import BOOK, OUTBOX, sidecar_name
from sidecar.app.ledger_time import LedgerTime, TimedLedger
from sidecar.app.lending_gate import LendingGate
from sidecar.contract.messages import Change
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.leases.keeper import Keeper
from sidecar.leases.options import KeeperOptions
from sidecar.leases.table import LeaseTable
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.shipper import Shipper, ShipperOptions
from sidecar.outbox.spool import SpoolOptions
from sidecar.ports import Clock, Disk, Ids, Ledger

FLUSH_TIMEOUT_S: Final = 5.0
"""How long a read of the ledger waits for what was settled before it."""

STOP_FLUSH_TIMEOUT_S: Final = 10.0

REPLAY_TIMEOUT_S: Final = 60.0
"""How long a book that lacks calls may take none of them before the start is given up."""

CLOSE_LEASES_EVERY_S: Final = 1.0

JOIN_MIN_BACKOFF_S: Final = 0.25
JOIN_MAX_BACKOFF_S: Final = 5.0
"""Between two attempts to reach a ledger that has not answered since the start."""

logger = logging.getLogger(__name__)


class BackOffice:
    """The leases and the outbox of one start, over a ledger in this process or another.

    Attributes:
        name: this sidecar's, the same at every start.
        incarnation: a random number drawn at this start (L43).
        table: where spending power is held.
        keeper: who fetches it and gives it back.
        spool: where calls are recorded.
        made: who made the kept answers of former starts that the outbox still has, by provider and answer's id.
        shipper: who brings them to the ledger.
        time: by which calls are to be stamped: the ledger's, once it has told it.
        joined: whether the ledger has answered since this start.
    """

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        *,
        clock: Clock,
        ids: Ids,
        outbox: SpoolOptions,
        shipping: ShipperOptions,
        leases: KeeperOptions,
        disk: Disk | None = None,
        software: str = "",
    ) -> None:
        """Open the outbox, and settle what a former start left open. `software`: our version, for the ledger.

        Raises:
            ConfigurationError: another process uses the folder, or it cannot be read or written.
            SpoolFull: the disk takes no more.
        """
        self.name = sidecar_name(data, ids)
        self.incarnation = ids.new("inc")
        self._recovery = open_spool(
            data / OUTBOX, clock, outbox, sidecar=self.name, incarnation=self.incarnation, disk=disk
        )
        self.time = LedgerTime(clock)
        ledger = TimedLedger(ledger, self.time)
        self.spool = self._recovery.spool
        self.made = self._recovery.made
        self.shipper = Shipper(ledger, self.spool, self.time, shipping, software=software)
        self.table = LeaseTable()
        self._ledger = ledger
        self._gate = LendingGate(ledger, self.shipper)
        self._beat_every_s = leases.refresh_every_s
        self.keeper = Keeper(
            self._gate,
            self.table,
            clock,
            notes=self.spool,
            courier=self.shipper,
            sidecar=self.name,
            incarnation=self.incarnation,
            options=leases,
        )
        self.shipper.attach(self.keeper)
        self.joined = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Over a ledger in this process: book what was left, and close the leases of former starts.

        Raises:
            ConfigurationError: the book does not take what it lacks.
        """
        await self.shipper.register()
        self._run(self.spool.run(), self.shipper.run(), self.keeper.run(), self._stay_known())
        await self._replay()
        if self.shipper.has_news:
            await self.shipper.register()
        self._gate.open()
        self.joined = True
        if not await self._close_leases():
            self._run(self._close_leases_later())

    def start_apart(self) -> None:
        """Over a ledger elsewhere: be there at once, and do the rest when the ledger answers.

        Until then nothing is lent: a call is refused with `ledger_unavailable`, for nobody knows what
        its customer may spend.
        """
        self._run(self.spool.run(), self.keeper.run(), self._join())

    @property
    def has_failed(self) -> bool:
        """Whether a part that should run has stopped."""
        return any(task.done() and not _ended_well(task) for task in self._tasks)

    async def settle_up(self) -> bool:
        """Bring what was settled until now into the book, for whoever reads it next; False: it took too long."""
        return await self.shipper.flush(FLUSH_TIMEOUT_S)

    async def give_back(self) -> None:
        """Book everything and give every lease back, as far as the ledger hears of it. No call may run any more."""
        if not self.joined:
            return  # nothing was lent, and what waits in the outbox goes with the next start
        if await self.keeper.close() and await self.shipper.flush(STOP_FLUSH_TIMEOUT_S):
            await self.shipper.end()
        else:
            logger.warning("stopped_with_unbooked_calls", extra={"facts": {"waiting": self.shipper.depth}})

    async def close(self) -> None:
        """Stop every part, and close the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.spool.close()

    # inside

    def _run(self, *works: Coroutine[Any, Any, None]) -> None:
        self._tasks += [asyncio.create_task(work) for work in works]

    async def _join(self) -> None:
        """Become known to the ledger, bring it what it lacks, and borrow from then on (L43, L50a)."""
        failures = 0
        while True:
            try:
                reply = await self.shipper.register()
                break
            except SidecarError as problem:
                if not failures:
                    logger.warning("ledger_not_joined", extra={"facts": {"problem": str(problem)}})
                longest = min(JOIN_MAX_BACKOFF_S, JOIN_MIN_BACKOFF_S * 2 ** min(failures, 10))
                failures += 1
                await asyncio.sleep(random.uniform(longest / 2, longest))
        self._run(self.shipper.run(), self._stay_known())
        self._gate.open()
        self.joined = True
        logger.info("ledger_joined", extra={"facts": {"history_id": reply.history_id}})
        await self._close_leases_later()

    async def _stay_known(self) -> None:
        """Be heard of where nothing is said, and tell the ledger when its book was another and is caught up (L50a)."""
        stop = self._ledger.subscribe(self._heard)
        try:
            await self._keep_known()
        finally:
            stop()

    def _heard(self, change: Change) -> None:
        """The book has become another: bring it at once what it lacks, for it lends nobody anything before (L50a)."""
        if change.history:
            self.shipper.beat()

    async def _keep_known(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_every_s * random.uniform(0.9, 1.0)):
                    await self.shipper.news.wait()
            if not self.shipper.has_news:
                self.shipper.news.clear()
                self.shipper.beat()
                continue
            try:
                await self.shipper.register()
                logger.warning("book_caught_up", extra={"facts": {"history_id": self.shipper.caught_up}})
            except SidecarError as problem:
                logger.warning("ledger_not_told", extra={"facts": {"problem": str(problem)}})
                await asyncio.sleep(JOIN_MAX_BACKOFF_S * random.uniform(0.5, 1.0))

    async def _replay(self) -> None:
        """Where another or an earlier book was put in place: nothing is lent before it has what it lacks (L50a).

        Raises:
            ConfigurationError: it takes nothing; the next start tries again.
        """
        while self.shipper.is_replaying:
            before = self.shipper.depth
            if not await self.shipper.flush(REPLAY_TIMEOUT_S) and self.shipper.depth >= before:
                raise ConfigurationError(
                    [f"{BOOK}: was replaced or put back, and does not take the calls that it lacks: see the log"]
                )

    async def _close_leases(self) -> bool:
        """Book what earlier starts left, and close their leases; False if it has to be tried again."""
        if not await self.shipper.flush(FLUSH_TIMEOUT_S):
            return False
        refused = self.shipper.has_refused
        return await self._recovery.close_leases(self._ledger, all_booked=lambda one: not refused(one))

    async def _close_leases_later(self) -> None:
        while not await self._close_leases():  # noqa: ASYNC110 - the ledger has no event for it
            await asyncio.sleep(CLOSE_LEASES_EVERY_S)


def _ended_well(task: asyncio.Task[None]) -> bool:
    """Whether a part that runs beside the requests came to an end of its own, such as closing old leases."""
    return not task.cancelled() and task.exception() is None
