"""Near a limit: what open calls hold is out of reach, and nothing else is, however many sidecars there are (L44)."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.leases.table import Covered, Uncovered
from sidecar.ledger.administration import NewBudget
from tests.support.holders import Holder
from tests.support.ledger import Desk, usd

ADA = Subject("acme", user="ada")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A ledger with an empty book."""
    found = Desk(tmp_path)
    yield found
    found.close()


@asynccontextmanager
async def carried(desk: Desk, holders: Sequence[Holder]) -> AsyncIterator[None]:
    """Whoever has something to report now is heard soon, as by its shipper; who waits really, does so for all."""

    async def carry() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            desk.clock.advance(min(loop.time() - before, 0.05))  # what calls took that did not wait is not counted
            before = loop.time()
            for holder in holders:
                if holder.is_woken:
                    await holder.flush(1.0)
            await asyncio.sleep(0.001)

    carrying = asyncio.create_task(carry())
    try:
        yield
    finally:
        carrying.cancel()
        with suppress(asyncio.CancelledError):
            await carrying


@pytest.mark.parametrize("count", [1, 3, 8])
async def test_nothing_but_open_calls_is_out_of_reach(desk: Desk, count: int) -> None:
    """L44: calls hold sixteen times their cost, on any number of sidecars, some of them idle for a while.

    Used at the first denial ≥ 1 − Σ open holds ÷ limit − 1 %, the holds with that of the call which was denied.
    """
    hold, limit, chance = 16_000, 40 * 16_000, random.Random(44 + count)
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(limit), "lifetime"), desk.act())
    holders = [Holder(desk, f"s{number}", settle_wait_s=0.25) for number in range(count)]
    running: list[tuple[float, int, Holder, Covered]] = []
    denied: Uncovered | None = None
    began = refreshed = desk.clock.monotonic()
    calls = 0
    async with carried(desk, holders):
        while denied is None:
            desk.clock.advance(0.05)
            now = desk.clock.monotonic()
            while running and running[0][0] <= now:
                _, _, holder, covered = heapq.heappop(running)
                holder.settle(covered, chance.randrange(500, 1500))
            if now - refreshed >= 10:
                refreshed = now
                for holder in holders:
                    await holder.tick()
            busy = holders if (now - began) % 4 < 2 else holders[: (count + 1) // 2]
            holder = chance.choice(busy)
            found = await holder.hold(hold, ADA)
            calls += 1
            if isinstance(found, Uncovered):
                denied = found
            else:
                heapq.heappush(running, (now + chance.uniform(0.05, 0.3), calls, holder, found))
    used = sum(holder.true_atoms for holder in holders)
    holds = (len(running) + 1) * hold
    assert used >= limit - holds - limit // 100, (denied.reason, used / limit, holds / limit, calls)
    while running:
        _, _, holder, covered = heapq.heappop(running)
        holder.settle(covered, 1000)
    for holder in holders:
        assert await holder.flush(1.0)
    assert await desk.problems() == ()


async def test_what_a_lost_sidecar_held_stays_spent(desk: Desk) -> None:
    """F-32, L39, L46: its volume is gone with it: nobody else is ever lent that, and it is shown who held it."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(1000), "lifetime"), desk.act())
    lost, other = Holder(desk, "lost"), Holder(desk, "other")
    open_call = await lost.hold(100, ADA)
    held = sum(lease.granted for lease in lost.table.leases())
    assert held >= 100
    del open_call, lost
    desk.clock.advance(3600)
    spent = 0
    while await other.spend(10, ADA) is not None:
        spent += 10
        desk.clock.advance(1)
    assert 1000 - held - 10 < spent <= 1000 - held
    (silent,) = await desk.service.silent_leases()
    assert (silent.sidecar, silent.held.atoms) == ("lost", held)
    await other.tick()
    assert await desk.problems() == ()
