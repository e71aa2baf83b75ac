"""A sidecar that runs: proxy, keeper, outbox and shipper, whichever way its ledger is reached.

What is started last is stopped first: callers are let go, then their settlements are booked and
the leases given back.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

from sidecar.app.back_office import BackOffice
from sidecar.app.local_api import Explain, past_decisions
from sidecar.app.memory import memory_reader
from sidecar.app.proxying import (
    Proxying,
    expected_gauge,
    make_desk,
    memory_gauges,
    open_gauges,
    own_gauges,
    provider_secrets,
)
from sidecar.app.rate_sharing import CountedLedger, RateSharing
from sidecar.app.serving import address_of, port_taken, product_version
from sidecar.app.settings import Settings, UpstreamSettings
from sidecar.app.system import RandomIds, SystemClock
from sidecar.app.warm_standings import Warming
from sidecar.catalog.read import Catalog
from sidecar.contract.messages import RegisterRequest, ResolveKeyRequest
from sidecar.errors import LedgerUnavailable
from sidecar.ledger.views import ShownDecision
from sidecar.ports import Ledger
from sidecar.proxy.accept import FrontDoor
from sidecar.proxy.corridor import Desk, carry
from sidecar.proxy.deny import door_shape
from sidecar.proxy.key_ring import KeyRing
from sidecar.proxy.local_api import LocalAPI
from sidecar.proxy.local_api_problems import local_shape
from sidecar.proxy.makers import Makers
from sidecar.proxy.pressure import Pressure
from sidecar.proxy.request_head import LOOPBACK_HOSTS
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.uninvited import is_refused_by_head
from sidecar.telemetry.logs import redact_also
from sidecar.telemetry.metrics import Metrics

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
        self._warming = Warming(ledger, clock, ours.redis, metrics) if ours.redis.url else None
        if self._warming is not None:
            ledger = self._warming.ledger
        self._counted = CountedLedger(ledger, self._share, clock)
        self._ledger: Ledger = self._counted
        self._office = office = BackOffice(
            data,
            self._ledger,
            clock=clock,
            ids=ids,
            outbox=ours.outbox,
            shipping=ours.shipping,
            leases=ours.leases,
            software=product_version(),
        )
        office.keeper.on_miss = metrics.lease_misses.add
        self._rates = RateSharing(clock, ours.redis, incarnation=office.incarnation, metrics=metrics)
        self._beside: list[asyncio.Task[None]] = []
        self._sweep = Sweep()
        self._pressure = Pressure(memory_reader(ours.memory_limit_bytes), self._sweep)
        self._ring = KeyRing(
            lambda sha256: ledger.resolve_key(ResolveKeyRequest(office.name, sha256)),
            clock.monotonic,
            outage_s=ours.key_outage_s,
        )
        keeper = office.keeper if self._warming is None else self._warming.keeper(office.keeper)
        parts = Proxying(
            office.table, keeper, office.spool, office.time, ids, catalog.rates, metrics, self._sweep, self._ring,
            self._rates.desk, Makers(office.made), self._pressure,
        )  # fmt: skip
        desk = make_desk(ours, upstreams, parts)
        local = LocalAPI(
            desk.identifier,
            desk.authority,
            office.keeper,
            ids,
            recent=desk.recent,
            metrics=metrics,
            past=past_decisions(
                desk.recent, catalog.rates.currencies, explain, self.settle_up, desk.authority.expected
            ),
            shown=ShownDecision,
            version=product_version(),
            default_feature=ours.subject.feature,
        )
        self._desk = dataclasses.replace(desk, local=local.answer)
        self._forget_secrets = redact_also(lambda: provider_secrets(desk.providers.values()))
        self.metrics = metrics
        self.recent = self._desk.recent
        own_gauges(metrics, office.table, office.shipper, clock)
        expected_gauge(metrics, desk.authority.expected)
        open_gauges(metrics, desk.authority.open_ended)
        memory_gauges(metrics, self._pressure)
        self._door = self._door_to(self._desk, ids)
        # Who comes by the socket is known by the kernel's word, and needs no key.
        keyless = dataclasses.replace(self._desk, requires_key=False)
        self._socket_door = None if ours.socket.path is None else self._door_to(keyless, ids)
        self._stop_hearing: Callable[[], None] | None = None
        self._ready = False
        self.address = ""

    def _share(self, sidecars: int, rank: int) -> None:
        self._rates.rates.share(sidecars, rank)

    def _begin_beside(self, *more: Coroutine[None, None, None]) -> None:
        """What goes on beside the calls until the end, however the ledger is reached; and more."""
        warming = () if self._warming is None else (self._warming.run(),)
        self._beside = [asyncio.create_task(work) for work in (self._rates.run(), *warming, *more)]

    def _door_to(self, desk: Desk, ids: RandomIds) -> FrontDoor:
        ours = self._settings.sidecar
        hosts = LOOPBACK_HOSTS | {host.lower().encode() for host in ours.allowed_hosts}
        return FrontDoor(
            lambda arrival: carry(arrival, desk),
            shape=local_shape(door_shape(ids), ids),
            sweep=self._sweep,
            options=dataclasses.replace(ours.door, hosts=hosts),
            knows_key=self._ring.knows,
            refused_by_head=lambda head: is_refused_by_head(head, desk),
            pressure=self._pressure,
        )

    async def start(self) -> None:
        """Over a ledger in this process: book what was left, close the leases of former starts, then listen.

        Raises:
            ConfigurationError: the port or the socket's place is taken, or the book does not take what it lacks.
        """
        self._sweep.start()
        await self._office.start()
        self._begin_beside()
        await self._listen()

    async def start_apart(self) -> None:
        """Over a ledger elsewhere: listen at once, and do the rest when the ledger answers.

        Until then nothing is lent: a call is refused with `ledger_unavailable`, for nobody knows what
        its customer may spend.

        Raises:
            ConfigurationError: the port is taken.
        """
        self._sweep.start()
        self._office.start_apart()
        again = self._counted.keep_counted(RegisterRequest(self._office.name, self._office.incarnation))
        self._begin_beside(again)
        await self._listen()

    async def settle_up(self) -> None:
        """Bring what was settled until now into the book, for whoever reads it next.

        Raises:
            LedgerUnavailable: it took too long.
        """
        if not await self._office.settle_up():
            raise LedgerUnavailable("settled calls are still on their way to the book; ask again", retry_after_s=2.0)

    def obstacles(self) -> list[str]:
        """What stands in the way of serving (readiness)."""
        found = [] if self._ready else ["not started, or stopping"]
        if self._ready and not self._office.joined:
            found.append("the ledger has not answered since this start")
        if self._office.spool.fault:
            found.append(f"the outbox cannot record: {self._office.spool.fault}")
        if self._ready and self._office.has_failed:
            found.append("a part has stopped; see the log")
        return found

    async def stop(self) -> None:
        """Let live calls end, book everything, give every lease back."""
        self._ready = False
        doors = [self._door] if self._socket_door is None else [self._door, self._socket_door]
        await asyncio.gather(*(door.drain(self._settings.sidecar.shutdown_grace_s) for door in doors))
        self._desk.background.close()
        await self._office.give_back()
        if self._stop_hearing is not None:
            self._stop_hearing()
        self._ring.close()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._rates.close()
        if self._warming is not None:
            await self._warming.close()
        await self._office.close()
        for provider in self._desk.providers.values():
            provider.upstream.close()
        self._sweep.stop()
        self._forget_secrets()
        if self._desk.authority.counts is not None:
            self._desk.authority.counts.close()

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
