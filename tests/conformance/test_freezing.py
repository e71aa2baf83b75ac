"""Freezing a customer, a node or a user, and who has heard of it, on every engine."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.errors import IdempotencyConflict, NotFound, Rejected
from sidecar.ledger.administration import Act, NodeAct
from sidecar.ledger.views import HoldersView
from tests.conformance.test_ledger_port import ACME, budget, counted, granted
from tests.support.ledger import Desk

DATA = Subject("acme", parse_path("team:data"), user="ada")
SALES = Subject("acme", parse_path("team:sales"), user="bob")


async def grown(desk: Desk) -> None:
    """A customer with a limit, two departments and a team in each."""
    await counted(desk, 1000)
    await desk.service.add_nodes("acme/department:a/team:data", desk.act())
    await desk.service.add_nodes("acme/department:b/team:sales", desk.act())


async def freeze(desk: Desk, path: str) -> None:
    """With a reason."""
    await desk.service.freeze(NodeAct(path, "an incident"), desk.act())


async def refused(desk: Desk) -> list[str]:
    """Of DATA, SALES and ACME, what the ledger says to a call of each."""
    return [(await desk.borrow(subject, 1)).refusal for subject in (DATA, SALES, ACME)]


async def kinds(desk: Desk) -> list[tuple[str, str, object]]:
    """Kind, actor and reason of the entries about freezing."""
    found = (await desk.service.entries("acme", after=0, kind="", limit=1000))[0]
    return [(e.kind, e.actor, e.facts["reason"]) for e in found if e.kind in ("frozen", "unfrozen")]


@pytest.mark.parametrize(
    ("path", "stops"),
    [
        ("acme", [True, True, True]),
        ("acme/department:a", [True, False, False]),
        ("acme/team:data", [True, False, False]),
        ("acme/user:bob", [False, True, False]),
        ("acme/department:a/team:data/user:bob", [False, True, False]),
    ],
)
async def test_who_is_frozen_is_refused_with_all_below(desk: Desk, path: str, stops: list[bool]) -> None:
    """L35: at the ledger at once, for the standing alone too; nobody beside or above is; thawed, it runs again."""
    await grown(desk)
    await freeze(desk, path)
    frozen = Reason.NODE_FROZEN.value
    assert await refused(desk) == [frozen if stopped else "" for stopped in stops]
    reply = await desk.borrow((DATA, SALES, ACME)[stops.index(True)], 0)
    assert (reply.refusal, reply.standing, reply.leases) == (frozen, None, ())
    assert "is frozen" in reply.detail
    assert reply.owner == (f"acme/{path.rpartition('/')[2]}" if "/" in path else path)
    await desk.service.unfreeze(NodeAct(path, "it is over"), desk.act())
    assert await refused(desk) == ["", "", ""]
    assert await kinds(desk) == [
        ("frozen", "ada@example.com", "an incident"),
        ("unfrozen", "ada@example.com", "it is over"),
    ]
    assert await desk.problems() == ()


async def test_what_is_below_something_frozen_stays_so(desk: Desk) -> None:
    """L35: thawing a team does not thaw its department, which the answer names: the outermost."""
    await grown(desk)
    await freeze(desk, "acme/team:data")
    await freeze(desk, "acme/department:a")
    assert (await desk.borrow(DATA, 1)).detail.startswith("acme/department:a is frozen")
    await desk.service.unfreeze(NodeAct("acme/team:data", "by mistake"), desk.act())
    assert await refused(desk) == ["node_frozen", "", ""]
    assert [(node.path, node.frozen) for node in await desk.service.nodes("acme")][:2] == [
        ("acme/department:a", True),
        ("acme/department:a/team:data", False),
    ]


async def test_frozen_twice_is_frozen_once(desk: Desk) -> None:
    """L27: by key, and without one; thawing what is not frozen changes nothing; another reason is another request."""
    await grown(desk)
    act, form = Act("ada@example.com", "one key"), NodeAct("acme/user:ada", "leaked key")
    first = await desk.service.freeze(form, act)
    assert await desk.service.freeze(form, act) == first
    again = await desk.service.freeze(NodeAct("acme/user:ada", "another reason"), Act("bob@example.com", ""))
    assert again == first
    assert (first.path, first.frozen, first.reason) == ("acme/user:ada", True, "leaked key")
    with pytest.raises(IdempotencyConflict) as conflict:
        await desk.service.freeze(NodeAct("acme/user:ada", "other"), act)
    assert conflict.value.field == "reason"
    assert await desk.service.frozen("acme") == [first]
    for _ in range(2):
        assert not (await desk.service.unfreeze(form, desk.act())).frozen
    assert [kind for kind, _, _ in await kinds(desk)] == ["frozen", "unfrozen"]
    assert await desk.service.frozen("acme") == []
    assert await refused(desk) == ["", "", ""]


async def test_what_cannot_be_frozen(desk: Desk) -> None:
    """Nothing that does not exist, and nothing without a reason; nothing was changed."""
    await grown(desk)
    for path, problem in (("acme/team:none", NotFound), ("other", NotFound), ("acme/user:ada/team:data", Rejected)):
        with pytest.raises(problem):
            await freeze(desk, path)
    for reason in ("", "   ", "two\nlines", "x" * 501):
        with pytest.raises(Rejected) as rejected:
            await desk.service.freeze(NodeAct("acme", reason), desk.act())
        assert list(rejected.value.problems) == ["reason"]
    assert await kinds(desk) == []


async def test_a_frozen_nodes_budget_is_lent_from_no_more(desk: Desk) -> None:
    """L35, L45: its own and those below it are asked back; the customer's serves the others as before."""
    await grown(desk)
    await desk.service.set_budget(budget(1000, path="acme/department:a"), desk.act())
    await desk.service.set_budget(budget(1000, path="acme/team:data"), desk.act())
    lent = await desk.borrow(DATA, 10)
    wishes = tuple(LeaseReport(lease.lease_id, 0, want_atoms=100) for lease in lent.leases)
    await freeze(desk, "acme/department:a")
    renewed = (await desk.sync(reports=wishes)).parts[0].leases
    assert [(lease.recall, lease.granted_atoms) for lease in renewed] == [(False, 110), (True, 10), (True, 10)]
    await freeze(desk, "acme")
    renewed = (await desk.sync(reports=wishes)).parts[0].leases
    assert [(lease.recall, lease.granted_atoms) for lease in renewed] == [(True, 110), (True, 10), (True, 10)]
    event = desk.event("r1", DATA, 7, leases=tuple(lease.lease_id for lease in lent.leases))
    assert (await desk.sync(event)).parts[0].booked, "what ran already is booked"
    assert await desk.problems() == ()


async def test_nothing_is_lent_once_the_act_is_answered(desk: Desk) -> None:
    """L35: of calls that come while it is done, each is lent to whole or refused; after it, none."""
    await grown(desk)

    async def ask(number: int) -> str:
        reply = await desk.borrow(DATA, 1, sidecar=f"s{number}")
        assert bool(reply.leases) is not bool(reply.refusal)
        return reply.refusal

    during = [asyncio.create_task(ask(number)) for number in range(10)]
    await freeze(desk, "acme/team:data")
    assert [await ask(number) for number in range(10, 15)] == ["node_frozen"] * 5
    assert set(await asyncio.gather(*during)) <= {"", "node_frozen"}
    assert await desk.problems() == ()


async def count(desk: Desk) -> tuple[int, int, tuple[str, ...]]:
    """Holders, how many have acknowledged, and who has not."""
    found = await desk.service.holders("acme")
    return found.holders, found.acknowledged, found.waiting


async def test_who_has_heard_is_counted(desk: Desk) -> None:
    """L35: each holder by what it says itself, and only while it could still spend."""
    await grown(desk)
    assert await count(desk) == (0, 0, ())
    one = (await desk.borrow(DATA, 10)).leases[0].lease_id
    two = (await desk.borrow(SALES, 20, sidecar="s2")).leases[0].lease_id
    await freeze(desk, "acme/team:data")
    revision = (await desk.service.holders("acme")).revision
    assert await count(desk) == (2, 0, ("s1", "s2"))
    await desk.sync(reports=(LeaseReport(one, 10),), heard=revision - 1)
    assert await count(desk) == (1, 0, ("s2",)), "what is given back cannot be spent"
    await desk.sync(reports=(LeaseReport(one, 10),), heard=revision)
    assert await count(desk) == (2, 1, ("s2",))
    await desk.sync(reports=(LeaseReport(two, 5),), sidecar="s2", heard=revision + 1000)
    assert await count(desk) == (2, 1, ("s2",)), "a number that is not this book's is none"
    await desk.sync(reports=(LeaseReport(two, 5),), sidecar="s2", heard=revision)
    assert await desk.service.holders("acme") == HoldersView("acme", revision, 2, 2)
    await freeze(desk, "acme")
    assert await count(desk) == (1, 0, ("s2",))
    desk.clock.advance(901)
    assert await count(desk) == (0, 0, ()), "its lease has ended"
    with pytest.raises(NotFound):
        await desk.service.holders("nobody")
    assert granted(await desk.sync(reports=(LeaseReport(two, 5),), sidecar="s2"))
