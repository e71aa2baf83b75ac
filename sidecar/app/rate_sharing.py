"""Where a sidecar's rate limits are counted: here by its share, and together with the fleet where there is a Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidecar.app.same_ledger import SameLedger
from sidecar.contract.messages import (
    AnySync,
    RegisterReply,
    RegisterRequest,
    SyncReply,
)
from sidecar.errors import SidecarError
from sidecar.leases.breaker import Breaker, State
from sidecar.leases.rate_lanes import SharedRates
from sidecar.leases.rates import RateKeeper
from sidecar.ports import Clock, Ledger
from sidecar.storage.redis_client import connect
from sidecar.storage.redis_options import RedisOptions
from sidecar.storage.redis_windows import RedisWindows
from sidecar.telemetry.metrics import Metrics

SHARE_EVERY_S: Final = 20.0
"""How often a sidecar that has nothing else to say to the ledger lets itself be counted."""

logger = logging.getLogger(__name__)


class RateSharing:
    """One start's rate limits: `desk` decides, `close` lets go.

    Raises:
        ConfigurationError: Redis' password cannot be read.
    """

    def __init__(self, clock: Clock, options: RedisOptions, *, incarnation: str, metrics: Metrics) -> None:
        self.rates = RateKeeper(clock)
        self._windows = RedisWindows(connect(options), deadline_s=options.deadline_s) if options.url else None
        breaker = Breaker(failures=options.failures, open_s=options.open_s, max_open_s=options.max_open_s)
        self.desk = desk = SharedRates(self.rates, self._windows, clock, incarnation=incarnation, breaker=breaker)
        metrics.gauge("spend_rate_windows", "Windows of rate limits that are counted here.", lambda: len(self.rates))
        metrics.gauge(
            "spend_rate_sharers", "Sidecars that share what they cannot count together.", lambda: self.rates.sidecars
        )
        if self._windows is not None:
            metrics.gauge("spend_redis_orders", "Messages to Redis since the start.", lambda: desk.asked)
            metrics.gauge("spend_redis_unanswered", "Those that were not answered in time.", lambda: desk.unanswered)
            metrics.gauge(
                "spend_redis_open",
                "1 while Redis is left alone after failures: rate limits are then counted by share.",
                lambda: breaker.state is not State.CLOSED,
            )

    async def run(self) -> None:
        """Tell Redis anew what counts, until cancelled."""
        await self.desk.run()

    async def close(self) -> None:
        """Let the connections go."""
        if self._windows is not None:
            await self._windows.close()


class CountedLedger(SameLedger):
    """A ledger, of whose answers the sidecar's share of what it cannot count together is kept.

    Args:
        ledger: the ledger itself.
        tell: is told how many sidecars there are, and which of them this is.
    """

    def __init__(self, ledger: Ledger, tell: Callable[[int, int], None], clock: Clock) -> None:
        super().__init__(ledger)
        self._tell = tell
        self._clock = clock
        self._heard_at = float("-inf")

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger does."""
        reply = await self._ledger.register(request)
        self._heard(reply.sidecars, reply.rank)
        return reply

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger does."""
        reply = await self._ledger.sync(request)
        self._heard(reply.sidecars, reply.rank)
        return reply

    async def keep_counted(self, request: RegisterRequest) -> None:
        """Be heard also while there is nothing to say, until cancelled."""
        while True:
            await asyncio.sleep(SHARE_EVERY_S)
            if self._clock.monotonic() - self._heard_at >= SHARE_EVERY_S:
                try:
                    await self.register(request)
                except SidecarError as problem:
                    logger.debug("not_counted", extra={"facts": {"problem": str(problem)}})

    def _heard(self, sidecars: int, rank: int) -> None:
        self._heard_at = self._clock.monotonic()
        self._tell(sidecars, rank)
