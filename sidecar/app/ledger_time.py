"""The time by which a sidecar stamps its calls: the ledger's, as its answers tell it.

A machine's wall clock may be set at any time, and then a call that was let run a moment ago is said to be a day old:
whoever counts by that counts it in another period (L37). The monotonic clock goes on through that, and how far the
ledger's is ahead of it is learned from each answer. So two stamps of one start, and of the next one too, are as far
apart as the calls were.
"""

from __future__ import annotations

from typing import Final

from sidecar.app.same_ledger import SameLedger
from sidecar.contract.messages import AnySync, RegisterReply, RegisterRequest, SyncReply
from sidecar.ports import Clock, Ledger

SLACK_MS: Final = 1000.0
"""Beside what an answer was on its way for, so much the two clocks may part before they are put together again."""


class LedgerTime:
    """`ports.Clock`: this machine's own until the ledger has told its time once.

    Args:
        clock: the machine's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms: float | None = None
        self.monotonic = clock.monotonic

    def wall_ms(self) -> int:
        """Unix milliseconds, as the ledger has them."""
        ahead_ms = self._ahead_ms
        return self._clock.wall_ms() if ahead_ms is None else round(self._clock.monotonic() * 1000 + ahead_ms)

    def heard(self, now_ms: int, sent_at: float) -> None:
        """An answer to what was sent at an instant (monotonic) said that it was `now_ms` there; 0: it did not say."""
        if now_ms <= 0:
            return
        heard_at = self._clock.monotonic()
        way_ms = max(0.0, heard_at - sent_at) * 500  # the answer's half
        ahead_ms = now_ms + way_ms - heard_at * 1000
        if self._ahead_ms is None or abs(ahead_ms - self._ahead_ms) > way_ms + SLACK_MS:
            self._ahead_ms = ahead_ms


class TimedLedger(SameLedger):
    """A ledger, of whose answers the time is kept.

    Args:
        ledger: the ledger itself.
        time: is told.
    """

    def __init__(self, ledger: Ledger, time: LedgerTime) -> None:
        super().__init__(ledger)
        self._time = time

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger does."""
        sent_at = self._time.monotonic()
        reply = await self._ledger.register(request)
        self._time.heard(reply.now_ms, sent_at)
        return reply

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger does."""
        sent_at = self._time.monotonic()
        reply = await self._ledger.sync(request)
        self._time.heard(reply.now_ms, sent_at)
        return reply
