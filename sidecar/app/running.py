"""A sidecar that runs: proxy, keeper, outbox and shipper, whichever way its ledger is reached.

What is started last is stopped first: callers are let go, then their settlements are booked and
the leases given back.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from sidecar.app.data_folder import BOOK, OUTBOX, sidecar_name
from sidecar.app.lending_gate import LendingGate
from sidecar.app.local_api import Explain, past_decisions
from sidecar.app.proxying import Proxying, make_desk, own_gauges, provider_secrets
from sidecar.app.serving import address_of, port_taken, product_version
from sidecar.app.settings import Settings, UpstreamSettings
from sidecar.app.system import RandomIds, SystemClock
from sidecar.catalog.read import Catalog
from sidecar.contract.messages import RegisterRequest, ResolveKeyRequest
from sidecar.errors import ConfigurationError, LedgerUnavailable, SidecarError
from sidecar.leases.keeper import Keeper
from sidecar.leases.table import LeaseTable
from sidecar.ledger.views import ShownDecision
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.shipper import Shipper
from sidecar.ports import Ledger
from sidecar.proxy.accept import FrontDoor
from sidecar.proxy.corridor import Desk, carry
from sidecar.proxy.deny import door_shape
from sidecar.proxy.key_ring import KeyRing
from sidecar.proxy.local_api import LocalAPI
from sidecar.proxy.local_api_problems import local_shape
from sidecar.proxy.request_head import LOOPBACK_HOSTS
from sidecar.proxy.sweep import Sweep
from sidecar.telemetry.logs import redact_also
from sidecar.telemetry.metrics import Metrics

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


class RunningSidecar:
    """The proxy with its leases and its outbox, over a ledger in this process or another."""

    def __init__(
        self,
        settings: Settings,
        upstreams: dict[str, UpstreamSettings],
        data: Path,
        catalog: Catalog,
        ledger: Ledger,
        *,
        clock: SystemClock,
        ids: RandomIds,
        metrics: Metrics,
        explain: Explain | None = None,
    ) -> None:
        """Open the outbox, and settle what a former start left open.

        `explain` is asked for decisions that are not remembered here, where the ledger is in this process.

        Raises:
            ConfigurationError: another process uses the folder, or an upstream cannot be made.
        """
        ours = settings.sidecar
        self._settings = settings
        self._ledger = ledger
        self._name = sidecar_name(data, ids)
        self._incarnation = ids.new("inc")
        self._recovery = open_spool(
            data / OUTBOX, clock, ours.outbox, sidecar=self._name, incarnation=self._incarnation
        )
        self._spool = self._recovery.spool
        self._shipper = Shipper(ledger, self._spool, clock, ours.shipping)
        table = LeaseTable()
        self._gate = LendingGate(ledger, lambda: self._shipper.is_replaying)
        self._keeper = Keeper(
            self._gate,
            table,
            clock,
            notes=self._spool,
            courier=self._shipper,
            sidecar=self._name,
            incarnation=self._incarnation,
            options=ours.leases,
        )
        self._keeper.on_miss = metrics.lease_misses.add
        self._shipper.attach(self._keeper)
        self._sweep = Sweep()
        self._ring = KeyRing(
            lambda sha256: ledger.resolve_key(ResolveKeyRequest(self._name, sha256)),
            clock.monotonic,
            outage_s=ours.key_outage_s,
        )
        parts = Proxying(table, self._keeper, self._spool, clock, ids, catalog.rates, metrics, self._sweep, self._ring)
        desk = make_desk(ours, upstreams, parts)
        local = LocalAPI(
            desk.identifier,
            desk.authority,
            self._keeper,
            ids,
            recent=desk.recent,
            metrics=metrics,
            past=past_decisions(desk.recent, catalog.rates.currencies, explain, self.settle_up),
            shown=ShownDecision,
            version=product_version(),
            default_feature=ours.subject.feature,
        )
        self._desk = dataclasses.replace(desk, local=local.answer)
        self._forget_secrets = redact_also(lambda: provider_secrets(desk.providers.values()))
        self.metrics = metrics
        self.recent = self._desk.recent
        own_gauges(metrics, table, self._shipper, clock)
        self._door = self._door_to(self._desk, ids)
        # Who comes by the socket is known by the kernel's word, and needs no key.
        keyless = dataclasses.replace(self._desk, requires_key=False)
        self._socket_door = None if ours.socket.path is None else self._door_to(keyless, ids)
        self._stop_hearing: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = False
        self._joined = False
        self.address = ""

    def _door_to(self, desk: Desk, ids: RandomIds) -> FrontDoor:
        ours = self._settings.sidecar
        hosts = LOOPBACK_HOSTS | {host.lower().encode() for host in ours.allowed_hosts}
        return FrontDoor(
            lambda arrival: carry(arrival, desk),
            shape=local_shape(door_shape(ids), ids),
            sweep=self._sweep,
            options=dataclasses.replace(ours.door, hosts=hosts),
            knows_key=self._ring.knows,
        )

    async def start(self) -> None:
        """Over a ledger in this process: book what was left, close the leases of former starts, then listen.

        Raises:
            ConfigurationError: the port or the socket's place is taken, or the book does not take what it lacks.
        """
        self._shipper.registered(await self._ledger.register(RegisterRequest(self._name, self._incarnation)))
        self._sweep.start()
        self._run(self._spool.run(), self._shipper.run(), self._keeper.run())
        await self._replay()
        self._gate.open()
        self._joined = True
        if not await self._close_leases():
            self._run(self._close_leases_later())
        await self._listen()

    async def start_apart(self) -> None:
        """Over a ledger elsewhere: listen at once, and do the rest when the ledger answers.

        Until then nothing is lent: a call is refused with `ledger_unavailable`, for nobody knows what
        its customer may spend.

        Raises:
            ConfigurationError: the port is taken.
        """
        self._sweep.start()
        self._run(self._spool.run(), self._keeper.run(), self._join())
        await self._listen()

    async def settle_up(self) -> None:
        """Bring what was settled until now into the book, for whoever reads it next.

        Raises:
            LedgerUnavailable: it took too long.
        """
        if not await self._shipper.flush(FLUSH_TIMEOUT_S):
            raise LedgerUnavailable("settled calls are still on their way to the book; ask again", retry_after_s=2.0)

    def obstacles(self) -> list[str]:
        """What stands in the way of serving (readiness)."""
        found = [] if self._ready else ["not started, or stopping"]
        if self._ready and not self._joined:
            found.append("the ledger has not answered since this start")
        if self._spool.fault:
            found.append(f"the outbox cannot record: {self._spool.fault}")
        if self._ready and any(task.done() and not _ended_well(task) for task in self._tasks):
            found.append("a part has stopped; see the log")
        return found

    async def stop(self) -> None:
        """Let live calls end, book everything, give every lease back."""
        self._ready = False
        doors = [self._door] if self._socket_door is None else [self._door, self._socket_door]
        await asyncio.gather(*(door.drain(self._settings.sidecar.shutdown_grace_s) for door in doors))
        if not self._joined:
            pass  # nothing was lent, and what waits in the outbox goes with the next start
        elif await self._keeper.close() and await self._shipper.flush(STOP_FLUSH_TIMEOUT_S):
            await self._shipper.end()
        else:
            logger.warning("stopped_with_unbooked_calls", extra={"facts": {"waiting": self._shipper.depth}})
        if self._stop_hearing is not None:
            self._stop_hearing()
        self._ring.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for provider in self._desk.providers.values():
            provider.upstream.close()
        self._sweep.stop()
        self._spool.close()
        self._forget_secrets()
        if self._desk.authority.counts is not None:
            self._desk.authority.counts.close()

    def _run(self, *works: Coroutine[Any, Any, None]) -> None:
        self._tasks += [asyncio.create_task(work) for work in works]

    async def _listen(self) -> None:
        listen = self._settings.sidecar.listen
        self._stop_hearing = self._ledger.subscribe(self._ring.changed)
        try:
            port = await self._door.listen(listen.host, listen.port)
        except OSError as problem:
            raise port_taken(listen, "--port", problem) from None
        if self._socket_door is not None:
            await self._socket_door.listen_on(self._settings.sidecar.socket)
            logger.info("socket_listens", extra={"facts": {"path": str(self._settings.sidecar.socket.path)}})
        self.address = address_of(listen.host, port)
        self._ready = True

    async def _join(self) -> None:
        """Become known to the ledger, bring it what it lacks, and borrow from then on (L43, L50a)."""
        failures = 0
        while True:
            try:
                reply = await self._ledger.register(RegisterRequest(self._name, self._incarnation))
                break
            except SidecarError as problem:
                if not failures:
                    logger.warning("ledger_not_joined", extra={"facts": {"problem": str(problem)}})
                longest = min(JOIN_MAX_BACKOFF_S, JOIN_MIN_BACKOFF_S * 2 ** min(failures, 10))
                failures += 1
                await asyncio.sleep(random.uniform(longest / 2, longest))
        self._shipper.registered(reply)
        self._run(self._shipper.run())
        self._gate.open()
        self._joined = True
        logger.info("ledger_joined", extra={"facts": {"history_id": reply.history_id}})
        await self._close_leases_later()

    async def _replay(self) -> None:
        """Where another or an earlier book was put in place: nothing is lent before it has what it lacks (L50a).

        Raises:
            ConfigurationError: it takes nothing; the next start tries again.
        """
        while self._shipper.is_replaying:
            before = self._shipper.depth
            if not await self._shipper.flush(REPLAY_TIMEOUT_S) and self._shipper.depth >= before:
                raise ConfigurationError(
                    [f"{BOOK}: was replaced or put back, and does not take the calls that it lacks: see the log"]
                )

    async def _close_leases(self) -> bool:
        """Book what earlier starts left, and close their leases; False if it has to be tried again."""
        if not await self._shipper.flush(FLUSH_TIMEOUT_S):
            return False
        refused = self._shipper.has_refused
        return await self._recovery.close_leases(self._ledger, all_booked=lambda one: not refused(one))

    async def _close_leases_later(self) -> None:
        while not await self._close_leases():  # noqa: ASYNC110 - the ledger has no event for it
            await asyncio.sleep(CLOSE_LEASES_EVERY_S)


def _ended_well(task: asyncio.Task[None]) -> bool:
    """Whether a part that runs beside the requests came to an end of its own, such as closing old leases."""
    return not task.cancelled() and task.exception() is None
