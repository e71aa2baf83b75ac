"""A ledger that is away is asked by one question at a time, after pauses that grow.

However many calls miss their leases meanwhile, and whoever else would like to talk to it: they are told at once that
it does not answer, and nobody waits. Fleets must not chime either: each pause is of a random length, so that those
whom an outage has hit together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sidecar.contract.messages import (
    AnySync,
    Change,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
)
from sidecar.errors import Conflict, LedgerUnavailable, SidecarError
from sidecar.ports import Clock, Ledger

FAILURES_IN_A_ROW: Final = 3
"""After so many without an answer in between it counts as away: a single one may be about one question alone."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """The pause before the first question to a ledger that is away, and the longest one; each is halved at random."""

    min_pause_s: float = 0.5
    max_pause_s: float = 4.0


class OneProbe:
    """`ports.Ledger` over another one.

    Attributes:
        probes: questions that were asked while it was away.
    """

    def __init__(self, ledger: Ledger, clock: Clock, options: ProbeOptions = ProbeOptions()) -> None:
        self._ledger = ledger
        self._clock = clock
        self._options = options
        self._failures = 0
        self._pauses = 0
        self._ask_at = 0.0
        self._is_probing = False
        self.probes = 0

    @property
    def is_away(self) -> bool:
        """Whether it has not answered of late."""
        return self._failures >= FAILURES_IN_A_ROW

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger does, while it answers."""
        return await self._ask(lambda: self._ledger.register(request))

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """As the ledger does, while it answers."""
        return await self._ask(lambda: self._ledger.resolve(request))

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """As the ledger does, while it answers."""
        return await self._ask(lambda: self._ledger.resolve_key(request))

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger does, while it answers."""
        return await self._ask(lambda: self._ledger.sync(request))

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """As the ledger does."""
        return self._ledger.subscribe(listener)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        if not self.is_away:
            return await self._heard(question)
        left_s = self._ask_at - self._clock.monotonic()
        if self._is_probing or left_s > 0:
            raise LedgerUnavailable("the ledger has not answered of late", retry_after_s=max(0.1, left_s))
        self._is_probing = True
        self.probes += 1
        try:
            return await self._heard(question)
        finally:
            self._is_probing = False
            if self.is_away:
                self._pause()

    async def _heard(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await question()
        except Conflict:  # that is an answer
            self._failures = self._pauses = 0
            raise
        except (SidecarError, TimeoutError, asyncio.CancelledError):  # cancelled: whoever asked waits no longer
            self._failures += 1
            if self._failures == FAILURES_IN_A_ROW:
                self._pause()
            raise
        self._failures = self._pauses = 0
        return answer

    def _pause(self) -> None:
        options = self._options
        longest = min(options.max_pause_s, options.min_pause_s * 2 ** min(self._pauses, 10))
        self._pauses += 1
        self._ask_at = self._clock.monotonic() + random.uniform(longest / 2, longest)
