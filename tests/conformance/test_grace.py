"""What a budget may spend beyond its limit while the ledger is away (L47): on every engine."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.contract.messages import LeaseGrant, LeaseReport
from sidecar.core.credits.grants import Category
from sidecar.core.governance.overdrafts import is_overdraft_account
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Rejected
from sidecar.ledger.administration import NewBudget, NewGrant
from sidecar.ledger.views import BudgetView
from tests.support.ledger import Desk, usd

ADA = Subject("acme", user="ada")
DAY_MS = 86_400_000


async def graced(desk: Desk, *, wallet: str = "none", **more: object) -> BudgetView:
    """A customer with a limit of 100 a day, and grace."""
    await desk.service.add_customer("acme", wallet, desk.act())
    fields: dict[str, object] = {"path": "acme", "limit": usd(100), "per": "day", "on_outage": "grace"}
    return await desk.service.set_budget(NewBudget(**(fields | {"grace": usd(90)} | more)), desk.act())  # type: ignore[arg-type]


async def figures(desk: Desk) -> tuple[int, int, int]:
    """What is used of the limit; what is used and what is lent of the overdraft."""
    (view,) = await desk.service.budgets("acme")
    assert view.grace_used is not None
    assert view.grace_leased is not None
    return sum(child.used.atoms for child in view.children), view.grace_used.atoms, view.grace_leased.atoms


def second(leases: tuple[LeaseGrant, ...]) -> LeaseGrant:
    """The lease on the overdraft."""
    (found,) = [one for one in leases if is_overdraft_account(one.lease_id.partition("/")[2])]
    return found


async def test_it_is_lent_with_the_first_lease_and_by_equal_parts(desk: Desk) -> None:
    """L47: whoever comes first has all of it, and gives back when others come."""
    await graced(desk)
    mine = second((await desk.borrow(ADA, 10)).leases)
    left_ms = DAY_MS - desk.clock.wall_ms() % DAY_MS
    assert (mine.granted_atoms, mine.pays_for_ms, mine.recall) == (90, left_ms, False)
    assert second((await desk.borrow(ADA, 10, sidecar="s2")).leases).granted_atoms == 0
    reply = await desk.sync(reports=(LeaseReport(mine.lease_id, 0, want_atoms=1),))
    assert second(reply.parts[0].leases).recall
    reply = await desk.sync(reports=(LeaseReport(mine.lease_id, 45),))
    assert not second(reply.parts[0].leases).recall
    theirs = mine.lease_id.replace("s1-inc", "s2-inc")
    reply = await desk.sync(reports=(LeaseReport(theirs, 0, want_atoms=1),), sidecar="s2")
    assert second(reply.parts[0].leases).granted_atoms == 45
    assert await desk.problems() == ()


@pytest.mark.parametrize("wallet", ["none", "required"])
async def test_what_ran_on_it_counts_in_the_budget_too_and_is_flagged(desk: Desk, wallet: str) -> None:
    """L47, L31: also above the limit; and what was given more than was held is found (L17)."""
    await graced(desk, wallet=wallet)
    paid: tuple[tuple[str, int], ...] = ()
    if wallet == "required":
        grant = NewGrant("acme", usd(1000), category=Category.PAID.value)
        await desk.service.add_grant(grant, desk.act())
    lent = (await desk.borrow(ADA, 60, demand=1000)).leases
    if wallet == "required":
        name = next(one.lease_id for one in lent if "/grant:" in one.lease_id)
        paid = ((name, 10),)
    mine = second(lent).lease_id
    for number in range(9):
        await desk.sync(desk.event(f"r{number}", ADA, 10, leases=(mine,), paid=paid))
    assert await figures(desk) == (90, 90, 0)
    await desk.sync(desk.event("more", ADA, 25, leases=(mine,)))
    assert await figures(desk) == (115, 115, 0)
    view = await desk.service.explain("r0")
    assert view.flags == ("grace",)
    again = await desk.borrow(ADA, 1)
    assert next(one for one in again.readings if one.id.endswith("+grace")).unlent_atoms == 0
    assert await desk.problems() == ()


async def test_it_can_be_changed_and_is_kept_when_nothing_is_said(desk: Desk) -> None:
    """An edit without a word about it leaves it; `deny` ends it: a lease on it pays no more."""
    await graced(desk)
    await desk.service.set_budget(NewBudget("acme", usd(200), "day"), desk.act())
    (view,) = await desk.service.budgets("acme")
    assert (view.on_outage, view.limit.atoms, view.grace and view.grace.atoms) == ("grace", 200, 90)
    mine = second((await desk.borrow(ADA, 10)).leases)
    await desk.service.set_budget(NewBudget("acme", usd(200), "day", on_outage="deny"), desk.act())
    (view,) = await desk.service.budgets("acme")
    assert (view.on_outage, view.grace) == ("deny", None)
    reply = await desk.sync(reports=(LeaseReport(mine.lease_id, 0, want_atoms=1),))
    assert second(reply.parts[0].leases).pays_for_ms == 0
    await desk.sync(reports=(LeaseReport(mine.lease_id, 90, closed=True),))
    assert await desk.problems() == ()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"grace": ""}, "grace"),
        ({"grace": "0"}, "grace"),
        ({"grace": "-1"}, "grace"),
        ({"on_outage": "deny"}, "on_outage"),
        ({"on_outage": ""}, "on_outage"),
        ({"on_outage": "allow"}, "on_outage"),
        ({"hard": False}, "on_outage"),
        ({"per": "window", "window_s": 3600}, "on_outage"),
    ],
)
async def test_what_makes_no_sense_is_refused(desk: Desk, more: dict[str, object], field: str) -> None:
    """L47: grace is an amount beyond a hard budget's limit, in a calendar's period."""
    with pytest.raises(Rejected) as refused:
        await graced(desk, **more)  # type: ignore[arg-type]
    assert field in refused.value.problems
    assert await desk.service.budgets("acme") == []


async def test_it_is_lent_ahead_of_its_period(desk: Desk) -> None:
    """L41, L47: the next day's overdraft comes with the next day's lease."""
    await graced(desk)
    await desk.borrow(ADA, 10)
    desk.clock.advance((DAY_MS - desk.clock.wall_ms() % DAY_MS) / 1000 - 20)
    request = msgspec.structs.replace(desk.request(ADA, 10), next_period=True)
    ahead = second((await desk.ledger.resolve(request)).leases)
    assert (ahead.granted_atoms, ahead.starts_in_ms) == (90, 20_000)


async def test_what_ran_on_it_counts_in_its_own_period_whatever_its_sidecars_clock_says(desk: Desk) -> None:
    """L37, L47: the clock was set a day forward, or back, between the call and its report."""
    await graced(desk)
    mine = second((await desk.borrow(ADA, 60, demand=1000)).leases).lease_id
    now_ms = desk.clock.wall_ms()
    await desk.sync(desk.event("r1", ADA, 10, leases=(mine,), admitted_at_ms=now_ms - DAY_MS))
    await desk.sync(desk.event("r2", ADA, 10, leases=(mine,), admitted_at_ms=now_ms + DAY_MS))
    assert await figures(desk) == (20, 20, 70)
    assert await desk.problems() == ()
