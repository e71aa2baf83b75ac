"""The keeper: misses, herds, shortages, changes, outages, and what it does when nobody asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from sidecar.contract.messages import (
    Admission,
    Change,
    CustomerPart,
    ResolveReply,
    ResolveRequest,
    SyncRequest,
    UsageEvent,
)
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget, Each
from sidecar.core.governance.decisions import Decision, Reason, Source
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.errors import LedgerUnavailable
from sidecar.leases import keeper as keeper_module
from sidecar.leases.keeper import Keeper
from sidecar.leases.options import KeeperOptions
from sidecar.leases.table import Covered, Held, Lease, LeaseTable, Uncovered
from tests.support.clock import FakeClock
from tests.support.scripted_ledger import CustomerBook, ScriptedLedger, with_limit

SUBJECT = Subject("acme", (), "ada", agent="writer")


PATIENCE_S = 60.0
"""Of the calls of a crowd, in real time: on a busy machine it takes a while until the last has had its turn."""


class House:
    """A keeper with everything around it. It is its own courier (straight to the ledger) and notebook."""

    def __init__(
        self,
        book: CustomerBook,
        *,
        incarnation: str = "i1",
        ledger: ScriptedLedger | None = None,
        miss_timeout_s: float = 1.0,
    ) -> None:
        self.clock = FakeClock() if ledger is None else ledger.clock
        self.ledger = ledger or ScriptedLedger(self.clock)
        self.ledger.customers.setdefault("acme", book)
        self.table = LeaseTable()
        self.noted: dict[str, int] = {}
        self.booked_before = 0.0
        self.woken = 0
        self.events: list[UsageEvent] = []
        self.incarnation = incarnation
        self.keeper = Keeper(
            self.ledger, self.table, self.clock, notes=self, courier=self, sidecar="s", incarnation=incarnation,
            options=replace(KeeperOptions(), miss_timeout_s=miss_timeout_s, settle_wait_s=0.05),
        )  # fmt: skip
        self.stop = self.ledger.subscribe(self.keeper.changed)

    def note_lease(self, customer: str, lease_id: str, granted_atoms: int, spent_atoms: int) -> None:
        self.noted[lease_id] = granted_atoms

    def note_ended(self, lease_id: str) -> None:
        self.noted.pop(lease_id, None)

    def wake(self) -> None:
        self.woken += 1

    async def flush(self, timeout_s: float) -> bool:
        """One sync after the other, until nothing is due."""
        while self.keeper.has_due or self.events:
            due = self.keeper.due()
            events, self.events = self.events, []
            parts = [(name, tuple(e for e in events if e.admission.subject.customer == name)) for name in ("acme",)]
            request = SyncRequest(
                "s", self.incarnation, 0,
                tuple(CustomerPart(name, some, tuple(due.get(name, ()))) for name, some in parts),
            )  # fmt: skip
            sent_at = self.clock.monotonic()
            try:
                reply = await self.ledger.sync(request)
            except LedgerUnavailable:
                self.keeper.missed()
                return False
            for part, answer in zip(request.parts, reply.parts, strict=True):
                self.keeper.heard(part, answer, sent_at)
        self.booked_before = self.clock.monotonic()
        return True

    async def cover(self, need: int, subject: Subject = SUBJECT) -> Covered | Uncovered:
        return await self.keeper.cover(subject, model="m", provider="p", need_atoms=need, currency="usd")

    async def hold(self, need: int, subject: Subject = SUBJECT) -> Held:
        """As the corridor does: from the table, else through the keeper."""
        known = self.keeper.standing(subject)
        if known is not None:
            found = self.table.take(
                known.standing, subject, model="m", provider="p", atoms=need, now=self.clock.monotonic()
            )
            if isinstance(found, Held):
                return found
        covered = await self.cover(need, subject)
        if not isinstance(covered, Covered) or covered.held is None:
            raise AssertionError(covered)
        return covered.held

    def settle(self, held: Held, charge: int, request_id: str) -> None:
        """Settle, and keep the event for the next sync."""
        split = self.table.settle(held, charge)
        admission = Admission(
            request_id, SUBJECT, "p", "chat", "m", 0, "usd", held.atoms,
            Decision(Source.LEASE, held.atoms, 0, 0, "p@1", "card", "sha"), held.budget_leases, held.slices,
        )  # fmt: skip
        self.events.append(
            UsageEvent(admission, 1, 200, "complete", Usage(UsageState.FINAL), charge, split.legs, split.excess)
        )

    async def tick(self, seconds: float) -> None:
        """Time passes, then a refresh and its sync."""
        self.clock.advance(seconds)
        await self.keeper.refresh()
        await self.flush(1.0)

    def lease(self, account: str) -> Lease:
        found = self.table.lease(f"{self.incarnation}/{account}")
        if found is None:
            raise AssertionError(f"no lease on {account}")
        return found


def limited(limit: int, *, cadence: Cadence = Cadence.LIFETIME, each: Each = Each.NONE) -> CustomerBook:
    return CustomerBook(budgets=(Budget("b", "usd", limit, cadence, each=each),))


def paid(*issued: int) -> CustomerBook:
    grants = tuple(Grant(f"g{n}", "usd", atoms, 0, n) for n, atoms in enumerate(issued))
    return CustomerBook(wallet=Wallet.REQUIRED, grants=grants)


async def uncovered(house: House, need: int) -> Uncovered:
    found = await house.cover(need)
    if not isinstance(found, Uncovered):
        raise AssertionError(found)
    return found


class TestMisses:
    async def test_one_round_trip_and_then_none(self) -> None:
        """L40: the first call asks; the following are decided from the lease alone."""
        house = House(limited(1000))
        held = await house.hold(10)
        assert held.budget_leases == ("i1/budget:b:lifetime:",)
        assert house.ledger.registered == ["i1"]
        house.settle(held, 4, "r1")
        for _ in range(5):
            house.table.release(await house.hold(6))
        assert len(house.ledger.resolves) == 1
        assert house.noted == {"i1/budget:b:lifetime:": 10}, "noted before it was used"

    async def test_a_need_of_nothing_asks_for_the_standing_alone(self) -> None:
        """Nothing is lent and nothing held."""
        house = House(limited(1000))
        found = await house.cover(0)
        assert isinstance(found, Covered)
        assert found.held is None
        assert len(house.table) == 0
        assert house.keeper.standing(SUBJECT) is not None

    async def test_unknown_customers_are_remembered_for_a_moment(self) -> None:
        """The ledger is not asked again at once, and is a moment later."""
        house = House(limited(1000))
        stranger = Subject("nobody")
        for _ in range(3):
            found = await house.cover(1, stranger)
            assert isinstance(found, Uncovered)
            assert found.reason is Reason.CUSTOMER_UNKNOWN
        assert len(house.ledger.resolves) == 1
        house.clock.advance(0.3)
        await house.cover(1, stranger)
        assert len(house.ledger.resolves) == 2

    async def test_nothing_that_bounds_a_call(self) -> None:
        """L16a."""
        house = House(CustomerBook())
        assert (await uncovered(house, 1)).reason is Reason.NO_LIMIT_APPLIES


class TestHerds:
    async def test_four_hundred_at_once_get_exactly_ten(self) -> None:
        """L39, L40, F-30: exactly the calls that fit, for a handful of questions."""
        house = House(limited(100), miss_timeout_s=PATIENCE_S)
        found = await asyncio.gather(*(house.cover(10) for _ in range(400)))
        assert sum(isinstance(one, Covered) for one in found) == 10
        assert house.ledger.account("budget:b:lifetime:").unlent == 0
        assert len(house.ledger.resolves) <= 20
        reasons = {one.reason for one in found if isinstance(one, Uncovered)}
        assert reasons == {Reason.BUDGET_IN_FLIGHT}, "what stands in the way is only held"

    async def test_unseen_children_admit_no_more_than_their_budget(self) -> None:
        """L33: first requests of four sessions, all at once, admit ten each."""
        house = House(limited(100, each=Each.SESSION), miss_timeout_s=PATIENCE_S)
        subjects = [Subject("acme", session=f"s{n % 4}") for n in range(400)]
        found = await asyncio.gather(*(house.cover(10, subject) for subject in subjects))
        admitted = [subject.session for subject, one in zip(subjects, found, strict=True) if isinstance(one, Covered)]
        assert {name: admitted.count(name) for name in set(admitted)} == {"s0": 10, "s1": 10, "s2": 10, "s3": 10}

    async def test_two_sidecars_together_admit_no_more(self) -> None:
        """L39: what one was lent, the other does not get."""
        one = House(limited(100), miss_timeout_s=PATIENCE_S)
        two = House(one.ledger.customers["acme"], incarnation="i2", ledger=one.ledger, miss_timeout_s=PATIENCE_S)
        found = await asyncio.gather(*(house.cover(10) for _ in range(50) for house in (one, two)))
        assert sum(isinstance(each, Covered) for each in found) == 10

    async def test_waiting_calls_join_one_question(self) -> None:
        """However many wait, the same thing is asked once at a time, for what they need together."""
        house = House(limited(100_000), miss_timeout_s=PATIENCE_S)
        house.ledger.gate = asyncio.Event()
        calls = [asyncio.create_task(house.cover(10)) for _ in range(400)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(house.ledger.resolves) == 1
        house.ledger.gate.set()
        assert all(isinstance(one, Covered) for one in await asyncio.gather(*calls))
        assert len(house.ledger.resolves) <= 4
        assert house.ledger.resolves[1].demand_atoms >= 3990

    async def test_load_that_has_just_begun_is_lent_for(self) -> None:
        """L44: the rate of the last moments counts, not only what a refresh has measured: few of its calls ask."""
        house = House(limited(1_000_000))
        asked = 0

        def count() -> None:
            nonlocal asked
            asked += 1

        house.keeper.on_miss = count
        for number in range(1000):  # two seconds of it, far less than a refresh
            house.settle(await house.hold(10), 10, f"r{number}")
            house.clock.advance(0.002)
            await house.flush(1.0)
        assert 1 <= asked <= 20
        lease = house.lease("budget:b:lifetime:")
        assert 20 * 500 < lease.granted <= 60 * 1000 * 10  # the rate is 5,000 a second, and 10 s of it are covered

    async def test_a_question_outlives_who_asked_it(self) -> None:
        """The first caller leaves; the others still get the answer."""
        house = House(limited(1000))
        house.ledger.gate = asyncio.Event()
        first, second = (asyncio.create_task(house.cover(10)) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        house.ledger.gate.set()
        assert isinstance(await second, Covered)
        assert len(house.ledger.resolves) == 1


class TestShortages:
    async def test_exhausted(self) -> None:
        """L34: the binding budget, and how it stands."""
        house = House(limited(100))
        house.settle(await house.hold(60), 60, "r1")
        await house.flush(1.0)
        found = await uncovered(house, 50)
        assert found.reason is Reason.BUDGET_EXCEEDED
        assert found.binding is not None
        assert (found.binding.limit, found.binding.used, found.binding.held, found.binding.remaining) == (
            100,
            60,
            0,
            40,
        )
        assert found.affordable_atoms == 40
        assert [each.id for each in found.consulted] == ["b"]

    async def test_a_call_that_can_never_fit(self) -> None:
        """More than the whole limit."""
        house = House(limited(100))
        assert (await uncovered(house, 101)).reason is Reason.REQUEST_EXCEEDS_BUDGET

    async def test_only_open_calls_stand_in_the_way(self) -> None:
        """settled + need ≤ limit < settled + held + need: worth waiting for."""
        house = House(limited(100))
        house.settle(await house.hold(40), 40, "r1")
        held = await house.hold(50)
        found = await uncovered(house, 20)
        assert found.reason is Reason.BUDGET_IN_FLIGHT
        assert found.binding is not None
        assert (found.binding.used, found.binding.held) == (40, 50)
        house.table.settle(held, 45)
        assert (await uncovered(house, 20)).reason is Reason.BUDGET_EXCEEDED

    async def test_what_was_charged_above_a_lease_is_not_there_once_more(self) -> None:
        """L34: one question, and then a no with its own reason, not one for each quarter of what remains."""
        house = House(limited(100))
        house.settle(await house.hold(40), 70, "r1")  # 40 lent, of what the ledger knows; 60 seem to be left
        asked = len(house.ledger.resolves)
        found = await uncovered(house, 45)
        assert found.reason is Reason.BUDGET_EXCEEDED
        assert (found.binding and found.binding.used, found.affordable_atoms) == (70, 30)
        assert len(house.ledger.resolves) - asked <= 1
        await house.flush(1.0)  # now the book knows
        house.clock.advance(1)
        assert (await uncovered(house, 45)).affordable_atoms == 30
        assert (await house.hold(30)).atoms == 30
        assert len(house.ledger.resolves) - asked <= 3

    async def test_who_is_never_quick_enough_is_told_so(self) -> None:
        """L34: a ledger that answers is not away, though each of its answers serves others first."""
        house = House(limited(1000))
        lend = house.ledger.resolve

        async def snatched(request: ResolveRequest) -> ResolveReply:
            reply = await lend(request)
            return msgspec.structs.replace(reply, leases=())

        house.ledger.resolve = snatched  # type: ignore[method-assign]
        found = await uncovered(house, 10)
        assert (found.reason, found.retry_after_ms) == (Reason.OVERLOADED, 1000)

    async def test_a_settlement_lets_a_waiting_call_through(self) -> None:
        """What an open call gives back goes to whoever waits for it, without asking."""
        house = House(limited(100))
        held = await house.hold(100)
        waiting = asyncio.create_task(house.cover(30))
        for _ in range(10):
            await asyncio.sleep(0)
        asked = len(house.ledger.resolves)
        house.settle(held, 70, "r1")
        assert isinstance(await waiting, Covered)
        assert len(house.ledger.resolves) == asked

    async def test_credit_that_is_used_up(self) -> None:
        """L12: the grants together are short; the binding figure is their sum."""
        house = House(paid(30, 20))
        house.settle(await house.hold(45), 45, "r1")
        await house.flush(1.0)
        found = await uncovered(house, 10)
        assert found.reason is Reason.CREDITS_EXHAUSTED
        assert found.binding is not None
        assert (found.binding.limit, found.binding.used, found.binding.remaining) == (50, 45, 5)
        assert found.affordable_atoms == 5

    async def test_no_grant_at_all(self) -> None:
        """A wallet is required and nothing is in it."""
        found = await uncovered(House(paid()), 1)
        assert (found.reason, found.binding) == (Reason.CREDITS_EXHAUSTED, None)

    async def test_grants_are_lent_in_burn_order(self) -> None:
        """L16: the first is lent to its end before the second is touched."""
        house = House(paid(25, 100))
        taken = [(await house.hold(10)).slices for _ in range(4)]
        assert taken[:2] == [(("i1/grant:g0", 10),)] * 2
        assert taken[2] == (("i1/grant:g0", 5), ("i1/grant:g1", 5))
        assert taken[3] == (("i1/grant:g1", 10),)

    async def test_an_exhausted_budget_is_answered_from_memory(self) -> None:
        """A hammering agent does not hammer the ledger; after a moment it is asked again."""
        house = House(limited(100))
        house.settle(await house.hold(100), 100, "r1")
        await uncovered(house, 1)
        asked = len(house.ledger.resolves)
        for _ in range(100):
            assert (await uncovered(house, 1)).reason is Reason.BUDGET_EXCEEDED
        assert len(house.ledger.resolves) == asked
        house.clock.advance(0.25)
        await uncovered(house, 1)
        assert len(house.ledger.resolves) == asked + 1


class TestChanges:
    async def test_a_raised_limit_is_felt_at_once(self) -> None:
        """The memory of a shortage ends with a change."""
        house = House(limited(100))
        house.settle(await house.hold(100), 100, "r1")
        await uncovered(house, 50)
        book = house.ledger.customers["acme"]
        book.budgets = (with_limit(book.budgets[0], 200),)
        house.ledger.change("acme")
        assert isinstance(await house.cover(50), Covered)

    async def test_a_lowered_limit_is_obeyed_at_once(self) -> None:
        """L35: idle power goes back, and the old standing decides nothing more."""
        house = House(limited(1000))
        held = await house.hold(100)
        house.settle(held, 100, "r1")
        for number in range(3):
            house.settle(await house.hold(100), 10, f"s{number}")
        book = house.ledger.customers["acme"]
        book.budgets = (with_limit(book.budgets[0], 130),)
        house.ledger.change("acme")
        assert house.keeper.standing(SUBJECT) is None
        assert all(lease.free == 0 for lease in house.table.leases())
        assert house.woken
        await house.flush(1.0)
        assert (await uncovered(house, 1)).reason is Reason.BUDGET_EXCEEDED

    async def test_a_standing_older_than_the_change_is_not_taken(self) -> None:
        """L35: an answer that was under way when the change came is passed over."""
        house = House(limited(1000))
        house.ledger.gate = asyncio.Event()
        call = asyncio.create_task(house.cover(10))
        for _ in range(3):
            await asyncio.sleep(0)
        house.ledger.customers["acme"].revision = 7
        for listener in house.ledger._listeners:
            listener(Change("acme", 8))
        house.ledger.gate.set()
        while len(house.ledger.resolves) < 2:
            await asyncio.sleep(0)
        house.ledger.customers["acme"].revision = 8
        assert isinstance(await call, Covered)
        assert len(house.ledger.resolves) == 2


class TestOutages:
    async def test_leases_go_on_without_the_ledger(self) -> None:
        """L47: as far as they reach and for as long as they last, also by a standing that is stale by now."""
        house = House(limited(1000))
        house.settle(await house.hold(100), 10, "r1")
        house.ledger.away = True
        house.clock.advance(100.0)
        assert isinstance(await house.cover(90), Covered)
        assert house.keeper.standing(SUBJECT) is not None
        assert (await uncovered(house, 1)).reason is Reason.LEDGER_UNAVAILABLE

    async def test_it_is_not_asked_by_every_call(self) -> None:
        """While it is away, one question a second; then it is back at once."""
        house = House(limited(1000))
        house.ledger.away = True
        for _ in range(20):
            found = await uncovered(house, 1)
            assert (found.reason, found.retry_after_ms) == (Reason.LEDGER_UNAVAILABLE, 2000)
        assert house.ledger.registered == []
        house.clock.advance(20.0)
        assert (await uncovered(house, 1)).retry_after_ms is None
        house.ledger.away = False
        house.clock.advance(1.1)
        assert isinstance(await house.cover(1), Covered)

    async def test_a_lease_ends_although_the_ledger_is_away(self) -> None:
        """L41: after `valid_for` nothing is admitted."""
        house = House(limited(1000))
        house.settle(await house.hold(100), 10, "r1")
        house.ledger.away = True
        house.clock.advance(901.0)
        assert (await uncovered(house, 1)).reason is Reason.LEDGER_UNAVAILABLE

    async def test_an_answer_that_never_comes(self) -> None:
        """A miss waits for so long and no longer."""
        house = House(limited(1000))
        house.ledger.gate = asyncio.Event()
        async with asyncio.timeout(5):
            assert (await uncovered(house, 1)).reason is Reason.LEDGER_UNAVAILABLE

    async def test_a_lost_answer_lends_nothing_twice(self) -> None:
        """L42: what was lent and not heard of is heard of the next time."""
        house = House(limited(100))
        house.ledger.lose_replies = 1
        assert (await uncovered(house, 20)).reason is Reason.LEDGER_UNAVAILABLE
        assert house.ledger.account("budget:b:lifetime:").unlent == 80
        house.clock.advance(1.1)
        await house.hold(20)
        assert house.lease("budget:b:lifetime:").granted == 40
        assert house.ledger.account("budget:b:lifetime:").unlent == 60


class TestBackground:
    async def test_idle_power_goes_back(self) -> None:
        """L44: unused for a while, it returns; then there is nothing to report of it."""
        house = House(limited(1000))
        house.settle(await house.hold(100), 10, "r1")
        await house.tick(10.0)
        assert house.ledger.account("budget:b:lifetime:").unlent == 900
        await house.tick(25.0)
        assert house.ledger.account("budget:b:lifetime:").unlent == 990
        assert house.table.leases() == []
        assert house.noted == {}
        house.table.release(await house.hold(100))
        assert house.lease("budget:b:lifetime:").free == 100

    async def test_idle_power_stays_while_the_ledger_is_away(self) -> None:
        """F-01, L44: a lull in an outage must not cost what goes on by leases; when the ledger is back it returns."""
        house = House(limited(1000))
        house.settle(await house.hold(100), 10, "r1")
        free = house.lease("budget:b:lifetime:").free
        house.ledger.away = True
        for _ in range(60):
            await house.tick(10.0)
        assert house.table.degraded
        assert house.lease("budget:b:lifetime:").free == free > 0
        house.ledger.away = False
        for _ in range(2):
            await house.tick(10.0)
        assert house.ledger.account("budget:b:lifetime:").unlent == 990

    async def test_leases_in_use_are_renewed_and_filled(self) -> None:
        """L41, L44: their life is prolonged, and more is asked for in the background when they run low."""
        house = House(limited(100_000))
        for number in range(3):
            house.settle(await house.hold(100), 90, f"r{number}")
            await house.tick(10.0)
        lease = house.lease("budget:b:lifetime:")
        assert lease.ends_at == house.clock.monotonic() + 900
        assert lease.free >= 100
        asked = len(house.ledger.resolves)
        house.settle(await house.hold(100), 90, "r9")
        assert len(house.ledger.resolves) == asked, "no call had to wait"

    async def test_a_report_says_what_was_charged_in_all(self) -> None:
        """L42: by its holder's count, also of a lease that goes on: what the book lacks of it can be seen."""
        house = House(limited(100_000))
        house.settle(await house.hold(100), 90, "r1")
        await house.tick(10.0)
        house.settle(await house.hold(100), 7, "r2")
        house.events.clear()  # it waits in the outbox
        await house.tick(10.0)
        reports = [report for sync in house.ledger.syncs for part in sync.parts for report in part.leases]
        assert [(report.tally_atoms, report.closed) for report in reports] == [(90, False), (97, False)]

    async def test_low_water_wakes_the_courier(self) -> None:
        """L44: at half of what is free, not at the next refresh."""
        house = House(limited(100_000))
        house.table.release(await house.hold(100))
        await house.tick(1.0)
        lease = house.lease("budget:b:lifetime:")
        before = house.woken
        half = await house.hold(lease.free // 2)
        assert house.woken == before
        await house.hold(1)
        await house.hold(1)
        assert house.woken == before + 1
        assert house.keeper.due()["acme"][0].lease_id == half.budget_leases[0]

    async def test_a_standing_in_use_is_renewed_before_it_is_stale(self) -> None:
        """No call waits because a minute has passed."""
        house = House(limited(100_000))
        for number in range(10):
            house.settle(await house.hold(100), 90, f"r{number}")
            await house.tick(10.0)
            assert house.keeper.standing(SUBJECT) is not None

    async def test_the_next_period_is_fetched_ahead(self) -> None:
        """L41, L37: at midnight no call waits, and the old period's lease goes back and is closed."""
        house = House(limited(1000, cadence=Cadence.DAY))
        house.clock.advance(12 * 3600 - 25)
        house.settle(await house.hold(100), 90, "r1")
        await house.tick(10.0)
        ahead = house.lease("budget:b:2026-11-25:")
        assert ahead.starts_at == house.clock.monotonic() + 15
        house.clock.advance(15.0)
        asked = len(house.ledger.resolves)
        held = await house.hold(90)
        assert held.budget_leases == ("i1/budget:b:2026-11-25:",)
        assert len(house.ledger.resolves) == asked
        await house.tick(1.0)
        await house.tick(10.0)
        old = house.ledger.account("budget:b:2026-11-24:")
        assert old.leases["i1/budget:b:2026-11-24:"].closed
        assert (old.used, old.unlent) == (90, 910)

    async def test_an_open_call_keeps_its_lease_open(self) -> None:
        """L42, F-60: the period is over, but what is held can neither be returned nor the lease closed."""
        house = House(limited(1000, cadence=Cadence.DAY))
        house.clock.advance(12 * 3600 - 5)
        held = await house.hold(100)
        for _ in range(3):
            await house.tick(10.0)
        lent = house.ledger.account("budget:b:2026-11-24:").leases["i1/budget:b:2026-11-24:"]
        assert (lent.escrow, lent.closed) == (100, False)
        house.settle(held, 30, "r1")
        await house.tick(10.0)
        await house.tick(10.0)
        assert (lent.escrow, lent.posted, lent.closed) == (0, 30, True)


class TestClosing:
    async def test_everything_goes_back(self) -> None:
        """After a clean stop nothing is lent, also what was never heard of; and nothing is lent any more."""
        house = House(limited(1000))
        house.settle(await house.hold(100), 40, "r1")
        house.ledger.lose_replies = 1
        await house.cover(500)
        house.clock.advance(2.0)
        assert await house.keeper.close()
        account = house.ledger.account("budget:b:lifetime:")
        assert (account.used, account.unlent) == (40, 960)
        assert all(lent.closed for lent in account.leases.values())
        assert house.noted == {}
        assert (await uncovered(house, 1)).reason is Reason.OVERLOADED

    async def test_it_says_when_the_ledger_did_not_hear(self) -> None:
        """The leases stay noted: a restart closes them."""
        house = House(limited(1000))
        house.settle(await house.hold(100), 40, "r1")
        house.ledger.away = True
        assert not await house.keeper.close()
        assert house.noted == {"i1/budget:b:lifetime:": 100}


async def test_a_full_table_borrows_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: over the bound what is at rest is forgotten, and else new accounts are refused."""
    monkeypatch.setattr(keeper_module, "MAX_LEASES", 4)
    house = House(limited(100, each=Each.SESSION))
    holds = [await house.hold(10, Subject("acme", session=f"s{n}")) for n in range(4)]
    found = await house.cover(10, Subject("acme", session="new"))
    assert isinstance(found, Uncovered)
    assert found.reason is Reason.OVERLOADED
    for number, held in enumerate(holds):
        house.settle(held, 3, f"r{number}")
    await house.tick(40.0)
    await house.tick(40.0)
    assert isinstance(await house.cover(10, Subject("acme", session="new")), Covered)
    again = await house.hold(97, Subject("acme", session="s0"))
    assert again.leases[0].spent == 3
    assert isinstance(await house.cover(1, Subject("acme", session="s0")), Uncovered)
