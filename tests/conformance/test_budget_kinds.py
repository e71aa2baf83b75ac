"""Budgets that are parts of one above them, and a member's own: on every engine, also when all ask at once."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Rejected
from sidecar.ledger import budget_kinds
from sidecar.ledger.administration import BudgetRemoval, NewBudget
from sidecar.ledger.views import BudgetView
from tests.support.ledger import Desk, usd


async def company(desk: Desk, teams: int = 0) -> None:
    """A customer, a department below it, and teams below that."""
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.add_nodes("acme/department:a", desk.act())
    for number in range(teams):
        await desk.service.add_nodes(f"acme/department:a/team:t{number}", desk.act())


async def allot(desk: Desk, path: str, limit: int, kind: str = "allocation", **more: object) -> BudgetView:
    """Set a monthly budget."""
    fields: dict[str, object] = {"path": path, "limit": usd(limit), "per": "month", "kind": kind} | more
    return await desk.service.set_budget(NewBudget(**fields), desk.act())  # type: ignore[arg-type]


async def end(desk: Desk, budget: BudgetView) -> None:
    """Remove one."""
    await desk.service.remove_budget(BudgetRemoval("acme", budget.budget_id, "not needed"), desk.act())


async def refused(desk: Desk, path: str, limit: int, kind: str = "allocation", **more: object) -> dict[str, str]:
    """Why it cannot be set; and what there is stays as it was."""
    before = await desk.service.budgets("acme")
    with pytest.raises(Rejected) as found:
        await allot(desk, path, limit, kind, **more)
    assert await desk.service.budgets("acme") == before
    assert await desk.problems() == ()
    return found.value.problems


async def test_parts_never_sum_above_the_whole(desk: Desk) -> None:
    """L32: to the atom, whichever of them is changed; a cap beside them takes no part."""
    await company(desk, 3)
    assert "no budget above it" in (await refused(desk, "acme/department:a", 10))["kind"]
    await allot(desk, "acme", 100, "")
    assert (await allot(desk, "acme/department:a", 60)).kind == "allocation"
    await allot(desk, "acme/team:t0", 35)
    assert "at most 0.000000025" in (await refused(desk, "acme/team:t1", 26))["limit"]
    await allot(desk, "acme/team:t1", 25)
    assert "at least 0.00000006" in (await refused(desk, "acme/department:a", 59, ""))["limit"]
    await allot(desk, "acme/team:t2", 1000, "cap")
    await refused(desk, "acme/team:t2", 1)
    assert "at most 0.0000001:" in (await refused(desk, "acme/department:a", 101))["limit"]
    await allot(desk, "acme/department:a", 100, "")  # and is an allocation still
    assert [view.kind for view in await desk.service.budgets("acme")][1] == "allocation"
    await allot(desk, "acme/team:t2", 40)
    await refused(desk, "acme", 99, "")


async def test_one_set_in_between_has_what_is_below_it(desk: Desk) -> None:
    """L32: a part is of the nearest above, so that a smaller one cannot come between."""
    await company(desk, 1)
    await allot(desk, "acme", 100, "cap")
    await allot(desk, "acme/team:t0", 50)
    assert "at least" in (await refused(desk, "acme/department:a", 49, "cap"))["limit"]
    await allot(desk, "acme/department:a", 50, "cap")
    await allot(desk, "acme", 1, "cap")  # nothing is a part of it any more


async def test_a_whole_is_not_removed_while_it_has_parts(desk: Desk) -> None:
    """L32: its parts would be of nothing, or more than the next above has."""
    await company(desk, 1)
    whole = await allot(desk, "acme", 100, "cap")
    middle = await allot(desk, "acme/department:a", 200, "cap")
    part = await allot(desk, "acme/team:t0", 150)
    with pytest.raises(Rejected, match="of acme were allocated"):
        await end(desk, middle)
    await end(desk, whole)
    with pytest.raises(Rejected, match="then acme/department:a/team:t0 has no budget above it"):
        await end(desk, middle)
    await end(desk, part)
    await end(desk, middle)
    assert await desk.problems() == ()


async def test_however_many_ask_at_once(desk: Desk) -> None:
    """L32: room for five of twenty; exactly five get it."""
    await company(desk, 20)
    await allot(desk, "acme", 59, "cap")
    asked = [allot(desk, f"acme/team:t{number}", 10) for number in range(20)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, BudgetView) for one in outcomes) == 5
    assert all(isinstance(one, BudgetView | Rejected) for one in outcomes)
    parts = [view for view in await desk.service.budgets("acme") if view.kind == "allocation"]
    assert sum(view.limit.atoms for view in parts) == 50


async def test_a_whole_is_lowered_while_parts_are_set(desk: Desk) -> None:
    """L32: whoever comes first, the parts fit in the end."""
    await company(desk, 10)
    await allot(desk, "acme", 100, "cap")
    asked = [allot(desk, f"acme/team:t{number}", 10) for number in range(10)]
    asked.insert(5, allot(desk, "acme", 40, "cap"))
    await asyncio.gather(*asked, return_exceptions=True)
    whole, *parts = await desk.service.budgets("acme")
    assert sum(view.limit.atoms for view in parts) <= whole.limit.atoms


async def test_what_is_no_part(desk: Desk) -> None:
    """L32: each child's own, and a member's own."""
    await company(desk)
    await allot(desk, "acme", 100, "cap")
    assert "kind" in await refused(desk, "acme/department:a", 1, each="user")
    assert "kind" in await refused(desk, "acme/department:a", 1, guardrail=True)


async def test_a_guardrail_is_further_and_below(desk: Desk) -> None:
    """L36: beside what others have set for the same, both count; above it, it is refused."""
    await company(desk)
    await allot(desk, "acme/user:ada", 50, "cap")
    assert "at most 0.00000005" in (await refused(desk, "acme/user:ada", 51, "", guardrail=True))["limit"]
    own = await allot(desk, "acme/user:ada", 20, "", guardrail=True)
    assert own.guardrail
    assert [(view.limit.atoms, view.guardrail) for view in await desk.service.budgets("acme")] == [
        (50, False),
        (20, True),
    ]
    ada = Subject("acme", user="ada")
    assert (await desk.borrow(ada, 21)).leases == ()
    reply = await desk.borrow(ada, 20)
    assert reply.standing is not None
    assert [(one.limit_atoms, one.guardrail) for one in reply.standing.budgets] == [(50, False), (20, True)]
    assert len(reply.leases) == 2
    assert "at most" in (await refused(desk, "acme/user:ada", 51, "", guardrail=True))["limit"]
    await allot(desk, "acme/user:ada", 50, "", guardrail=True)


async def test_a_node_has_so_many_guardrails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """L36: who may set no other limit cannot use up the room for them; what it has can still be changed."""
    monkeypatch.setattr(budget_kinds, "MAX_GUARDRAILS", 2)
    await company(desk)
    for agent in ("a", "b"):
        await allot(desk, "acme/user:ada", 9, "", guardrail=True, match={"agent": agent})
    assert "path" in await refused(desk, "acme/user:ada", 9, "", guardrail=True)
    await allot(desk, "acme/user:ada", 8, "", guardrail=True, match={"agent": "a"})
    await allot(desk, "acme/user:bo", 9, "", guardrail=True)


async def test_a_guardrail_follows_what_others_lower(desk: Desk) -> None:
    """L36: it hinders nobody, is never above, and stays where it is when they raise theirs again."""
    await company(desk)
    await allot(desk, "acme/user:ada", 20, "", guardrail=True)  # before others have set any
    await allot(desk, "acme/user:ada", 30, "cap")
    for limit, own in ((15, 15), (40, 15), (15, 15)):
        await allot(desk, "acme/user:ada", limit, "cap")
        views = {view.guardrail: view.limit.atoms for view in await desk.service.budgets("acme")}
        assert views == {False: limit, True: own}
    assert await desk.problems() == ()
