"""Budgets over a window from first use on: on every engine."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sidecar.contract.messages import LeaseReport, lease_id
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Rejected
from sidecar.leases.table import Held, LeaseTable, NoLimit, Short
from sidecar.ledger.administration import NewBudget
from sidecar.ledger.views import BudgetView
from tests.support.ledger import MODEL, PROVIDER, Desk, usd

ADA, BO = Subject("acme", user="ada"), Subject("acme", user="bo")
HOUR_MS = 3_600_000


async def windowed(desk: Desk, limit: int = 100, hours: int = 5, **more: object) -> BudgetView:
    """A customer whose users each have a window."""
    await desk.service.add_customer("acme", "none", desk.act())
    fields: dict[str, object] = {"path": "acme", "limit": usd(limit), "per": "window", "window_s": hours * 3600}
    return await desk.service.set_budget(NewBudget(**(fields | {"each": "user"} | more)), desk.act())  # type: ignore[arg-type]


async def running(desk: Desk) -> dict[str, tuple[int, int | None]]:
    """Of each child's window that runs: what it has used, and how long it still runs."""
    (view,) = await desk.service.budgets("acme")
    now_ms = desk.clock.wall_ms()
    return {
        child.child: (child.used.atoms, None if child.resets_at_ms is None else child.resets_at_ms - now_ms)
        for child in view.children
    }


async def test_a_window_begins_with_the_first_lending_and_ends_so_long_after(desk: Desk) -> None:
    """L37: not when it is set, nor when it is asked about; the next one with the first use after its end."""
    await windowed(desk)
    desk.clock.advance(3600)
    await desk.borrow(ADA, 0)
    assert await running(desk) == {}
    lent = await desk.borrow(ADA, 60)
    await desk.sync(desk.event("r1", ADA, 60, leases=(lent.leases[0].lease_id,)))
    desk.clock.advance(4 * 3600)
    (reading,) = (await desk.borrow(ADA, 40)).readings
    assert (reading.used_atoms, reading.resets_in_ms) == (60, HOUR_MS)
    assert (await desk.borrow(ADA, 41)).leases[0].granted_atoms == 100  # nothing more
    assert await running(desk) == {"ada": (60, HOUR_MS)}
    desk.clock.advance(3600)
    assert await running(desk) == {}
    desk.clock.advance(1800)
    (reading,) = (await desk.borrow(ADA, 100)).readings
    assert (reading.used_atoms, reading.resets_in_ms) == (0, 5 * HOUR_MS)
    assert await running(desk) == {"ada": (0, 5 * HOUR_MS)}
    assert await desk.problems() == ()


async def test_each_child_has_a_window_of_its_own(desk: Desk) -> None:
    """L33, L37: whatever they are called."""
    await windowed(desk)
    odd = [Subject("acme", user=name) for name in ("ada:1795521600000", "ada")]
    for number, subject in enumerate(odd):
        (lease,) = (await desk.borrow(subject, 10 + number)).leases
        await desk.sync(desk.event(f"r{number}", subject, 10 + number, leases=(lease.lease_id,)))
        desk.clock.advance(3600)
    assert await running(desk) == {"ada": (11, 4 * HOUR_MS), "ada:1795521600000": (10, 3 * HOUR_MS)}
    for number, subject in enumerate(odd):
        (reading,) = (await desk.borrow(subject, 0)).readings
        assert reading.used_atoms == 10 + number


async def test_two_sidecars_that_see_a_child_first_at_once_share_a_window(desk: Desk) -> None:
    """L33, L39: they are lent no more than it has, and one that is refused begins none."""
    await windowed(desk)
    assert (await desk.borrow(ADA, 101)).leases == ()
    assert await running(desk) == {}
    replies = await asyncio.gather(*(desk.borrow(ADA, 40, sidecar=f"s{number}") for number in range(4)))
    assert sum(lease.granted_atoms for reply in replies for lease in reply.leases) <= 100
    assert sum(bool(reply.leases) for reply in replies) == 2
    assert len(await running(desk)) == 1


async def test_a_sidecar_goes_from_one_window_to_the_next(desk: Desk) -> None:
    """L41: it admits on what the first has lent until that is over, then on nothing, and then on the second's."""
    await windowed(desk)
    table = LeaseTable()

    async def ask(atoms: int) -> Held | Short | NoLimit:
        sent_at = desk.clock.monotonic()
        reply = await desk.borrow(ADA, atoms)
        assert reply.standing is not None
        table.merge("acme", reply.leases, reply.readings, sent_at=sent_at, now=sent_at)
        return take(reply.standing, atoms)

    def take(standing: Standing, atoms: int) -> Held | Short | NoLimit:
        now = desk.clock.monotonic()
        return table.take(standing, ADA, model=MODEL, provider=PROVIDER, atoms=atoms, now=now)

    first = await ask(100)
    assert isinstance(first, Held)
    table.settle(first, 70)
    desk.clock.advance(5 * 3600 - 1)
    before = await ask(30)
    assert isinstance(before, Held)
    table.release(before)
    desk.clock.advance(1)
    assert isinstance(take(first.plan.standing, 1), Short)
    second = await ask(100)
    assert isinstance(second, Held)
    assert second.budget_leases != first.budget_leases
    (told,) = second.plan.consulted(desk.clock.monotonic())
    assert (told.used, told.held, told.resets_in_ms) == (0, 100, 5 * HOUR_MS)


async def test_what_is_lent_ends_with_the_window_and_late_charges_are_its(desk: Desk) -> None:
    """L38, L41: the lease pays until the end; a call that ends later is charged to the window that lent for it."""
    budget = await windowed(desk)
    (lease,) = (await desk.borrow(ADA, 50)).leases
    desk.clock.advance(5 * 3600 - 60)
    reply = await desk.sync(reports=(LeaseReport(lease.lease_id, 0),))
    assert [one.pays_for_ms for one in reply.parts[0].leases] == [60_000]
    ahead = await desk.ledger.resolve(msgspec.structs.replace(desk.request(ADA, 10), next_period=True))
    assert ahead.leases == ()
    desk.clock.advance(120)
    (fresh,) = (await desk.borrow(ADA, 1)).leases
    reply = await desk.sync(
        desk.event("late", ADA, 30, leases=(lease.lease_id,)), reports=(LeaseReport(lease.lease_id, 0),)
    )
    assert [one.pays_for_ms for one in reply.parts[0].leases] == [0]
    assert await running(desk) == {"ada": (0, 5 * HOUR_MS)}
    assert fresh.lease_id != lease.lease_id
    used = "SELECT account, consumed FROM accounts WHERE consumed > 0"
    rows = await desk.book.read("acme", lambda tx: tx.fetch(used))
    assert {row["account"]: row["consumed"] for row in rows}[lease.lease_id.partition("/")[2]] == 30
    assert lease.lease_id.partition("/")[2].startswith(f"budget:{budget.budget_id}:w:ada/")
    assert await desk.problems() == ()


async def test_a_lowered_limit_alerts_for_windows_that_run(desk: Desk) -> None:
    """L53: for each child's once, and not for those that are over."""
    await windowed(desk)
    for number, subject in enumerate((BO, ADA)):
        (lease,) = (await desk.borrow(subject, 50)).leases
        await desk.sync(desk.event(f"r{number}", subject, 50, leases=(lease.lease_id,)))
        desk.clock.advance(4 * 3600)
    await windowed(desk, 40)
    entries, _ = await desk.service.entries("acme", after=0, kind="threshold_crossed", limit=9)
    assert [str(entry.facts["account"]).split(":")[3].split("/")[0] for entry in entries] == ["ada"]


async def test_windows_of_two_lengths_stand_side_by_side(desk: Desk) -> None:
    """L30: five hours and a week, both must have room; the same length again is an edit."""
    await windowed(desk)
    await windowed(desk, 150, 168)
    await windowed(desk, 100)
    assert len(await desk.service.budgets("acme")) == 2
    for number in range(2):
        leases = (await desk.borrow(ADA, 100 - 50 * number)).leases
        assert len(leases) == 2
        names = tuple(lease.lease_id for lease in leases)
        await desk.sync(desk.event(f"r{number}", ADA, 100 - 50 * number, leases=names))
        desk.clock.advance(5 * 3600)
    (short, _), (long, used) = (
        (one, [child.used.atoms for child in one.children]) for one in await desk.service.budgets("acme")
    )
    assert (short.window_s, short.children, long.window_s, used) == (5 * 3600, (), 168 * 3600, [150])
    refused = await desk.borrow(ADA, 1)
    assert [(reading.used_atoms, reading.unlent_atoms) for reading in refused.readings] == [(0, 100), (150, 0)]
    assert (await desk.service.budgets("acme"))[0].children == ()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"hours": 0}, "window_s"),
        ({"hours": 9000}, "window_s"),
        ({"hard": False}, "hard"),
        ({"per": "day"}, "window_s"),
        ({"each": "", "kind": "allocation"}, "kind"),
        ({"anchor": "2026-01-01"}, "anchor"),
    ],
)
async def test_what_is_no_window(desk: Desk, more: dict[str, object], field: str) -> None:
    """Each is refused by its field."""
    with pytest.raises(Rejected) as refused:
        await windowed(desk, **more)  # type: ignore[arg-type]
    assert list(refused.value.problems) == [field]


async def test_a_window_whose_lease_the_book_lost_is_counted_again(desk: Desk) -> None:
    """L31, L50a: a call names the lease that it ran on; a restore may have lost that lease, and not what was used."""
    view = await windowed(desk)
    start = desk.clock.wall_ms()
    lost = lease_id("s1-inc", f"budget:{view.budget_id}:w:ada/{start:013}")
    for other in (f"w:ada/{start + 1:013}", f"w:bo/{start:013}", f"w:ada/{start}0", "w:ada/", "2026-11:ada"):
        await desk.sync(desk.event(other, ADA, 1, leases=(lease_id("s1-inc", f"budget:{view.budget_id}:{other}"),)))
    assert await running(desk) == {}  # what cannot have been lent
    desk.clock.advance(3600)
    for _ in range(2):  # the second is a repetition
        await desk.sync(desk.event("r1", ADA, 60, leases=(lost,), admitted_at_ms=start))
    assert await running(desk) == {"ada": (60, 4 * HOUR_MS)}
    (used,) = (await desk.borrow(ADA, 41)).leases
    assert used.granted_atoms == 60  # in all: what was used, and nothing to spend
    assert (await desk.borrow(ADA, 41, sidecar="s2")).leases == ()
    assert (await desk.borrow(ADA, 40, sidecar="s2")).leases[0].granted_atoms == 40
    assert await desk.problems() == ()
