"""What calls name by leases that the book has lost: on every engine."""

from __future__ import annotations

import pytest

from sidecar.contract.messages import LeaseReport, RegisterRequest, lease_id
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from sidecar.ledger.views import BudgetView
from sidecar.ports import Transaction
from tests.support.ledger import Desk, usd

ADA = Subject("acme", user="ada")
THIS, LAST, NEXT = "2026-11-24T12Z", "2026-11-24T11Z", "2026-11-24T13Z"


async def hourly(desk: Desk, **more: object) -> BudgetView:
    """A customer whose users each have a limit in each hour."""
    await desk.service.add_customer("acme", "none", desk.act())
    fields: dict[str, object] = {"path": "acme", "limit": usd(100), "per": "hour", "each": "user"}
    return await desk.service.set_budget(NewBudget(**(fields | more)), desk.act())  # type: ignore[arg-type]


async def booked(desk: Desk) -> dict[str, int]:
    """What is booked on each account of budgets, without the budget's id."""

    async def read(tx: Transaction) -> dict[str, int]:
        rows = await tx.fetch(
            "SELECT account, consumed FROM accounts WHERE customer = ? AND account LIKE 'budget:%' AND consumed > 0",
            ("acme",),
        )
        return {row["account"].partition("+")[2] or row["account"].split(":", 2)[2]: row["consumed"] for row in rows}

    return await desk.book.read("acme", read)


async def test_a_call_counts_in_the_period_it_was_let_run_in_whatever_its_sidecars_clock_says(desk: Desk) -> None:
    """L31, L38, L50a: its lease was lost with the end of the book, and its sidecar's wall clock set since."""
    view = await hourly(desk)
    lost = lease_id("s1-inc", f"budget:{view.budget_id}:{LAST}:ada")
    for _ in range(2):  # the second is a repetition
        await desk.sync(desk.event("r1", ADA, 60, leases=(lost,)))  # as if it came in just now
    assert await booked(desk) == {f"{LAST}:ada": 60}
    assert (await desk.service.explain("r1")).flags == ("lease_unknown",)
    assert await desk.problems() == ()


@pytest.mark.parametrize(
    "named",
    [f"{LAST}:bo", f"{LAST}:", LAST, "", f"{NEXT}:ada", "2026-11-24T1130Z:ada", "2026-11:ada", "lifetime:ada"],
)
async def test_a_name_that_no_lease_can_have_had_says_nothing(desk: Desk, named: str) -> None:
    """L31: of another child, of no period of the budget, or of one that is yet to come: the call's own time counts."""
    view = await hourly(desk)
    for account in (f"budget:{view.budget_id}:{named}", f"budget:{view.budget_id}", "budget:other:lifetime:"):
        await desk.sync(desk.event(account, ADA, 1, leases=(lease_id("s1-inc", account),)))
    assert await booked(desk) == {f"{THIS}:ada": 3}
    assert await desk.problems() == ()


async def test_a_budget_that_does_not_apply_is_not_charged(desk: Desk) -> None:
    """L30: whatever a call names."""
    view = await hourly(desk, match={"model": "other"})
    lost = lease_id("s1-inc", f"budget:{view.budget_id}:{LAST}:ada")
    await desk.sync(desk.event("r1", ADA, 60, leases=(lost,)))
    assert await booked(desk) == {}


async def test_grace_whose_lease_the_book_lost_is_used_up_all_the_same(desk: Desk) -> None:
    """L47: only a new period or a person refills an overdraft; a restore does not."""
    view = await hourly(desk, on_outage="grace", grace=usd(90))
    lost = lease_id("s1-inc", f"budget:{view.budget_id}+grace:{THIS}:")
    await desk.sync(desk.event("r1", ADA, 60, leases=(lost,)))
    assert await booked(desk) == {f"grace:{THIS}:": 60, f"{THIS}:ada": 60}
    again = await desk.borrow(ADA, 1, sidecar="s2")
    assert next(one for one in again.readings if one.id.endswith("+grace")).unlent_atoms == 0
    assert sum(one.granted_atoms for one in again.leases if "+grace" in one.lease_id) == 30
    assert await desk.problems() == ()


async def test_a_call_booked_before_its_lost_lease_was_told_of_keeps_nothing_back(desk: Desk) -> None:
    """L39, L50a: neither once its holder has closed that lease, nor in the end."""
    view = await hourly(desk, each="")
    lost = lease_id("s1-inc", f"budget:{view.budget_id}:{THIS}:")
    await desk.ledger.register(RegisterRequest("s1", "s1-inc"))
    await desk.sync(desk.event("r1", ADA, 14, leases=(lost,)))
    await desk.sync(reports=(LeaseReport(lost, 0, granted_atoms=50),))
    await desk.sync(reports=(LeaseReport(lost, 36, closed=True, tally_atoms=14),))
    (before,) = (await desk.borrow(ADA, 0, sidecar="s2")).readings
    assert (before.used_atoms, before.elsewhere_atoms) == (14, 0)
    await desk.sync(ended=True, all_booked=True)
    (after,) = (await desk.borrow(ADA, 0, sidecar="s2")).readings
    assert (after.used_atoms, after.elsewhere_atoms, after.unlent_atoms) == (14, 0, 86)
    assert await desk.problems() == ()


async def test_a_soft_budget_counts_a_call_in_the_period_of_its_leases(desk: Desk) -> None:
    """L36a, L37: its sidecar's clock was set a day back, or forward, between the call and its report."""
    view = await hourly(desk)
    await desk.service.set_budget(NewBudget("acme", usd(100), "day", hard=False), desk.act())
    (lent,) = (await desk.borrow(ADA, 60)).leases
    assert lent.lease_id == lease_id("s1-inc", f"budget:{view.budget_id}:{THIS}:ada")
    now_ms = desk.clock.wall_ms()
    for number, days in enumerate((-2, 0, 2)):
        admitted_at_ms = now_ms + days * 86_400_000
        await desk.sync(desk.event(f"r{number}", ADA, 5, leases=(lent.lease_id,), admitted_at_ms=admitted_at_ms))
    assert await booked(desk) == {f"{THIS}:ada": 15, "2026-11-24:": 15}
    assert await desk.problems() == ()


async def test_a_call_booked_before_its_lost_lease_is_told_counts_once(desk: Desk) -> None:
    """L42, L50a: of what its holder then says was lent, that much is not out any more."""
    view = await hourly(desk, each="")
    account = f"budget:{view.budget_id}:{THIS}:"
    lost = lease_id("s1-inc", account)
    await desk.ledger.register(RegisterRequest("s1", "s1-inc"))
    await desk.sync(desk.event("r1", ADA, 20, leases=(lost,)), desk.event("r2", ADA, 5, leases=(lost,)))
    await desk.sync(desk.event("r3", ADA, 5, leases=(lost,)))
    await desk.sync(desk.event("r3", ADA, 5, leases=(lost,)))  # heard before

    async def stands() -> tuple[int, int, int]:
        async def read(tx: Transaction) -> tuple[int, int, int]:
            sql = "SELECT available, leased, consumed FROM accounts WHERE customer = ? AND account = ?"
            (row,) = await tx.fetch(sql, ("acme", account))
            return row["available"], row["leased"], row["consumed"]

        return await desk.book.read("acme", read)

    assert await stands() == (70, 0, 30)
    await desk.sync(reports=(LeaseReport(lost, 10, granted_atoms=80),))
    assert await stands() == (30, 40, 30)  # 80 were lent: 30 are spent, 10 came back
    await desk.sync(desk.event("r4", ADA, 15, leases=(lost,)))
    assert await stands() == (30, 25, 45)
    await desk.sync(reports=(LeaseReport(lost, 35, closed=True, tally_atoms=45, granted_atoms=80),))
    assert await stands() == (55, 0, 45)
    assert await desk.problems() == ()
