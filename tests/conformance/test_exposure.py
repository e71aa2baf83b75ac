"""What can be spent without asking the ledger, and by whom, on every engine (L48)."""

from __future__ import annotations

import pytest

from sidecar.contract.messages import LeaseReport, RegisterRequest
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.errors import NotFound
from sidecar.ledger.administration import NewBudget, NewGrant
from tests.support.ledger import Desk, usd

ACME = Subject("acme")
DATA = Subject("acme", path=(Node("department", "it"), Node("team", "data")))
DAY_S = 86_400


async def test_what_is_lent_is_shown_with_its_holders(desk: Desk) -> None:
    """L48: escrow by account and sidecar, those with the most first; silent ones are in quarantine, and count on."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    assert await desk.service.exposure("acme") == []
    lease = (await desk.borrow(ACME, 10, sidecar="s1")).leases[0]
    await desk.borrow(ACME, 30, sidecar="s2")
    await desk.sync(desk.event("r1", ACME, 4, leases=(lease.lease_id,)))
    (row,) = await desk.service.exposure("acme")
    assert (row.kind, row.path, row.sidecars, row.unknown_since_ms) == ("budget", "acme", 2, None)
    assert (row.settled.atoms, row.live.atoms, row.quarantined.atoms, row.exposure.atoms) == (4, 36, 0, 36)
    assert [(one.sidecar, one.amount.atoms, one.quarantined) for one in row.holders] == [
        ("s2", 30, False),
        ("s1", 6, False),
    ]

    desk.clock.advance(DAY_S / 2)
    (row,) = await desk.service.exposure("acme")
    assert (row.live.atoms, row.quarantined.atoms, row.exposure.atoms) == (0, 36, 36)
    assert all(one.quarantined for one in row.holders)

    await desk.sync(reports=(LeaseReport(lease.lease_id, 6, closed=True),))
    desk.clock.advance(DAY_S)
    await desk.service.write_off_silent()
    assert await desk.service.exposure("acme") == []


async def test_what_is_spent_and_not_booked_is_known(desk: Desk) -> None:
    """L48: by the holders' own counts, also on a closed lease and beyond what was lent; booked, it is settled."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    lease = (await desk.borrow(ACME, 10, sidecar="s1")).leases[0].lease_id
    other = (await desk.borrow(ACME, 30, sidecar="s2")).leases[0].lease_id

    async def shown() -> tuple[int, int, int, int] | None:
        for row in await desk.service.exposure("acme"):
            assert row.unshipped is not None
            return row.settled.atoms, row.live.atoms, row.unshipped.atoms, row.exposure.atoms
        return None

    assert await shown() == (0, 40, 0, 40)
    await desk.sync(desk.event("r1", ACME, 4, leases=(lease,)), reports=(LeaseReport(lease, 0, tally_atoms=7),))
    assert await shown() == (4, 36, 3, 36)
    await desk.sync(reports=(LeaseReport(lease, 3, closed=True, tally_atoms=7),))  # its last call is still to come
    assert await shown() == (4, 30, 3, 33)
    await desk.sync(reports=(LeaseReport(other, 0, tally_atoms=35),), sidecar="s2")  # five beyond what was lent
    assert await shown() == (4, 30, 38, 38)
    await desk.sync(desk.event("r2", ACME, 3, leases=(lease,)))
    assert await shown() == (7, 30, 35, 35)
    await desk.sync(desk.event("r3", ACME, 30, leases=(other,)), sidecar="s2")
    assert await shown() == (37, 0, 5, 5)
    await desk.sync(desk.event("r4", ACME, 5, leases=(other,)), sidecar="s2")
    assert await shown() is None


async def test_what_is_written_off_is_not_counted_twice(desk: Desk) -> None:
    """L46, L48: what stands in `unaccounted` with a silent lease is no more beyond it, though known to be spent."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    lease = (await desk.borrow(ACME, 10)).leases[0].lease_id
    await desk.sync(reports=(LeaseReport(lease, 0, tally_atoms=8),))
    desk.clock.advance(2 * DAY_S)
    await desk.service.write_off_silent()
    (row,) = await desk.service.exposure("acme")
    assert row.unshipped is not None
    assert (row.unaccounted.atoms, row.unshipped.atoms, row.exposure.atoms, row.holders) == (10, 8, 0, ())


async def test_a_node_shows_its_own_and_what_is_below(desk: Desk) -> None:
    """L48: `exposure(node)` is of the budgets of the node and those below; grants are the customer's; pages go on."""
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_nodes("acme/department:it/team:data", desk.act())
    await desk.service.add_nodes("acme/department:hr", desk.act())
    await desk.service.add_grant(NewGrant("acme", usd(100)), desk.act())
    for path in ("acme", "acme/department:it", "acme/department:it/team:data"):
        await desk.service.set_budget(NewBudget(path, usd(100), "lifetime"), desk.act())
    await desk.borrow(DATA, 10)

    async def kinds(node: str) -> list[tuple[str, str]]:
        return sorted((row.kind, row.path) for row in await desk.service.exposure("acme", node=node))

    it = [("budget", "acme/department:it"), ("budget", "acme/department:it/team:data")]
    assert await kinds("") == [("budget", "acme"), *it, ("grant", "acme")]
    assert await kinds("department:it") == it
    assert await kinds("team:data") == it[1:]
    assert await kinds("department:hr") == []
    first = await desk.service.exposure("acme", limit=3)
    rest = await desk.service.exposure("acme", limit=3, after=first[-1].account)
    assert [*first, *rest] == await desk.service.exposure("acme")
    with pytest.raises(NotFound):
        await desk.service.exposure("acme", node="team:none")
    assert await desk.service.exposure("acme", node="team:none", evenly=True) == []
    with pytest.raises(NotFound):
        await desk.service.exposure("zeta")


async def test_an_overdraft_that_is_out_is_shown(desk: Desk) -> None:
    """L47, L48: grace is what can be spent beyond the limit, and stands in a row of its own."""
    await desk.service.add_customer("acme", "none", desk.act())
    form = NewBudget("acme", usd(100), "lifetime", on_outage="grace", grace=usd(20))
    await desk.service.set_budget(form, desk.act())
    await desk.borrow(ACME, 10)
    rows = {row.kind: row for row in await desk.service.exposure("acme")}
    assert set(rows) == {"budget", "grace"}
    assert 0 < rows["grace"].exposure.atoms <= 20


async def test_no_other_customer_is_in_it(desk: Desk) -> None:
    """S-31: exposure of a customer is of that one."""
    for customer in ("acme", "zeta"):
        await desk.service.add_customer(customer, "none", desk.act())
        await desk.service.set_budget(NewBudget(customer, usd(100), "lifetime"), desk.act())
        await desk.borrow(Subject(customer), 10)
    assert {row.customer for row in await desk.service.exposure("zeta")} == {"zeta"}


async def test_a_lost_span_makes_it_unknown(desk: Desk) -> None:
    """L50a: since the book has lost something, exposure says since when what was spent is unknown."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    await desk.borrow(ACME, 10)
    history = await desk.service.history()
    ahead = RegisterRequest("s1", "s1-inc", history_id=history, heard=1000)
    await desk.ledger.register(ahead)
    (row,) = await desk.service.exposure("acme")
    assert row.unknown_since_ms == (await desk.service.learning()).since_ms is not None
