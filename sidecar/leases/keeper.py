"""Keeps spending power at hand: borrows on a miss, renews before it runs out, gives back what is idle.

A hit never comes here: `LeaseTable.take` decides it. On a miss the keeper asks the ledger, once
for however many wait (a herd of requests costs a handful of questions), and each of them then
tries again for itself. It says no only where the figures that came back prove that asking again
could not help; those figures are believed for a moment, so that an agent hammering at an
exhausted budget is answered from memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sidecar.contract.messages import AnyPart, Change, LeaseReport, PartReply, ResolveRequest
from sidecar.core.governance.decisions import Consulted, Reason, Source
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.accounts import NEVER
from sidecar.leases.fairness import in_turn
from sidecar.leases.flights import Flights
from sidecar.leases.options import Courier, KeeperOptions, LeaseNotes
from sidecar.leases.renewal import Renewal, demand
from sidecar.leases.shortage import crowded, judge
from sidecar.leases.standings import Known, StandingCache
from sidecar.leases.table import MAX_LEASES, Covered, Held, LeaseTable, NoLimit, Plan, Short, Uncovered
from sidecar.ports import Clock, Ledger

MAX_FLIGHTS_PER_CALL: Final = 32
"""Questions that one call may wait for; near a limit each lends a quarter of what remains."""

MAX_BACKGROUND_QUESTIONS: Final = 64
"""Of each kind (standings, next periods), per refresh."""

logger = logging.getLogger("sidecar.leases")


def _nothing() -> None:
    """What happens when nobody listens."""


class _Call(msgspec.Struct, frozen=True):
    subject: Subject
    model: str
    provider: str
    need_atoms: int
    currency: str


@dataclass(slots=True)
class _Patience:
    """Until when a call waits for others, and how old a figure may be that refuses it (monotonic)."""

    until: float
    heard_since: float = -NEVER


class Keeper:
    """The leases of one incarnation. Use it from one event loop.

    Args:
        ledger: whom to borrow from.
        table: where spending power is held; the keeper hears of what it frees and what runs low.
        clock: monotonic time.
        notes: where leases are noted before they are used (the spool).
        courier: who takes reports to the ledger (the shipper).
        sidecar: this sidecar's name, the same at every start.
        incarnation: a random number drawn at this start (L43).
        options: durations.

    Attributes:
        on_miss: called for each call that has to ask the ledger; must not raise.
    """

    def __init__(
        self,
        ledger: Ledger,
        table: LeaseTable,
        clock: Clock,
        *,
        notes: LeaseNotes,
        courier: Courier,
        sidecar: str,
        incarnation: str,
        options: KeeperOptions,
    ) -> None:
        self._ledger = ledger
        self._table = table
        self._clock = clock
        self._notes = notes
        self._courier = courier
        self._sidecar = sidecar
        self._incarnation = incarnation
        self._options = options
        self._standings = StandingCache()
        self._flights = Flights(
            ledger, table=table, standings=self._standings, clock=clock, notes=notes, options=options
        )
        self._waiting: dict[str, int] = {}
        self._renewal = Renewal(table, clock, notes, courier, options, waiting=self._waiting)
        self.on_miss: Callable[[], None] = _nothing
        self._freed: dict[str, asyncio.Future[None]] = {}
        self._closing = False
        table.on_free = self._on_free

    # on a request's way

    def standing(self, subject: Subject) -> Covered | None:
        """The standing to decide by now, without holding anything; None: ask `cover`.

        While the ledger is away a stale one serves, for as long as there are live leases.
        """
        now = self._clock.monotonic()
        known = self._usable(subject, now)
        return None if known is None else Covered(known.standing, known.age_ms(now), None)

    async def survey(self, subject: Subject) -> tuple[Covered, tuple[Consulted, ...]] | Uncovered:
        """Every budget and grant of a subject as it stands; asks the ledger where one was never read.

        Those for certain models alone are not among them.
        """
        call = _Call(subject, "", "", 0, "")
        asked = False
        while True:
            now = self._clock.monotonic()
            answer = self._answer(call, now, Source.LEASE)
            if isinstance(answer, Uncovered):
                return answer
            if isinstance(answer, Covered):
                plan = self._table.plan(answer.standing, subject, model="", provider="")
                consulted = plan.consulted(now)
                if asked or all(one.used is not None for one in consulted):
                    return answer, consulted
                call = msgspec.structs.replace(call, currency=answer.standing.currency)
            if not await self._flights.ask(self._question(call, None), timeout_s=self._options.miss_timeout_s):
                unheard = self._without_ledger(call, self._clock.monotonic())
                return unheard if isinstance(unheard, Uncovered) else (unheard, ())
            asked = isinstance(answer, Covered)

    async def cover(
        self,
        subject: Subject,
        *,
        model: str,
        provider: str,
        need_atoms: int,
        currency: str,
        since: float | None = None,
    ) -> Covered | Uncovered:
        """Get spending power for a call that the table could not cover, and hold it.

        Waits at most `miss_timeout_s`; for open calls to end at most `settle_wait_s`, which counts from
        `since` (monotonic) where the same call was asked for before. A need of 0 asks for the standing alone.

        Returns:
            Covered, with `held` taken for this call (None for a need of 0); or Uncovered, with
            nothing taken.
        """
        if self._closing:
            return Uncovered(Reason.OVERLOADED, detail="this sidecar is stopping", retry_after_ms=1000)
        call = _Call(subject, model, provider, need_atoms, currency)
        waiting = self._waiting
        waiting[subject.customer] = waiting.get(subject.customer, 0) + need_atoms
        try:
            return await self._cover(call, since)
        finally:
            waiting[subject.customer] -= need_atoms
            if not waiting[subject.customer]:
                del waiting[subject.customer]
                self._freed.pop(subject.customer, None)

    async def _cover(self, call: _Call, since: float | None) -> Covered | Uncovered:
        began = self._clock.monotonic()
        patience = _Patience((began if since is None else since) + self._options.settle_wait_s)
        source = Source.LEASE
        flights = 0
        while True:
            now = self._clock.monotonic()
            answer = self._answer(call, now, source, patience.heard_since)
            if isinstance(answer, Covered):
                return answer
            if isinstance(answer, Uncovered):
                if answer.reason is not Reason.BUDGET_IN_FLIGHT or now >= patience.until:
                    return answer
                await self._wait(call, answer, patience, asked=flights)
                continue
            left_s = began + self._options.miss_timeout_s - now
            if flights >= MAX_FLIGHTS_PER_CALL or left_s <= 0:
                found = self._without_ledger(call, now, grace=False)
                if isinstance(found, Covered) or not flights or self._flights.away:
                    return found
                known, changed_at = self._standings.get(call.subject), self._standings.changed_at(call.subject.customer)
                return crowded(answer, known, now=now, changed_at=changed_at)
            if not self._has_room(now):
                return Uncovered(Reason.OVERLOADED, detail="too many accounts are in use", retry_after_ms=1000)
            if self._flights.away:
                spared = self._without_ledger(call, now)
                if isinstance(spared, Covered):
                    self._flights.probe(self._question(call, answer))
                    return spared
            if not flights:
                self.on_miss()
            flights += 1
            source = Source.EXACT
            if not await self._flights.ask(self._question(call, answer), timeout_s=left_s):
                return self._without_ledger(call, self._clock.monotonic())

    async def _wait(self, call: _Call, answer: Uncovered, patience: _Patience, *, asked: int) -> None:
        """Where only open calls stand in the way, here or elsewhere: let some time pass, and believe no older figure.

        What others hold and do not use is asked back with our first question: so that one is asked before
        anybody waits, and again when it may have come.
        """
        now = self._clock.monotonic()
        is_elsewhere = any(one.elsewhere for one in answer.consulted)
        if asked or not is_elsewhere:
            trip_s = self._options.recall_trip_s if is_elsewhere and asked == 1 else NEVER
            wait_s = min(patience.until - now, trip_s)
            if await self._something_freed(call.subject.customer, wait_s):
                return
            if wait_s < trip_s:
                patience.until = now
            now = self._clock.monotonic()
        patience.heard_since = now

    def _answer(
        self, call: _Call, now: float, source: Source, heard_since: float = -NEVER
    ) -> Covered | Uncovered | Short | None:
        """Decide by what is known here. Short: ask for more; None: ask who this is."""
        refusal = self._standings.refusal(call.subject, now)
        if refusal is not None:
            return refusal
        known = self._usable(call.subject, now)
        if known is None:
            return None
        if not call.need_atoms:
            return Covered(known.standing, known.age_ms(now), None, source)
        verdict = self._take(call, known, now, ask_first=True)
        if isinstance(verdict, Held):
            return Covered(known.standing, known.age_ms(now), verdict, source)
        if isinstance(verdict, NoLimit):
            return Uncovered(Reason.NO_LIMIT_APPLIES, standing=known.standing, standing_age_ms=known.age_ms(now))
        changed_at = self._standings.changed_at(call.subject.customer)
        believed_since = max(now - self._options.believe_s, heard_since)
        return judge(verdict, known, now=now, believed_since=believed_since, changed_at=changed_at) or verdict

    def _take(
        self, call: _Call, known: Known, now: float, *, ask_first: bool, grace: bool = False
    ) -> Held | Short | NoLimit:
        return self._table.take(
            known.standing,
            call.subject,
            model=call.model,
            provider=call.provider,
            atoms=call.need_atoms,
            now=now,
            ask_first=ask_first,
            grace=grace,
        )

    def _without_ledger(self, call: _Call, now: float, *, grace: bool = True) -> Covered | Uncovered:
        """The ledger gave no answer: live leases go on, in burn order as far as they reach, and, as each budget's
        `on_outage` says, those of overdrafts; else no (L47)."""
        known = self._standings.get(call.subject)
        if known is not None and call.need_atoms:
            verdict = self._take(call, known, now, ask_first=False, grace=grace)
            if isinstance(verdict, Held):
                on_grace = any(lease.account.is_overdraft for lease in verdict.leases)
                source = Source.GRACE if on_grace else Source.LEASE
                return Covered(known.standing, known.age_ms(now), verdict, source)
        return Uncovered(
            Reason.LEDGER_UNAVAILABLE,
            standing=None if known is None else known.standing,
            standing_age_ms=None if known is None else known.age_ms(now),
            retry_after_ms=self._flights.retry_after_ms(),
        )

    def _usable(self, subject: Subject, now: float) -> Known | None:
        known = self._standings.get(subject)
        if known is None or not (known.is_fresh(now) or self._flights.away):
            return None
        known.used_at = now
        return known

    def _question(self, call: _Call, answer: Short | None) -> ResolveRequest:
        demands = [self._waiting.get(call.subject.customer, 0), call.need_atoms]
        if answer is not None:
            accounts = (*answer.plan.hard, *answer.plan.grants)
            demands += [demand(a.lease, self._options.cover_s, answer.at) for a in accounts if a.lease is not None]
        return self._resolve_request(
            call.subject,
            call.model,
            call.provider,
            need_atoms=call.need_atoms,
            currency=call.currency,
            demand_atoms=max(demands),
            holdings=() if answer is None else answer.holdings(),
        )

    def _resolve_request(self, subject: Subject, model: str, provider: str, **more: Any) -> ResolveRequest:
        return ResolveRequest(self._sidecar, self._incarnation, subject=subject, model=model, provider=provider, **more)

    def _has_room(self, now: float) -> bool:
        """Whether another lease may be known; makes room by forgetting what is long at rest."""
        if len(self._table) < MAX_LEASES:
            return True
        unused_since = min(now - self._options.idle_after_s, self._courier.booked_before)
        self._table.forget(keep=MAX_LEASES * 9 // 10, unused_since=unused_since)
        return len(self._table) < MAX_LEASES

    def _on_free(self, customer: str) -> None:
        freed = self._freed.pop(customer, None)
        if freed is not None and not freed.done():
            freed.set_result(None)

    async def _something_freed(self, customer: str, timeout_s: float) -> bool:
        """Wait for a settlement of this customer's to free something; False: none did in time."""
        freed = self._freed.get(customer)
        if freed is None:
            freed = self._freed[customer] = asyncio.get_running_loop().create_future()
        await asyncio.wait((freed,), timeout=timeout_s)
        return freed.done()

    # in the background

    async def run(self) -> None:
        """Keep leases until cancelled. Run it in a TaskGroup; then `close`."""
        stop = self._ledger.subscribe(self.changed)
        try:
            while True:
                await asyncio.sleep(self._options.refresh_every_s * random.uniform(0.9, 1.0))  # fleets must not chime
                try:
                    await self.refresh()
                except Exception:
                    logger.exception("lease_refresh_failed")
        finally:
            stop()

    def changed(self, change: Change) -> None:
        """A customer's limits changed: decide by them from now on, and give back what is idle (L35).

        Or somebody waits for what is idle of one account: give that back, and ask for it call by call (L44, L45).
        """
        if change.recall:
            # Of two whose calls wait for what the other has, the same one yields on both sides.
            is_waiting = change.customer in self._waiting
            if change.by != self._incarnation and not (is_waiting and change.by > self._incarnation):
                self._renewal.recall(change.customer, change.recall)
            return
        if change.history:
            return  # of the book: the shipper brings what it lacks, and then its answers tell
        self._standings.change(change.customer, change.revision, self._clock.monotonic())
        self._renewal.give_back(change.customer)

    async def refresh(self) -> None:
        """Report every lease, and ask ahead for what is about to end: standings in use, next periods."""
        now = self._clock.monotonic()
        self._renewal.refresh()
        used_since = now - self._options.refresh_every_s
        stale = self._standings.stale_soon(now, within_s=1.5 * self._options.refresh_every_s, used_since=used_since)
        asked = in_turn(stale, lambda known: known.subject.customer, MAX_BACKGROUND_QUESTIONS)
        questions = [self._standing_question(known) for known in asked]
        questions += self._next_period_questions(now)
        async with asyncio.TaskGroup() as group:
            for question in questions:
                group.create_task(self._flights.ask(question, timeout_s=self._options.miss_timeout_s))

    def _standing_question(self, known: Known) -> ResolveRequest:
        currency = known.standing.currency
        return self._resolve_request(known.subject, known.model, known.provider, need_atoms=0, currency=currency)

    def _next_period_questions(self, now: float) -> list[ResolveRequest]:
        """One question for each plan in use whose period ends within a few refreshes (L41)."""
        options = self._options
        questions: dict[int, ResolveRequest] = {}
        for lease in self._table.leases():
            account = lease.account
            plan = account.plan
            is_near = now < lease.over_at <= now + options.ahead_refreshes * options.refresh_every_s
            asked = now - account.ahead_asked_at < options.refresh_every_s
            idle = now - lease.used_at >= options.idle_after_s
            if not is_near or asked or idle or plan is None or account.ahead is not None or account.lease is not lease:
                continue
            if len(questions) < MAX_BACKGROUND_QUESTIONS or id(plan) in questions:
                account.ahead_asked_at = now
                questions.setdefault(id(plan), self._ahead_question(plan, now))
        return list(questions.values())

    def _ahead_question(self, plan: Plan, now: float) -> ResolveRequest:
        demands = [demand(a.lease, self._options.cover_s, now) for a in plan.hard if a.lease is not None]
        wanted = max(1, *demands) if demands else 1
        return self._resolve_request(
            plan.subject,
            plan.model,
            plan.provider,
            need_atoms=wanted,
            currency=plan.standing.currency,
            demand_atoms=wanted,
            next_period=True,
        )

    async def close(self) -> bool:
        """Give everything back: nothing is lent from now on. True once the ledger has heard it all.

        Call it when no call runs any more, and while the shipper still runs.
        """
        self._closing = True
        await self._flights.settle()
        self._renewal.refresh()  # its answers tell what was lent and never heard of
        heard = await self._courier.flush(self._options.close_timeout_s)
        self._renewal.close_all()
        return await self._courier.flush(self._options.close_timeout_s) and heard

    # for the shipper: what goes with the next sync, and what came of it

    @property
    def has_due(self) -> bool:
        """Whether there is something to report."""
        return self._renewal.has_due

    def declare(self) -> None:
        """The book has become another: tell it of every lease (L50a)."""
        self._renewal.declare()

    @property
    def is_declared(self) -> bool:
        """Whether it has heard of all of them."""
        return self._renewal.is_declared

    def due(self) -> dict[str, list[LeaseReport]]:
        """Reports on leases to send now, by customer."""
        return self._renewal.due()

    def revision(self, customer: str) -> int:
        """The revision of a customer by which calls are decided here (L35); 0 where none was heard of."""
        return self._standings.revision(customer)

    def heard(self, part: AnyPart, reply: PartReply, sent_at: float) -> None:
        """A part that was sent at an instant (monotonic) has been answered."""
        self._flights.heard()
        self._renewal.heard(part, reply, sent_at)

    def missed(self) -> None:
        """A sync was not answered."""
        self._flights.missed()
