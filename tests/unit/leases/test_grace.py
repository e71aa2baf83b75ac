"""Outages, with the real ledger and a pretend clock: `on_outage: deny | grace` (L47)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.governance.decisions import Source
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.table import Uncovered
from sidecar.ledger.administration import NewBudget
from sidecar.ledger.views import BudgetView
from tests.support.holders import Holder
from tests.support.ledger import Desk, usd

ADA = Subject("acme", user="ada")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A ledger with an empty book."""
    found = Desk(tmp_path)
    yield found
    found.close()


async def budgeted(desk: Desk, limit: int = 1000, grace: int = 0, **more: object) -> BudgetView:
    """A customer with a daily budget."""
    await desk.service.add_customer("acme", "none", desk.act())
    fields: dict[str, object] = {"path": "acme", "limit": usd(limit), "per": "day"}
    if grace:
        fields |= {"on_outage": "grace", "grace": usd(grace)}
    return await desk.service.set_budget(NewBudget(**(fields | more)), desk.act())  # type: ignore[arg-type]


async def overdraft(desk: Desk) -> tuple[int, int, int]:
    """Of the customer's budget: its grace, what is used and what is lent of it, in atoms."""
    (view,) = await desk.service.budgets("acme")
    assert view.grace is not None
    assert view.grace_used is not None
    assert view.grace_leased is not None
    return view.grace.atoms, view.grace_used.atoms, view.grace_leased.atoms


async def used(desk: Desk) -> int:
    """What the customer's budget has used, in atoms."""
    (view,) = await desk.service.budgets("acme")
    return sum(child.used.atoms for child in view.children)


async def spend_all(holder: Holder, atoms: int, subject: Subject = ADA) -> list[Source]:
    """Calls of so many atoms, until one is denied."""
    found: list[Source] = []
    while (source := await holder.spend(atoms, subject)) is not None:
        found.append(source)
    return found


async def test_deny_admits_nothing_beyond_the_lease(desk: Desk) -> None:
    """F-01, F-37, L47: what was lent is spent; then no."""
    await budgeted(desk)
    holder = Holder(desk, "s1")
    assert await holder.spend(10, ADA) is Source.EXACT
    holder.wire.away = True
    lent = holder.table.leases()[0].free
    assert await spend_all(holder, 1) == [Source.LEASE] * lent


async def test_an_outage_of_an_hour_costs_at_most_the_overdraft(desk: Desk) -> None:
    """F-37, L47: leases end after a quarter of an hour, the overdraft does not.

    Each of its calls is flagged, and booked in the budget too (L31), once the ledger is back.
    """
    await budgeted(desk, grace=200)
    holder = Holder(desk, "s1")
    await holder.spend(10, ADA)
    assert await overdraft(desk) == (200, 0, 200)
    holder.wire.away = True
    sources: list[Source] = []
    for _ in range(60):
        desk.clock.advance(60)
        source = await holder.spend(5, ADA)
        sources += [] if source is None else [source]
        assert not await holder.tick()
    assert sources == [Source.GRACE] * 40  # the lease was exact, and spent
    assert isinstance(await holder.hold(1, ADA), Uncovered)
    holder.wire.away = False
    assert await holder.tick()
    assert await overdraft(desk) == (200, 200, 0)
    assert await used(desk) == 10 + 200
    assert await desk.problems() == ()
    rows, _ = await desk.service.usage(customer="acme", since_ms=0, after="", limit=99)
    flags = {call.request_id: call.flags for call in rows}
    assert (flags["s1-1"], flags["s1-2"]) == ((), ("grace",))
    desk.clock.advance(2)
    assert await holder.spend(5, ADA) is Source.EXACT  # there is room in the budget itself


async def test_many_sidecars_restarts_and_outages_cost_at_most_the_overdraft(desk: Desk) -> None:
    """L47: it is shared, by equal parts in the end; and not refilled by coming back."""
    await budgeted(desk, limit=10_000, grace=300)
    total = 0
    for outage in range(3):
        holders = [Holder(desk, f"s{outage}{number}") for number in range(3)]
        for holder in holders:
            await holder.spend(10, ADA)
        for _ in range(8):
            desk.clock.advance(10)
            for holder in holders:
                await holder.spend(1, ADA)
                await holder.tick()
        shares = [lease.free for holder in holders for lease in holder.table.leases() if lease.account.is_overdraft]
        if not outage:
            assert sorted(shares) == [100, 100, 100]
        for holder in holders:
            holder.wire.away = True
            granted = await spend_all(holder, 10)
            total += 10 * sum(source is Source.GRACE for source in granted)
        for holder in holders:
            holder.wire.away = False
            assert await holder.tick()
    assert total == 300
    assert await overdraft(desk) == (300, 300, 0)
    assert await desk.problems() == ()


async def test_a_new_period_refills_it(desk: Desk) -> None:
    """L47: the next day's overdraft is another account."""
    await budgeted(desk, grace=100)
    holder = Holder(desk, "s1")
    await holder.spend(10, ADA)
    holder.wire.away = True
    assert Source.GRACE in await spend_all(holder, 10)
    holder.wire.away = False
    await holder.tick()
    assert await overdraft(desk) == (100, 100, 0)
    desk.clock.advance(86_400)
    await holder.spend(10, ADA)
    assert await overdraft(desk) == (100, 0, 100)
    holder.wire.away = True
    assert Source.GRACE in await spend_all(holder, 10)


async def test_unseen_sessions_share_their_budgets_overdraft(desk: Desk) -> None:
    """L47, L33: a session that begins during the outage follows `on_outage`."""
    await budgeted(desk, grace=50, each="session")
    holder = Holder(desk, "s1")
    await holder.spend(10, Subject("acme", user="ada", session="old"))
    holder.wire.away = True
    new = [await holder.spend(10, Subject("acme", user="ada", session=f"new{n}")) for n in range(8)]
    assert new == [Source.GRACE] * 5 + [None] * 3
    holder.wire.away = False
    await holder.tick()
    assert await used(desk) == 10 + 50


async def test_all_budgets_must_agree_in_an_outage_too(desk: Desk) -> None:
    """L47: one hard budget that says `deny` and has no lease left is a no, and nothing is taken."""
    await budgeted(desk, grace=100)
    await desk.service.set_budget(NewBudget("acme/user:ada", usd(20), "day"), desk.act())
    holder = Holder(desk, "s1")
    await holder.spend(20, ADA)
    holder.wire.away = True
    assert await spend_all(holder, 1) == []
    assert all(not lease.held for lease in holder.table.leases())
    assert await holder.spend(1, Subject("acme", user="bo")) is None  # nobody knows what bo may


async def test_grace_can_be_taken_back(desk: Desk) -> None:
    """L35, L47: `deny` again ends the leases on the overdraft when their holder hears of it."""
    await budgeted(desk, grace=100)
    holder = Holder(desk, "s1")
    await holder.spend(10, ADA)
    await desk.service.set_budget(NewBudget("acme", usd(1000), "day", on_outage="deny"), desk.act())
    await holder.tick()
    await holder.tick()
    await holder.spend(10, ADA)
    holder.wire.away = True
    assert Source.GRACE not in await spend_all(holder, 10)
    holder.wire.away = False
    await holder.tick()
    assert await desk.problems() == ()


async def test_an_idle_overdraft_goes_back_after_an_hour(desk: Desk) -> None:
    """L44, L47: not after half a minute, as other leases do: it is for later."""
    await budgeted(desk, grace=100)
    holder = Holder(desk, "s1")
    await holder.spend(10, ADA)
    for _ in range(5):
        desk.clock.advance(600)
        await holder.tick()
    assert await overdraft(desk) == (100, 0, 100)
    for _ in range(2):
        desk.clock.advance(600)
        await holder.tick()
    assert await overdraft(desk) == (100, 0, 0)


async def test_nobody_waits_for_a_ledger_that_is_away(desk: Desk) -> None:
    """F-02: once it is known to be away, what grace covers is decided without asking, and it is asked beside."""
    await budgeted(desk, grace=100)
    holder = Holder(desk, "s1")
    await holder.spend(10, ADA)
    holder.wire.away = True
    assert await holder.spend(10, ADA) is Source.GRACE  # asked, in vain
    asked = holder.wire.asked
    for _ in range(5):
        assert await holder.spend(10, ADA) is Source.GRACE
    assert holder.wire.asked == asked
    assert holder.table.degraded == b"ledger_unavailable"
    holder.wire.away = False
    await holder.tick()
    assert holder.table.degraded == b""
