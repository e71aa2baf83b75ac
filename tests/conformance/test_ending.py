"""Voiding a grant and removing a budget, with leases out, on every engine."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import IdempotencyConflict, NotFound, Rejected
from sidecar.ledger.administration import Act, BudgetRemoval, GrantVoid, NewGrant
from sidecar.ledger.views import BudgetView, GrantView
from tests.conformance.test_ledger_port import ACME, HOUR_MS, budget, counted, granted
from tests.support.ledger import Desk, usd


async def void(desk: Desk, grant_id: str, act: Act | None = None) -> GrantView:
    """With a reason."""
    return await desk.service.void_grant(GrantVoid("acme", grant_id, "given by mistake"), act or desk.act())


async def remove(desk: Desk, budget_id: str, act: Act | None = None) -> BudgetView:
    """With a reason."""
    return await desk.service.remove_budget(BudgetRemoval("acme", budget_id, "no longer needed"), act or desk.act())


async def given(desk: Desk, atoms: int, lasts_ms: int | None = None) -> GrantView:
    """A grant to a customer who pays from grants."""
    await desk.service.add_customer("acme", "required", desk.act())
    expires = None if lasts_ms is None else desk.clock.wall_ms() + lasts_ms
    return await desk.service.add_grant(NewGrant("acme", usd(atoms), expires_at_ms=expires), desk.act())


async def parts(desk: Desk, grant_id: str) -> tuple[int, int, int, int, int]:
    """Available, leased, consumed, expired and revoked."""
    (one,) = [view for view in await desk.service.grants("acme") if view.grant_id == grant_id]
    return (one.available.atoms, one.leased.atoms, one.consumed.atoms, one.expired.atoms, one.revoked.atoms)


async def entries(desk: Desk, kind: str) -> list[tuple[str, object]]:
    """Actor and reason of each of a kind."""
    found = (await desk.service.entries("acme", after=0, kind=kind, limit=99))[0]
    return [(entry.actor, entry.facts["reason"]) for entry in found]


async def test_a_void_grant_is_revoked_as_it_comes_back(desk: Desk) -> None:
    """L15: what is free at once, what is lent as it is released; what was consumed, or is by an open call, is."""
    grant = await given(desk, 100)
    lease = (await desk.borrow(ACME, 60)).leases[0].lease_id
    await desk.sync(desk.event("r1", ACME, 10, paid=((lease, 10),)))
    view = await void(desk, grant.grant_id)
    assert (view.voided, view.live) == (True, False)
    assert await parts(desk, grant.grant_id) == (0, 50, 10, 0, 40)
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases == ()
    reply = await desk.sync(
        desk.event("r2", ACME, 20, paid=((lease, 20),)), reports=(LeaseReport(lease, 5, want_atoms=50),)
    )
    assert [(one.granted_atoms, one.pays_for_ms) for one in reply.parts[0].leases] == [(60, 0)]
    assert await parts(desk, grant.grant_id) == (0, 25, 30, 0, 45)
    await desk.sync(reports=(LeaseReport(lease, 30, closed=True),))
    assert await parts(desk, grant.grant_id) == (0, 0, 30, 0, 70)
    assert await entries(desk, "grant_voided") == [("ada@example.com", "given by mistake")]
    assert await desk.problems() == ()


async def test_void_twice_is_void_once(desk: Desk) -> None:
    """L15, L27: with one key, another, or at the same instant; another reason under a key is a conflict."""
    grant = await given(desk, 100)
    act = desk.act()
    views = await asyncio.gather(void(desk, grant.grant_id, act), *(void(desk, grant.grant_id) for _ in range(5)))
    assert all(view == views[0] for view in views)
    assert await void(desk, grant.grant_id, act) == views[0]
    with pytest.raises(IdempotencyConflict):
        await desk.service.void_grant(GrantVoid("acme", grant.grant_id, "another reason"), act)
    assert len(await entries(desk, "grant_voided")) == 1
    for name in ("grant_none", ""):
        with pytest.raises(NotFound):
            await void(desk, name)
    with pytest.raises(Rejected):
        await desk.service.void_grant(GrantVoid("acme", grant.grant_id, ""), desk.act())
    assert await desk.problems() == ()


@pytest.mark.parametrize("expires_first", [True, False])
async def test_a_void_grant_that_has_an_end(desk: Desk, expires_first: bool) -> None:
    """L13, L15: what had expired stays expired; what comes back after both is revoked, whichever came first."""
    grant = await given(desk, 100, HOUR_MS // 12)
    lease = (await desk.borrow(ACME, 60)).leases[0].lease_id
    if expires_first:
        desk.clock.advance(400)
    await void(desk, grant.grant_id)
    desk.clock.advance(400)
    await desk.sync(reports=(LeaseReport(lease, 60, closed=True),))
    assert await parts(desk, grant.grant_id) == ((0, 0, 0, 40, 60) if expires_first else (0, 0, 0, 0, 100))
    assert await desk.problems() == ()


async def test_a_void_grant_pays_no_excess_and_no_debt(desk: Desk) -> None:
    """L15, L17: what a call costs beyond its hold comes from other grants, or is owed; void credit repays nothing."""
    grant = await given(desk, 100)
    lease = (await desk.borrow(ACME, 10)).leases[0].lease_id
    await void(desk, grant.grant_id)
    await desk.sync(desk.event("r1", ACME, 15, paid=((lease, 15),)))
    assert await parts(desk, grant.grant_id) == (0, 0, 10, 0, 90)
    assert [debt.atoms for debt in (await desk.service.balance("acme")).debt] == [5]
    assert await desk.problems() == ()


async def test_a_removed_budget_limits_nothing(desk: Desk) -> None:
    """L30: what is lent of it is charged and comes back; removed twice is removed once; set anew, it counts again."""
    first = await counted(desk, 100)
    other = await desk.service.set_budget(budget(1000, per="day"), desk.act())
    lent = await desk.borrow(ACME, 60)
    leases = tuple(lease.lease_id for lease in lent.leases)
    await desk.sync(desk.event("r1", ACME, 10, leases=leases))
    act = desk.act()
    view = await remove(desk, first.budget_id, act)
    assert (view.budget_id, view.children[0].used.atoms, view.children[0].leased.atoms) == (first.budget_id, 10, 50)
    assert await remove(desk, first.budget_id, act) == await remove(desk, first.budget_id) == view
    assert await entries(desk, "budget_removed") == [("ada@example.com", "no longer needed")]
    assert [one.budget_id for one in await desk.service.budgets("acme")] == [other.budget_id]
    more = await desk.borrow(ACME, 500, sidecar="s2")
    assert [account.split(":")[1] for account in granted(more)] == [other.budget_id]
    reply = await desk.sync(
        desk.event("r2", ACME, 20, leases=leases), reports=tuple(LeaseReport(one, 5, want_atoms=99) for one in leases)
    )
    assert reply.parts[0].error == ""
    renewed = {one.lease_id: (one.granted_atoms, one.pays_for_ms > 0) for one in reply.parts[0].leases}
    assert renewed[leases[0]] == (60, False)
    assert renewed[leases[1]][1]
    await desk.sync(reports=(LeaseReport(leases[0], 30, closed=True),))
    assert await desk.problems() == ()
    anew = await desk.service.set_budget(budget(100), desk.act())
    assert anew.budget_id != first.budget_id
    assert anew.children[0].used.atoms == 30
    assert (await desk.borrow(ACME, 71, sidecar="s3")).leases == ()
    assert await desk.problems() == ()


async def test_what_cannot_be_removed(desk: Desk) -> None:
    """What does not exist, and what is another customer's."""
    mine = await counted(desk, 100)
    await desk.service.add_customer("other", "none", desk.act())
    for customer, name in (("acme", "bud_none"), ("acme", ""), ("other", mine.budget_id), ("nobody", mine.budget_id)):
        with pytest.raises(NotFound):
            await desk.service.remove_budget(BudgetRemoval(customer, name, "x"), desk.act())
    assert len(await desk.service.budgets("acme")) == 1


async def test_a_limit_is_lowered_with_leases_out(desk: Desk) -> None:
    """L35, L39: nothing more is lent, what is lent is asked back, and raised again it is lent again."""
    await counted(desk, 100)
    lease = (await desk.borrow(ACME, 80)).leases[0].lease_id
    await desk.service.set_budget(budget(50), desk.act())
    assert (await desk.borrow(ACME, 1, sidecar="s2")).leases == ()
    (renewed,) = (await desk.sync(reports=(LeaseReport(lease, 0, want_atoms=20),))).parts[0].leases
    assert (renewed.granted_atoms, renewed.recall) == (80, True)
    await desk.sync(desk.event("r1", ACME, 60, leases=(lease,)), reports=(LeaseReport(lease, 20),))
    (child,) = (await desk.service.budgets("acme"))[0].children
    assert (child.used.atoms, child.leased.atoms, child.remaining.atoms) == (60, 0, 0)
    assert await desk.problems() == ()
    await desk.service.set_budget(budget(70), desk.act())
    assert (await desk.borrow(ACME, 11, sidecar="s2")).leases == ()
    assert (await desk.borrow(ACME, 10, sidecar="s2")).leases
    assert await desk.problems() == ()


async def test_a_removal_and_a_loan_at_the_same_instant(desk: Desk) -> None:
    """L21, L35: each call is lent to by all budgets of before or of after; what is lent is on the book."""
    doomed = await counted(desk, 50)
    await desk.service.set_budget(budget(1000, per="day"), desk.act())
    asking = [asyncio.create_task(desk.borrow(Subject("acme"), 10, sidecar=f"s{n}")) for n in range(12)]
    await remove(desk, doomed.budget_id)
    replies = await asyncio.gather(*asking)
    assert {len(reply.leases) for reply in replies} <= {0, 1, 2}
    assert sum(len(reply.leases) == 2 for reply in replies) <= 5
    assert await desk.problems() == ()
