from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import msgspec
import pytest

from sidecar.core.governance.rate_limits import Counts, NoRoom, RateLimit
from sidecar.core.governance.rate_orders import Ask, Order, WindowState
from sidecar.errors import WindowsUnavailable
from sidecar.leases.breaker import Breaker
from sidecar.leases.rate_lanes import SharedRates
from sidecar.leases.rates import RateKeeper, Taken
from sidecar.ports import Windows
from sidecar.storage.redis_client import connect
from sidecar.storage.redis_options import RedisOptions
from sidecar.storage.redis_windows import RedisWindows, window_key
from tests.support.pretend_windows import PretendWindows
from tests.support.redis import Cluster, Server, needs_redis
from tests.unit.leases.test_rates import ACME, standing

DEADLINE_S = 5.0
"""Not the product's: here it is not asked how quick a machine is that runs many tests."""


@pytest.fixture(scope="module")
def single() -> Iterator[Server]:
    needs_redis()
    server = Server()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needs_redis()
    servers = Cluster()
    yield servers
    servers.remove()


@pytest.fixture(params=["single", "cluster"])
async def windows(request: pytest.FixtureRequest) -> AsyncIterator[RedisWindows]:
    """Empty ones, in a server or a cluster of three."""
    if request.param == "single":
        server: Server = request.getfixturevalue("single")
        server.flush()
        options = RedisOptions(server.url)
    else:
        servers: Cluster = request.getfixturevalue("cluster")
        for node in servers.nodes:
            node.flush()
        options = RedisOptions(servers.url, cluster=True)
    made = RedisWindows(connect(options), deadline_s=DEADLINE_S)
    yield made
    await made.close()


class WallClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


def sidecar(windows: Windows, number: int, of: int = 3) -> SharedRates:
    """One of a fleet."""
    clock = WallClock()
    rates = RateKeeper(clock)
    rates.share(of, number)
    breaker = Breaker(failures=3, open_s=0.2, max_open_s=1)
    return SharedRates(rates, windows, clock, incarnation=f"inc{number}", breaker=breaker)


async def told(fleet: list[SharedRates]) -> None:
    """Wait until all that ended is told."""
    while not all(one.is_idle for one in fleet):
        await asyncio.sleep(0.01)


async def ask(one: SharedRates, *limits: RateLimit, tokens: int = 1, customer: str = "acme") -> Taken | NoRoom:
    known = msgspec.structs.replace(standing(*limits), customer=customer)
    found = one.take_now(known, ACME, model="m", provider="p", tokens=tokens)
    return found or await one.take(known, ACME, model="m", provider="p", tokens=tokens)


async def test_1500_calls_over_three_sidecars_never_pass_a_window(windows: RedisWindows) -> None:
    """Requests, tokens and calls at once, at the same time and again: exactly the limit, and a denial takes nothing."""
    hour_ms = 3_600_000  # on a busy machine the calls of a minute ago would be none of its window any more
    limits = [
        RateLimit("rr", Counts.REQUESTS, 700, window_ms=hour_ms),
        RateLimit("tt", Counts.TOKENS, 5000, window_ms=hour_ms),
    ]
    fleet = [sidecar(windows, number) for number in range(3)]
    found = await asyncio.gather(*(ask(fleet[number % 3], *limits, tokens=10) for number in range(1500)))
    passed = [one for one in found if isinstance(one, Taken)]
    assert len(passed) == 500
    assert sum(one.unanswered for one in fleet) == 0
    for taken in passed:
        taken.settle(5)
    await told(fleet)
    found = await asyncio.gather(*(ask(fleet[number % 3], *limits, tokens=10) for number in range(1500)))
    assert sum(isinstance(one, Taken) for one in found) == 200  # by now the requests are the narrower
    at_once = RateLimit("cc", Counts.CONCURRENT, 40, window_ms=0)
    found = await asyncio.gather(*(ask(fleet[number % 3], at_once) for number in range(300)))
    assert sum(isinstance(one, Taken) for one in found) == 40
    for taken in [one for one in found if isinstance(one, Taken)]:
        taken.settle(1)
    await told(fleet)
    found = await asyncio.gather(*(ask(fleet[number % 3], at_once) for number in range(300)))
    assert sum(isinstance(one, Taken) for one in found) == 40


async def test_many_customers_at_once(windows: RedisWindows) -> None:
    """Of each its own limit; in a cluster they stand on all of its nodes."""
    fleet = [sidecar(windows, number) for number in range(3)]
    limit = RateLimit("rr", Counts.REQUESTS, 4)
    asked = [(number % 3, f"customer-{number % 50}") for number in range(600)]
    found = await asyncio.gather(*(ask(fleet[one], limit, customer=customer) for one, customer in asked))
    assert [one.problem for one in fleet if one.unanswered] == []
    passed = [customer for (_, customer), one in zip(asked, found, strict=True) if isinstance(one, Taken)]
    assert {customer: passed.count(customer) for customer in passed} == {f"customer-{n}": 4 for n in range(50)}


async def test_the_script_does_as_the_model(windows: RedisWindows) -> None:
    """Random orders of three incarnations, some late, some after a loss of memory: the same answers as the model's."""
    order = random.Random(7)
    now = [0]
    model = PretendWindows(lambda: now[0])
    limits = {"r:": (Counts.REQUESTS, 20), "t:": (Counts.TOKENS, 90), "c:": (Counts.CONCURRENT, 4)}
    slice_ms = 3_600_000  # so long that none ends while the test runs, or one only
    counted: dict[tuple[str, str], dict[int, int]] = {}
    denied = 0
    for sequence in range(1, 250):
        me = f"inc{order.randrange(3)}"
        states = []
        for key, (counts, limit) in limits.items():
            mine = counted.setdefault((me, key), {0: 0} if counts is Counts.CONCURRENT else {})
            states.append(WindowState(key, counts, limit, slice_ms, tuple(sorted(mine.items()))))
        takes = tuple((place, order.randint(1, 30) if place == 1 else 1) for place in range(3) if order.random() < 0.7)
        asks = tuple(Ask(takes) for _ in range(order.randint(0, 3)) if takes)
        asked = Order("acme", me, sequence, tuple(states), asks, 60_000)
        reply = await windows.order(asked)
        now[0] = reply.now_ms
        told = model.do(asked)
        assert [(one.denied_by, one.used) for one in reply.answers] == [(o.denied_by, o.used) for o in told.answers]
        for one in reply.answers:
            denied += one.denied_by >= 0
            for place, amount in takes if one.denied_by < 0 else ():
                key = list(limits)[place]
                slot = 0 if key == "c:" else reply.now_ms // slice_ms
                mine = counted[me, key]
                mine[slot] = mine.get(slot, 0) + amount
        if order.random() < 0.3:  # something ends, or used less
            key = order.choice(list(limits))
            for slot, amount in counted[me, key].items():
                counted[me, key][slot] = max(0, amount - order.randint(1, 10))
        if order.random() < 0.02:
            model.forget()
            await windows._client.flushall()
        with suppress(WindowsUnavailable):  # an order that comes after its successor
            await windows.order(msgspec.structs.replace(asked, sequence=sequence - 1, windows=asked.windows[:1]))
    assert denied > 50


async def test_what_is_left_behind_ends_by_itself(windows: RedisWindows) -> None:
    """Keys have an end, of a dead sidecar's calls at once too; old slices are removed."""
    short = RateLimit("rr", Counts.REQUESTS, 5, window_ms=240)
    one = sidecar(windows, 0)
    for _ in range(5):
        assert isinstance(await ask(one, short), Taken)
    assert isinstance(await ask(one, short), NoRoom)
    await asyncio.sleep(0.3)
    assert isinstance(await ask(one, short), Taken)
    stored = await windows._client.hgetall(window_key("acme", "rr:"))
    assert sum(name.startswith(b"t:") for name in stored) <= 2
    assert 0 < await windows._client.pttl(window_key("acme", "rr:")) <= 300
    state = WindowState("c:", Counts.CONCURRENT, 2, 1, ((0, 2),))
    await windows.order(Order("acme", "dead", 1, (state,), (), 100))
    mine = msgspec.structs.replace(state, mine=((0, 0),))
    first = await windows.order(Order("acme", "live", 1, (mine,), (Ask(((0, 1),)),), 100))
    await asyncio.sleep(0.15)
    second = await windows.order(Order("acme", "live", 2, (mine,), (Ask(((0, 1),)),), 100))
    assert [one.answers[0].denied_by for one in (first, second)] == [0, -1]


@pytest.fixture
def fresh() -> Iterator[Server]:
    """A server that may be killed."""
    needs_redis()
    server = Server()
    yield server
    server.remove()


@pytest.mark.parametrize("fault", ["killed", "paused", "flushed"])
async def test_f_12_a_redis_that_goes_never_opens_a_limit(fresh: Server, fault: str) -> None:
    """F-12: in the window in which it goes no more than twice the limit; it comes back, and the limit holds."""
    made = RedisWindows(connect(RedisOptions(fresh.url)), deadline_s=0.1 if fault == "paused" else DEADLINE_S)
    fleet = [sidecar(made, number) for number in range(3)]
    limit = RateLimit("rr", Counts.REQUESTS, 90, window_ms=3_600_000)

    async def crowd(calls: int) -> int:
        found = await asyncio.gather(*(ask(fleet[number % 3], limit) for number in range(calls)))
        return sum(isinstance(one, Taken) for one in found)

    alone = await asyncio.gather(*(ask(fleet[0], limit) for _ in range(90)))  # unevenly: the worst that there is
    before = sum(isinstance(one, Taken) for one in alone)
    {"killed": fresh.kill, "paused": fresh.pause, "flushed": fresh.flush}[fault]()
    during = sum([await crowd(300) for _ in range(4)])
    assert before + during <= 2 * 90
    if fault != "flushed":
        assert during == 60  # the shares of the two that had taken nothing
        assert fleet[1].breaker.state != "closed"
    if fault == "killed":
        fresh.start()
    elif fault == "paused":
        fresh.resume()
    await asyncio.sleep(0.4)
    after = sum([await crowd(300) for _ in range(4)])
    assert before + during + after <= 2 * 90
    await made.close()


@pytest.mark.parametrize(
    "answer",
    [None, [], [1], [1, [[-1, 0, 0], [-1, 0, 0]]], [1, [[7, 0, 0]]], [1, [[-2, 0, 0]]], ["x", [[-1, 0, 0]]], [1, "no"]],
)
async def test_an_answer_that_makes_no_sense_is_none(answer: object) -> None:
    """Too many, too few, of no window, or nothing like an answer: as if there had been none."""

    class Liar:
        async def initialize(self) -> None:
            """Nothing to do."""

        async def evalsha(self, *_: object) -> object:
            return answer

    state = WindowState("r:", Counts.REQUESTS, 5, 5000, ())
    with pytest.raises(WindowsUnavailable):
        await RedisWindows(Liar(), deadline_s=1).order(Order("acme", "i", 1, (state,), (Ask(((0, 1),)),), 1))
