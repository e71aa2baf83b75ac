"""The sidecars of a ledger and what they hold, on every engine."""

from __future__ import annotations

from sidecar.contract.messages import CustomerPart, LeaseReport, RegisterRequest, SidecarState, SyncRequest
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


async def lend(desk: Desk, atoms: int = 40) -> str:
    """A lease of s1's on a budget of acme's; gives its id."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(100), "lifetime"), desk.act())
    return (await desk.borrow(Subject("acme"), atoms)).leases[0].lease_id


async def drift(desk: Desk) -> tuple[list[int], list[int]]:
    """What the book lacks of s1's count, and what it has beyond it."""
    (row,) = await desk.service.list_sidecars()
    return [one.atoms for one in row.unbooked], [one.atoms for one in row.overbooked]


async def test_what_a_sidecar_has_charged_and_the_book_lacks_is_its_drift(desk: Desk) -> None:
    """L42: its own count of a lease against what is booked on it; an older message says nothing new, nor does none."""
    lease = await lend(desk)
    assert await drift(desk) == ([], [])
    await desk.sync(desk.event("r1", Subject("acme"), 4, leases=(lease,)), reports=(LeaseReport(lease, 0),))
    assert await drift(desk) == ([], [])  # a sidecar that does not say
    await desk.sync(desk.event("r2", Subject("acme"), 4, leases=(lease,)), reports=(tally(lease, 15),))
    assert await drift(desk) == ([7], [])
    await desk.sync(desk.event("r3", Subject("acme"), 5, leases=(lease,)))
    assert await drift(desk) == ([2], [])
    await desk.sync(reports=(tally(lease, 14),))
    assert await drift(desk) == ([2], [])
    await desk.sync(desk.event("r4", Subject("acme"), 9, leases=(lease,)))  # the next report comes later
    assert await drift(desk) == ([], [])
    await desk.sync(reports=(tally(lease, 22),))
    assert await drift(desk) == ([], [])
    assert (await desk.service.verify("acme")).problems == ()


async def test_a_book_that_has_more_than_was_charged_is_shown(desk: Desk) -> None:
    """What was booked on a lease beyond its holder's count, though all of it came from there: somebody must look."""
    lease = await lend(desk)
    event = desk.event("r1", Subject("acme"), 9, leases=(lease,))
    await desk.sync(event, reports=(tally(lease, 6),))
    assert await drift(desk) == ([], [3])
    await desk.sync(reports=(tally(lease, 10),))
    assert await drift(desk) == ([1], [])


async def test_a_report_that_was_overtaken_is_no_fault_for_ever(desk: Desk) -> None:
    """Calls that were sent after it came first, and then its sender died: nobody need look once it is silent."""
    lease = await lend(desk)
    await desk.sync(desk.event("r1", Subject("acme"), 9, leases=(lease,)))
    await desk.sync(reports=(tally(lease, 0),))
    assert await drift(desk) == ([], [9])
    desk.clock.advance(DAY_S / 2)
    assert await drift(desk) == ([], [])


async def test_a_tally_gives_nothing_back_while_its_lease_is_open(desk: Desk) -> None:
    """L42: only a close frees granted − tally; nonsense is passed over, and costs nothing else of its message."""
    lease = await lend(desk)
    for atoms in (6, -1, 2**63, 2**62):
        reply = await desk.sync(reports=(tally(lease, atoms),))
        assert not reply.parts[0].error
        assert reply.parts[0].leases[0].returned_atoms == 0
    assert await drift(desk) == ([6], [])
    (row,) = await desk.service.list_sidecars()
    assert [one.atoms for one in row.holds] == [40]


def tally(lease: str, atoms: int) -> LeaseReport:
    """A report of an open lease by its holder's count."""
    return LeaseReport(lease, 0, tally_atoms=atoms)


async def test_a_sidecar_says_how_it_is(desk: Desk) -> None:
    """Its version and its outbox, with its start and with what it says later; null where it does not say."""
    started = SidecarState("0.9.1", 3, 4000, 70_000)
    await desk.ledger.register(RegisterRequest("s1", "s1-inc", state=started))
    assert await states(desk) == [("0.9.1", 3, 4000, 70_000)]
    desk.clock.advance(30.0)
    await desk.ledger.sync(SyncRequest("s1", "s1-inc", 0, state=SidecarState("0.9.2", 0, 0, 80_000)))
    assert await states(desk) == [("0.9.2", 0, 0, 80_000)]
    desk.clock.advance(30.0)
    await desk.ledger.sync(SyncRequest("s1", "s1-inc", 0))  # of an earlier version
    assert await states(desk) == [("", None, None, None)]


async def test_nonsense_about_itself_is_cut_to_size(desk: Desk) -> None:
    """What is only shown must not keep a settlement from being booked, nor fill a table or a terminal."""
    lease = await lend(desk)
    desk.clock.advance(30.0)
    state = SidecarState("1\x1b[2J\x00" + "9" * 1000, -5, 2**64 - 1, 0)
    part = CustomerPart("acme", (desk.event("r1", Subject("acme"), 4, leases=(lease,)),))
    reply = await desk.ledger.sync(SyncRequest("s1", "s1-inc", desk.clock.wall_ms(), (part,), state=state))
    assert reply.parts[0].booked
    ((software, calls, age_ms, _),) = await states(desk)
    assert (software, calls, age_ms) == (f"1[2J{'9' * 60}", 0, 2**62 - 1)


async def states(desk: Desk) -> list[tuple[str, int | None, int | None, int | None]]:
    """How each sidecar is."""
    rows = await desk.service.list_sidecars()
    return [(row.software, row.outbox_calls, row.outbox_age_ms, row.outbox_bytes) for row in rows]
