"""Asking the ledger: one question at a time for each call that differs, however many wait for its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from sidecar.contract.messages import RegisterRequest, ResolveReply, ResolveRequest
from sidecar.core.governance.decisions import Reason
from sidecar.errors import LedgerUnavailable, SidecarError, StaleIncarnation
from sidecar.leases.fairness import CustomerTurns
from sidecar.leases.options import KeeperOptions, LeaseNotes
from sidecar.leases.standings import Known, StandingCache
from sidecar.leases.table import LeaseTable, Uncovered
from sidecar.ports import Clock, Ledger

MAX_FLIGHTS: Final = 32
"""Questions under way at once, over all customers, who take turns; further ones wait for theirs."""

RETRY_HINT_S: Final = 10.0
"""For this long after the ledger went away a caller is told to try again."""

LEDGER_AWAY: Final = b"ledger_unavailable"
"""What `LeaseTable.degraded` says while the ledger does not answer."""

logger = logging.getLogger("sidecar.leases")


class Flights:
    """Questions to the ledger, and what to do with the answers."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        table: LeaseTable,
        standings: StandingCache,
        clock: Clock,
        notes: LeaseNotes,
        options: KeeperOptions,
    ) -> None:
        self._ledger = ledger
        self._table = table
        self._standings = standings
        self._clock = clock
        self._notes = notes
        self._options = options
        self._under_way: dict[ResolveRequest, asyncio.Task[bool]] = {}
        self._turns = CustomerTurns(MAX_FLIGHTS)
        self._registering = asyncio.Lock()
        self._history = ""
        self._away_since: float | None = None
        self._retry_at = 0.0

    @property
    def away(self) -> bool:
        """Whether the ledger did not answer when it was last asked."""
        return self._away_since is not None

    def heard(self) -> None:
        """The ledger answered somebody."""
        self._away_since = None
        self._table.degraded = b""

    def missed(self) -> None:
        """It did not."""
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._table.degraded = LEDGER_AWAY
            logger.warning("ledger_unavailable", extra={"facts": {"leases": len(self._table)}})
        self._retry_at = now + self._options.outage_retry_s

    def retry_after_ms(self) -> int | None:
        """What to tell a caller while it is away: soon, at first; nothing, when it lasts."""
        since = self._away_since
        young = since is None or self._clock.monotonic() - since < RETRY_HINT_S
        return 2000 if young else None

    async def ask(self, request: ResolveRequest, *, timeout_s: float) -> bool:
        """Ask, or join those who already asked the same; False if there was no answer in time.

        The question goes on when who asked it no longer waits: its answer serves the others.
        """
        task = self._begin(request)
        if task is None:
            return False
        try:
            return await asyncio.wait_for(asyncio.shield(task), timeout_s)
        except TimeoutError:
            return False

    def probe(self, request: ResolveRequest) -> None:
        """Ask, if it is time to ask a ledger that is away, without anybody's waiting for the answer."""
        self._begin(request)

    def _begin(self, request: ResolveRequest) -> asyncio.Task[bool] | None:
        """A question under way; None: the ledger is away, and was asked a moment ago."""
        same = msgspec.structs.replace(request, need_atoms=0, demand_atoms=0, holdings=())
        task = self._under_way.get(same)
        if task is None:
            if self.away and self._clock.monotonic() < self._retry_at:
                return None
            task = asyncio.create_task(self._fly(request))
            self._under_way[same] = task
            task.add_done_callback(lambda _task: self._under_way.pop(same, None))
        return task

    async def settle(self) -> None:
        """Wait until nothing is under way: what is lent by an answer must not come after a close."""
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    async def _fly(self, request: ResolveRequest) -> bool:
        async with self._turns.of(request.subject.customer):
            try:
                async with asyncio.timeout(self._options.miss_timeout_s):
                    reply, sent_at = await self._resolve(request)
            except (LedgerUnavailable, TimeoutError):
                self.missed()
                return False
            except SidecarError:
                logger.exception("resolve_failed")
                self.missed()
                return False
        self.heard()
        self._land(request, reply, sent_at)
        return True

    async def _resolve(self, request: ResolveRequest) -> tuple[ResolveReply, float]:
        await self._register(request)
        sent_at = self._clock.monotonic()
        try:
            return await self._ledger.resolve(request), sent_at
        except StaleIncarnation:  # its book was replaced or does not know us yet
            self._history = ""
        await self._register(request)
        sent_at = self._clock.monotonic()
        return await self._ledger.resolve(request), sent_at

    async def _register(self, request: ResolveRequest) -> None:
        async with self._registering:
            if not self._history:
                reply = await self._ledger.register(RegisterRequest(request.sidecar, request.incarnation))
                self._history = reply.history_id

    def _land(self, request: ResolveRequest, reply: ResolveReply, sent_at: float) -> None:
        """Take in an answer, in one step: nobody sees half of it."""
        now, subject = self._clock.monotonic(), request.subject
        if reply.refusal:
            uncovered = Uncovered(_reason(reply.refusal), detail=reply.detail, owner=reply.owner)
            self._standings.refuse(subject, uncovered, until=now + self._options.believe_s)
            return
        grown = self._table.merge(
            subject.customer, reply.leases, reply.readings, sent_at=sent_at, now=now, ahead=request.next_period
        )
        for lease in grown:
            self._notes.note_lease(lease.customer, lease.lease_id, lease.granted, lease.spent)
        if reply.standing is not None:
            self._standings.put(Known(reply.standing, subject, request.model, request.provider, sent_at))


def _reason(word: str) -> Reason:
    try:
        return Reason(word)
    except ValueError:  # a newer ledger's word
        return Reason.LEDGER_UNAVAILABLE
