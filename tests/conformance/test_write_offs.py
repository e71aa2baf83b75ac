"""Leases of sidecars that are not heard any more: quarantine, write-off, a person's word, the holder's own (L46)."""

from __future__ import annotations

import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Conflict, IdempotencyConflict, NotFound, Rejected
from sidecar.ledger.administration import LeaseResolution, NewBudget, NewGrant
from tests.support.ledger import Desk, usd

ACME = Subject("acme")
DAY_S = 86_400


async def lent(desk: Desk, atoms: int = 40) -> str:
    """A budget of 100, and a lease on it whose holder is not heard again; gives its name."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    return (await desk.borrow(ACME, atoms)).leases[0].lease_id


async def figures(desk: Desk) -> tuple[int, int]:
    """What of the budget counts as used, and what is lent."""
    (view,) = (await desk.service.budgets("acme"))[0].children
    return view.used.atoms, view.leased.atoms


async def states(desk: Desk) -> list[tuple[str, int]]:
    return [(one.state, one.amount.atoms) for one in await desk.service.leases("acme")]


def word(lease: str, how: str, reason: str = "the pod and its volume are gone") -> LeaseResolution:
    return LeaseResolution("acme", lease, how, reason)


async def test_no_timer_gives_a_lease_back(desk: Desk) -> None:
    """L39, L46: silent past its life it counts as spent; a day later it is unaccounted, and counts as spent still."""
    await lent(desk)
    assert await states(desk) == []
    desk.clock.advance(DAY_S / 2)
    assert await states(desk) == [("quarantined", 40)]
    assert await desk.service.write_off_silent() == 0
    desk.clock.advance(DAY_S)
    assert await desk.service.write_off_silent() == 1
    assert await desk.service.write_off_silent() == 0
    assert await states(desk) == [("unaccounted", 40)]
    assert await desk.service.silent_leases() == []
    assert (await desk.service.budgets("acme"))[0].children[0].remaining.atoms == 60
    assert not (await desk.borrow(ACME, 61, sidecar="s2")).leases
    assert (await desk.borrow(ACME, 60, sidecar="s2")).leases
    assert await desk.problems() == ()


async def test_a_holder_that_speaks_after_its_write_off_is_believed(desk: Desk) -> None:
    """FAULTS R8: what it spent is matched against the write-off, not charged beside it; the rest comes back."""
    lease = await lent(desk)
    desk.clock.advance(2 * DAY_S)
    await desk.service.write_off_silent()
    await desk.sync(desk.event("r1", ACME, 15, leases=(lease,)))
    assert await figures(desk) == (15, 25)
    await desk.service.write_off_silent()
    assert await states(desk) == [("unaccounted", 25)]
    await desk.sync(reports=(LeaseReport(lease, 25, closed=True, granted_atoms=40),))
    assert await states(desk) == []
    assert await figures(desk) == (15, 0)
    assert (await desk.borrow(ACME, 85, sidecar="s2")).leases
    assert await desk.problems() == ()


async def test_a_person_says_that_it_was_spent(desk: Desk) -> None:
    """L46: an entry with actor and reason; said once; the sidecar's own word still counts for more."""
    lease = await lent(desk)
    with pytest.raises(Conflict, match="is heard"):
        await desk.service.resolve_lease(word(lease, "spent"), desk.act())
    desk.clock.advance(DAY_S / 2)
    act = desk.act()
    for _ in range(2):
        assert (await desk.service.resolve_lease(word(lease, "spent"), act)).state == "spent"
    with pytest.raises(IdempotencyConflict):
        await desk.service.resolve_lease(word(lease, "returned"), act)
    assert await figures(desk) == (40, 0)
    assert await states(desk) == [("spent", 40)]
    (entry,), _ = await desk.service.entries("acme", after=0, kind="lease_resolved", limit=9)
    assert (entry.actor, entry.facts["reason"], entry.facts["was"]) == (
        "ada@example.com",
        "the pod and its volume are gone",
        "quarantined",
    )
    assert (await desk.service.resolve_lease(word(lease, "unaccounted"), desk.act())).state == "unaccounted"
    await desk.service.resolve_lease(word(lease, "spent"), desk.act())
    await desk.sync(
        desk.event("r1", ACME, 7, leases=(lease,)), reports=(LeaseReport(lease, 33, closed=True, granted_atoms=40),)
    )
    assert await figures(desk) == (7, 0)
    assert await states(desk) == []
    assert await desk.problems() == ()


@pytest.mark.parametrize("before", ["", "unaccounted", "spent"])
async def test_a_person_says_that_it_was_not(desk: Desk, before: str) -> None:
    """L46, FAULTS R9: it can be lent again; who spent it after all is booked, late, and nothing is lost."""
    lease = await lent(desk)
    desk.clock.advance(DAY_S / 2)
    if before:
        await desk.service.resolve_lease(word(lease, before), desk.act())
    await desk.service.resolve_lease(word(lease, "returned"), desk.act())
    assert await figures(desk) == (0, 0)
    assert await states(desk) == []
    assert (await desk.borrow(ACME, 100, sidecar="s2")).leases
    with pytest.raises(Conflict, match="nothing is out"):
        await desk.service.resolve_lease(word(lease, "spent"), desk.act())
    await desk.sync(desk.event("r1", ACME, 5, leases=(lease,)))
    assert await figures(desk) == (5, 100)
    assert await desk.problems() == ()


async def test_what_a_grant_lent_is_written_off_and_comes_back(desk: Desk) -> None:
    """L6: issued = available + leased + consumed + unaccounted, at every step."""
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_grant(NewGrant("acme", usd(100)), desk.act())
    lease = (await desk.borrow(ACME, 30)).leases[0].lease_id
    desk.clock.advance(2 * DAY_S)
    await desk.service.write_off_silent()
    (grant,) = await desk.service.grants("acme")
    assert (grant.available.atoms, grant.leased.atoms, grant.consumed.atoms) == (70, 0, 0)
    await desk.sync(desk.event("r1", ACME, 12, paid=((lease, 12),)), reports=(LeaseReport(lease, 18, closed=True),))
    (grant,) = await desk.service.grants("acme")
    assert (grant.available.atoms, grant.leased.atoms, grant.consumed.atoms) == (88, 0, 12)
    assert await desk.problems() == ()


async def test_what_makes_no_sense_is_refused(desk: Desk) -> None:
    """Each by its own word, and nothing is changed."""
    lease = await lent(desk)
    desk.clock.advance(DAY_S)
    for form, kind in (
        (word("nobody/budget:b:lifetime:", "spent"), NotFound),
        (LeaseResolution("nobody", lease, "spent", "why"), NotFound),
        (word(lease, "lost"), Rejected),
        (word(lease, "spent", ""), Rejected),
    ):
        with pytest.raises(kind):
            await desk.service.resolve_lease(form, desk.act())
    assert await states(desk) == [("quarantined", 40)]
