from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest

from sidecar.core.governance.rate_limits import Counts, NoRoom, RateLimit
from sidecar.core.governance.rate_orders import Answer, Order, Reply
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.leases import rate_lanes
from sidecar.leases.breaker import Breaker, State
from sidecar.leases.rate_lanes import MAX_FLIGHTS, SharedRates
from sidecar.leases.rates import RateKeeper, Taken
from tests.support.clock import FakeClock
from tests.support.pretend_windows import PretendWindows
from tests.unit.leases.test_rates import ACME, AT_ONCE, REQUESTS, TOKENS, standing


@dataclass
class Fleet:
    """Some sidecars that count together."""

    size: int
    clock: FakeClock = field(default_factory=FakeClock)
    windows: PretendWindows = field(init=False)
    sidecars: list[SharedRates] = field(init=False)

    def __post_init__(self) -> None:
        self.windows = PretendWindows(self.clock.wall_ms)
        self.sidecars = []
        for rank in range(self.size):
            rates = RateKeeper(self.clock)
            rates.share(self.size, rank)
            breaker = Breaker(failures=3, open_s=1, max_open_s=10)
            self.sidecars.append(
                SharedRates(rates, self.windows, self.clock, incarnation=f"inc{rank}", breaker=breaker)
            )

    async def ask(self, number: int, known: Standing, tokens: int = 1) -> Taken | NoRoom:
        """One call at one of them."""
        one = self.sidecars[number % self.size]
        found = one.take_now(known, ACME, model="m", provider="p", tokens=tokens)
        return found or await one.take(known, ACME, model="m", provider="p", tokens=tokens)

    async def told(self) -> None:
        """Wait until all that ended is told."""
        while not all(one.is_idle for one in self.sidecars):
            await asyncio.sleep(0.001)

    async def crowd(self, calls: int, known: Standing, tokens: int = 1) -> list[Taken]:
        """Many calls at once, spread over all; those that found room."""
        found = await asyncio.gather(*(self.ask(number, known, tokens) for number in range(calls)))
        return [one for one in found if isinstance(one, Taken)]


async def test_a_crowd_over_three_sidecars_gets_the_limit() -> None:
    """L37: of 1,500 at once exactly the limit pass, in few messages; what ended early leaves its tokens to others."""
    fleet, known = Fleet(3), standing(RateLimit("rr", Counts.REQUESTS, 500), RateLimit("tt", Counts.TOKENS, 1000))
    passed = await fleet.crowd(1500, known, tokens=10)
    assert len(passed) == 100
    assert len(fleet.windows.orders) <= 9
    for one in passed:
        one.settle(2)
    await fleet.told()
    assert len(await fleet.crowd(1500, known, tokens=10)) == 80


async def test_a_giant_takes_nothing() -> None:
    """L21: a call that no window could ever hold is refused without a word, and those beside it pass."""
    fleet, known = Fleet(1), standing(REQUESTS, TOKENS)
    giant, small = await asyncio.gather(fleet.ask(0, known, 2000), fleet.ask(0, known, 999))
    assert isinstance(giant, NoRoom)
    assert giant.wait_ms is None
    assert isinstance(small, Taken)
    assert isinstance(await fleet.ask(0, known, 500), NoRoom)
    assert isinstance(await fleet.ask(0, known, 1), Taken)


async def test_without_an_answer_a_sidecar_goes_by_its_share() -> None:
    """What it took together counts against its share; after some failures nothing is asked, then one tries."""
    fleet, known = Fleet(2), standing(REQUESTS)
    assert len(await fleet.crowd(4, known)) == 4
    fleet.windows.away = True
    assert len(await fleet.crowd(40, known)) == 6  # five each, of which two each were taken before
    for _ in range(3):
        await fleet.crowd(2, known)
    assert all(one.breaker.state is State.OPEN for one in fleet.sidecars)
    asked = len(fleet.windows.orders)
    assert await fleet.crowd(50, known) == []
    assert len(fleet.windows.orders) == asked
    fleet.clock.advance(66)
    fleet.windows.away = False
    assert 10 <= len(await fleet.crowd(50, known)) <= 20  # in the window in which it comes back
    assert all(one.breaker.state is State.CLOSED for one in fleet.sidecars)
    fleet.clock.advance(66)
    assert len(await fleet.crowd(50, known)) == 10


async def test_a_crowd_of_customers_waits_once_for_what_is_away() -> None:
    """Who waited for a message's turn when others were not answered asks nothing, and is decided by share."""
    fleet, customers = Fleet(1), 3 * MAX_FLIGHTS
    fleet.windows.away = True
    (one,) = fleet.sidecars
    asking = [
        (msgspec.structs.replace(standing(REQUESTS), customer=f"c{number}"), Subject(f"c{number}", user="ada"))
        for number in range(customers)
    ]
    assert not any(one.take_now(known, who, model="m", provider="p", tokens=1) for known, who in asking)
    found = await asyncio.gather(*(one.take(known, who, model="m", provider="p", tokens=1) for known, who in asking))
    assert all(isinstance(each, Taken) for each in found)
    assert len(fleet.windows.orders) <= MAX_FLIGHTS


async def test_what_was_taken_alone_is_told_together() -> None:
    """When it answers again, all that the shares admitted counts there, and no call more than the limit passes."""
    fleet, known = Fleet(2), standing(REQUESTS)
    fleet.windows.away = True
    assert len(await fleet.crowd(6, known)) == 6
    fleet.windows.away = False
    fleet.clock.advance(2)
    first = await fleet.ask(0, known)
    second = await fleet.ask(1, known)
    assert (isinstance(first, Taken), isinstance(second, Taken)) == (True, True)
    assert len(await fleet.crowd(20, known)) == 2


async def test_what_was_forgotten_is_told_again() -> None:
    """A flush costs at most the limit once more, whoever speaks first; who has spoken has told all it took."""
    fleet, known = Fleet(2), standing(REQUESTS)
    assert len(await fleet.crowd(10, known)) == 10
    fleet.windows.forget()
    again = await fleet.crowd(100, known)
    assert len(again) <= 10
    fleet.windows.forget()
    for _ in range(2):
        await fleet.ask(0, known)
        await fleet.ask(1, known)
    assert await fleet.crowd(100, known) == []


async def test_calls_at_once_are_freed_when_they_end_and_when_their_sidecar_dies() -> None:
    """Concurrent calls of who is heard no more stop counting; a live one's go on as long as it tells of them."""
    fleet, known = Fleet(2), standing(AT_ONCE)
    passed = await fleet.crowd(10, known)
    assert len(passed) == 3
    passed[0].settle(1)
    await fleet.told()
    assert len(await fleet.crowd(10, known)) == 1
    fleet.clock.advance(rate_lanes.KEEP_MS / 1000 + 1)
    assert isinstance(await fleet.ask(0, known), Taken | NoRoom)  # tells of its own again
    alive = sum(one.rates.counted()[0].open for one in fleet.sidecars[:1])
    assert len(await fleet.crowd(10, known)) <= 3 - alive


async def test_who_leaves_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that goes while it is asked for has its room given back."""
    fleet, known = Fleet(1), standing(REQUESTS)
    task = asyncio.create_task(fleet.ask(0, known))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fleet.told()
    assert len(await fleet.crowd(20, known)) == 10


@pytest.mark.parametrize("nonsense", [(), (Answer(7, 1, 1),), (Answer(0, -5, -5),)], ids=["none", "whose", "odd"])
async def test_an_answer_that_makes_no_sense_opens_nothing(nonsense: tuple[Answer, ...]) -> None:
    """Whatever stands in Redis, every call is answered, and what is decided without it is decided by share."""
    fleet, known = Fleet(2), standing(REQUESTS)

    async def lie(order: Order) -> Reply:
        return Reply(fleet.clock.wall_ms(), nonsense)

    fleet.windows.order = lie  # type: ignore[method-assign]
    found = [await fleet.ask(0, known) for _ in range(30)]
    assert sum(isinstance(one, Taken) for one in found) in (0, 5)


async def test_alone_it_is_one_step() -> None:
    """Without a place to count together nothing is awaited, and the limit holds; nobody's limit asks nothing."""
    clock = FakeClock()
    rates = SharedRates(
        RateKeeper(clock), None, clock, incarnation="i", breaker=Breaker(failures=1, open_s=1, max_open_s=1)
    )
    found = [rates.take_now(standing(REQUESTS), ACME, model="m", provider="p", tokens=5) for _ in range(12)]
    assert [isinstance(one, Taken) for one in found] == [True] * 10 + [False] * 2
    shared = Fleet(1)
    assert isinstance(await shared.ask(0, standing()), Taken)
    assert shared.windows.orders == []
