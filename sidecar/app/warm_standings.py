"""Copies of policies for sidecars that start while the ledger is away, where there is a Redis."""

from __future__ import annotations

from sidecar.app.same_ledger import SameLedger
from sidecar.contract.messages import (
    AnySync,
    RegisterReply,
    RegisterRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
)
from sidecar.leases.breaker import Breaker
from sidecar.leases.verdicts import Keeper
from sidecar.leases.warm import WarmKeeper, WarmStandings
from sidecar.ports import Clock, Ledger
from sidecar.storage.redis_client import connect
from sidecar.storage.redis_copies import RedisCopies
from sidecar.storage.redis_options import RedisOptions
from sidecar.telemetry.metrics import Metrics


class WarmedLedger(SameLedger):
    """A ledger, of whose answers copies are left for others.

    Attributes:
        has_answered: whether it did since this start.
    """

    def __init__(self, ledger: Ledger, warm: WarmStandings) -> None:
        super().__init__(ledger)
        self._warm = warm
        self.has_answered = False

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger does."""
        reply = await self._ledger.register(request)
        self.has_answered = True
        return reply

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """As the ledger does."""
        reply = await self._ledger.resolve(request)
        self.has_answered = True
        if reply.standing is not None:
            self._warm.note(request.subject, reply.standing)
        return reply

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger does."""
        reply = await self._ledger.sync(request)
        self.has_answered = True
        return reply


class Warming:
    """One start's copies: `ledger` leaves them, `keeper` tells of them.

    Raises:
        ConfigurationError: Redis' password cannot be read.
    """

    def __init__(self, ledger: Ledger, clock: Clock, options: RedisOptions, metrics: Metrics) -> None:
        breaker = Breaker(failures=options.failures, open_s=options.open_s, max_open_s=options.max_open_s)
        self._copies = RedisCopies(connect(options), deadline_s=options.deadline_s)
        self._warm = warm = WarmStandings(self._copies, clock, breaker=breaker)
        self.ledger = WarmedLedger(ledger, warm)
        metrics.gauge(
            "spend_policy_copies_written", "Copies of policies left in Redis since the start.", lambda: warm.written
        )
        metrics.gauge("spend_policy_copies_read", "Copies of policies found there.", lambda: warm.read)

    def keeper(self, keeper: Keeper) -> WarmKeeper:
        """A keeper whose refusals tell of copies."""
        return WarmKeeper(keeper, self._warm, lambda: self.ledger.has_answered)

    async def run(self) -> None:
        """Leave copies until cancelled."""
        await self._warm.run()

    async def close(self) -> None:
        """Let the connections go."""
        await self._copies.close()
