"""The sidecars of a ledger and what they hold, on every engine."""

from __future__ import annotations

from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from tests.support.ledger import Desk, usd

DAY_S = 86_400


async def test_each_sidecar_is_listed_with_what_it_holds(desk: Desk) -> None:
    """L46: over all customers; when it was heard; what is silent is in quarantine, and one that stopped is gone."""
    assert await desk.service.list_sidecars() == []
    for customer in ("acme", "zeta"):
        await desk.service.add_customer(customer, "none", desk.act())
        await desk.service.set_budget(NewBudget(customer, usd(100), "lifetime"), desk.act())
        await desk.borrow(Subject(customer), 10, sidecar="s1")
    await desk.borrow(Subject("acme"), 30, sidecar="s2")
    first, second = await desk.service.list_sidecars()
    assert (first.sidecar, first.heard_at_ms, first.leases) == ("s1", desk.clock.wall_ms(), 2)
    assert [one.atoms for one in (*first.holds, *second.holds)] == [20, 30]
    assert (first.quarantined_leases, first.quarantined) == (0, ())

    desk.clock.advance(DAY_S / 2)
    await desk.sync(sidecar="s2", ended=True)
    first, second = await desk.service.list_sidecars()
    assert [(one.sidecar, one.quarantined_leases) for one in (first, second)] == [("s1", 2), ("s2", 1)]
    assert [one.atoms for one in (*first.quarantined, *second.quarantined)] == [20, 30]
    assert first.heard_at_ms is not None
    assert second.heard_at_ms is None  # it has said that it stops


async def test_what_one_holds_of_many_customers_may_be_more_than_any_one_amount(desk: Desk) -> None:
    """Three of the greatest amounts are beyond 64 bits: the list says the sum, to the atom, also in quarantine."""
    for customer in ("acme", "beta", "zeta"):
        await desk.service.add_customer(customer, "none", desk.act())
        await desk.service.set_budget(NewBudget(customer, usd(MAX_ATOMS), "lifetime"), desk.act())
        await desk.borrow(Subject(customer), MAX_ATOMS)
    (only,) = await desk.service.list_sidecars()
    assert [one.atoms for one in only.holds] == [3 * MAX_ATOMS]
    desk.clock.advance(DAY_S / 2)
    (only,) = await desk.service.list_sidecars()
    assert [one.atoms for one in only.quarantined] == [3 * MAX_ATOMS]
