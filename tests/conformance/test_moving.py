"""Moving a node to another place of the tree, with leases out, on every engine."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
import pytest

from sidecar.contract.messages import Holding, LeaseReport, ResolveKeyRequest
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.tenancy import MAX_DEPTH, Node, Subject, parse_path
from sidecar.errors import IdempotencyConflict, NotFound, Rejected, SidecarError
from sidecar.ledger.administration import Act, NewKey, NewToken, NodeAct, NodeMove
from sidecar.ledger.views import NodeView
from tests.conformance.test_ledger_port import budget, counted, granted
from tests.support.ledger import Desk

DATA = Subject("acme", parse_path("team:data"), user="ada")


async def grown(desk: Desk) -> dict[str, str]:
    """A customer with budgets on two departments and on a team of the first; gives their names by path."""
    await counted(desk, 10_000)
    await desk.service.add_nodes("acme/department:a/team:data/squad:x", desk.act())
    await desk.service.add_nodes("acme/department:b", desk.act())
    for path in ("acme/department:a", "acme/department:b", "acme/team:data", "acme/team:data/user:ada"):
        await desk.service.set_budget(budget(1000, path=path), desk.act())
    return {view.path: view.budget_id for view in await desk.service.budgets("acme")}


async def move(desk: Desk, path: str, to: str, act: Act | None = None) -> list[NodeView]:
    """With a reason."""
    return await desk.service.move_node(NodeMove(path, to, "a new department"), act or desk.act())


async def used(desk: Desk) -> dict[str, int]:
    """What each budget has used, by its node."""
    views = await desk.service.budgets("acme")
    return {view.path.rpartition("/")[2]: sum(child.used.atoms for child in view.children) for view in views}


async def tree(desk: Desk) -> list[str]:
    """All paths."""
    return [view.path.removeprefix("acme/") for view in await desk.service.nodes("acme")]


async def test_what_is_asked_after_a_move_goes_by_the_new_place(desk: Desk) -> None:
    """L35: all below it moves along, and its budgets; by the innermost node it is found as before."""
    names = await grown(desk)
    views = await move(desk, "acme/team:data", "acme/department:b")
    assert [view.path for view in views] == ["acme/department:b/team:data", "acme/department:b/team:data/squad:x"]
    assert await tree(desk) == [
        "department:a", "department:b", "department:b/team:data", "department:b/team:data/squad:x",
    ]  # fmt: skip
    for path in ("team:data", "department:b/team:data", "squad:x"):
        reply = await desk.borrow(Subject("acme", parse_path(path), user="ada"), 10)
        assert reply.standing is not None
        assert reply.standing.path[:2] == (Node("department", "b"), Node("team", "data"))
        assert [one.owner("acme") for one in reply.standing.budgets] == [
            "acme", "acme/department:b", "acme/team:data", "acme/user:ada",
        ]  # fmt: skip
        ids = {account.split(":")[1] for account in granted(reply)}
        assert names["acme/department:b"] in ids
        assert names["acme/department:a"] not in ids
    former = await desk.borrow(Subject("acme", parse_path("department:a/team:data")), 1)
    assert former.refusal == Reason.SUBJECT_CONFLICT.value
    assert [(view.path, view.budget_id) for view in await desk.service.budgets("acme")][-2:] == [
        ("acme/department:b/team:data", names["acme/department:a/team:data"]),
        ("acme/department:b/team:data/user:ada", names["acme/department:a/team:data/user:ada"]),
    ]
    (moved,) = (await desk.service.entries("acme", after=0, kind="node_moved", limit=9))[0]
    assert (moved.actor, moved.facts["reason"], moved.facts["from"], moved.facts["to"]) == (
        "ada@example.com", "a new department", "department:a/team:data", "department:b/team:data",
    )  # fmt: skip
    assert await desk.problems() == ()


async def test_what_was_used_and_is_open_stays_where_it_was(desk: Desk) -> None:
    """L21, L31, L35: a call settles on the accounts that it was admitted on, also those that had no lease."""
    await grown(desk)
    await desk.service.set_budget(budget(1000, path="acme/department:a", per="day", hard=False), desk.act())
    await desk.service.set_budget(budget(1000, path="acme/department:b", per="day", hard=False), desk.act())
    reply = await desk.borrow(DATA, 50)
    assert reply.standing is not None
    placed = msgspec.structs.replace(DATA, path=reply.standing.path)
    leases = tuple(lease.lease_id for lease in reply.leases)
    await desk.sync(desk.event("r1", placed, 10, leases=leases))
    await move(desk, "acme/team:data", "acme/department:b")
    before = await used(desk)
    part = (await desk.sync(desk.event("r2", placed, 20, leases=leases))).parts[0]
    assert (part.error, (await desk.service.explain("r2")).flags) == ("", ())
    after = await used(desk)
    assert {node: after[node] - before[node] for node in after} == {
        "acme": 20, "department:a": 20, "department:b": 0, "team:data": 20, "user:ada": 20,
    }  # fmt: skip
    new = await desk.borrow(DATA, 30, sidecar="s2")
    assert new.standing is not None
    there = msgspec.structs.replace(DATA, path=new.standing.path)
    await desk.sync(desk.event("r3", there, 5, leases=tuple(lease.lease_id for lease in new.leases)), sidecar="s2")
    sums, _ = await desk.service.sums(by="department", customer="acme", since_ms=0, after="")
    assert {one.group: one.charge.atoms for one in sums if one.charge is not None} == {"a": 30, "b": 5}
    assert (await used(desk))["department:b"] == 5
    reports = tuple(LeaseReport(lease, 20, closed=True) for lease in leases)
    assert (await desk.sync(reports=reports)).parts[0].error == ""
    assert await desk.problems() == ()


async def test_a_node_that_moves_down_takes_no_call_along(desk: Desk) -> None:
    """L31, L35: a call from before counts on nothing that its node has come to stand below since."""
    await counted(desk, 1000)
    await desk.service.add_nodes("acme/team:data", desk.act())
    await desk.service.add_nodes("acme/region:north", desk.act())
    await desk.service.set_budget(budget(100, path="acme/region:north", hard=False), desk.act())
    lent = await desk.borrow(DATA, 50)
    await move(desk, "acme/team:data", "acme/region:north")
    await desk.sync(desk.event("r1", DATA, 40, leases=tuple(lease.lease_id for lease in lent.leases)))
    assert (await used(desk))["region:north"] == 0
    await desk.service.set_budget(budget(100, path="acme/region:north", per="day", hard=False), desk.act())
    assert (await used(desk))["region:north"] == 0, "what a budget set later counts is the same"
    assert await desk.problems() == ()


async def test_moved_twice_is_moved_once(desk: Desk) -> None:
    """L27: with one key or another; and back again all is as it was."""
    await grown(desk)
    before = await tree(desk)
    act = desk.act()
    first = await move(desk, "acme/team:data", "acme/department:b", act)
    assert await move(desk, "acme/team:data", "acme/department:b", act) == first
    assert await move(desk, "acme/department:b/team:data", "acme/department:b") == first
    with pytest.raises(IdempotencyConflict) as conflict:
        await move(desk, "acme/team:data", "acme", act)
    assert conflict.value.field == "to"
    assert len((await desk.service.entries("acme", after=0, kind="node_moved", limit=9))[0]) == 1
    await move(desk, "acme/team:data", "acme/department:a")
    assert await tree(desk) == before
    await move(desk, "acme/team:data", "acme")
    assert (await desk.borrow(DATA, 1)).refusal == ""
    assert await desk.problems() == ()


@pytest.mark.parametrize(
    ("path", "to", "problem", "field"),
    [
        ("acme/team:data", "acme/squad:x", Rejected, "to"),  # below itself
        ("acme/team:data", "acme/team:data", Rejected, "to"),
        ("acme/department:a", "acme/department:b", Rejected, "to"),  # below its own kind
        ("acme/team:data", "acme/user:ada", Rejected, "to"),
        ("acme/team:data", "other/department:b", Rejected, "to"),
        ("acme", "acme/department:a", Rejected, "path"),
        ("acme/user:ada", "acme/department:a", Rejected, "path"),
        ("acme/team:none", "acme", NotFound, ""),
        ("acme/team:data", "acme/department:none", NotFound, ""),
    ],
)
async def test_what_cannot_be_moved(desk: Desk, path: str, to: str, problem: type[SidecarError], field: str) -> None:
    """Each is told by its field, and nothing was changed."""
    await grown(desk)
    before = await tree(desk)
    with pytest.raises(problem) as refused:
        await move(desk, path, to)
    if isinstance(refused.value, Rejected):
        assert field in refused.value.problems
    assert await tree(desk) == before


async def test_as_deep_as_a_tree_may_be(desk: Desk) -> None:
    """L30: sixteen kinds of the vendor's own, a budget on each and a user below; nothing is moved deeper."""
    await counted(desk, 1000)
    kinds = [f"level-{n}_x" for n in range(MAX_DEPTH)]
    paths = ["acme/" + "/".join(f"{kind}:n{n}" for n, kind in enumerate(kinds[: depth + 1])) for depth in range(16)]
    await desk.service.add_nodes(paths[-1], desk.act())
    with pytest.raises(Rejected):
        await desk.service.add_nodes(f"{paths[-1]}/more:x", desk.act())
    for path in (*paths, f"{paths[-1]}/user:ada"):
        await desk.service.set_budget(budget(100, path=path), desk.act())
    reply = await desk.borrow(Subject("acme", (Node(kinds[-1], "n15"),), user="ada"), 10)
    assert reply.standing is not None
    assert len(reply.standing.path) == MAX_DEPTH
    assert len(granted(reply)) == MAX_DEPTH + 2
    placed = Subject("acme", reply.standing.path, user="ada")
    await desk.sync(desk.event("r1", placed, 7, leases=tuple(one.lease_id for one in reply.leases)))
    assert set((await used(desk)).values()) == {7}
    sums, _ = await desk.service.sums(by=f"node:{kinds[7]}", customer="acme", since_ms=0, after="")
    assert [(one.group, one.calls) for one in sums] == [("n7", 1)]
    await desk.service.add_nodes("acme/above:all", desk.act())
    with pytest.raises(Rejected) as refused:
        await move(desk, paths[0], "acme/above:all")
    assert "at most 16" in refused.value.problems["to"]
    assert len(await desk.service.nodes("acme")) == MAX_DEPTH + 1
    assert await desk.problems() == ()


async def test_what_is_frozen_stays_frozen_where_it_goes(desk: Desk) -> None:
    """L35: a node's own freeze goes along; that of its former place does not, and that of the new one applies."""
    await grown(desk)
    await desk.service.freeze(NodeAct("acme/department:a", "x"), desk.act())
    assert (await desk.borrow(DATA, 1)).refusal == "node_frozen"
    await move(desk, "acme/team:data", "acme/department:b")
    assert (await desk.borrow(DATA, 1)).refusal == ""
    await desk.service.freeze(NodeAct("acme/squad:x", "x"), desk.act())
    await move(desk, "acme/squad:x", "acme")
    assert (await desk.borrow(Subject("acme", parse_path("squad:x")), 1)).refusal == "node_frozen"
    await move(desk, "acme/team:data", "acme/department:a")
    assert (await desk.borrow(DATA, 1)).refusal == "node_frozen"


async def test_a_virtual_key_names_its_node_wherever_it_stands(desk: Desk) -> None:
    """L35: a key that named the whole former path is good, and means the new one."""
    await grown(desk)
    await desk.service.add_key(NewKey("acme/department:a/team:data/user:ada", "ab" * 32), desk.act())
    await desk.service.add_key(NewKey("acme/department:a", "cd" * 32), desk.act())
    await desk.service.add_key(NewKey("acme/squad:x", "ef" * 32), desk.act())
    await move(desk, "acme/team:data", "acme/department:b")
    for digest, path in (("ab", "department:b/team:data"), ("cd", "department:a")):
        found = (await desk.service.resolve_key(ResolveKeyRequest("s1", bytes.fromhex(digest * 32)))).subject
        assert found is not None
        assert found.path == parse_path(path)
        assert (await desk.borrow(found, 1)).refusal == ""
    assert await desk.problems() == ()
    views, _ = await desk.service.keys("acme", after=0, limit=9)
    assert [view.path for view in views] == [
        "acme/department:b/team:data/user:ada", "acme/department:a", "acme/department:b/team:data/squad:x",
    ]  # fmt: skip


async def test_a_token_stands_where_its_node_does(desk: Desk) -> None:
    """S-30, L35: who was above it once sees and revokes it no more, and who is above it now does."""
    await grown(desk)
    for name, path in (("data", "team:data"), ("x", "squad:x"), ("a", "department:a"), ("b", "department:b")):
        form = NewToken(name, "team_manager", hashlib.sha256(name.encode()).hexdigest(), f"acme/{path}")
        await desk.service.make_token(form, desk.act())
    await move(desk, "acme/team:data", "acme/department:b")
    views, _ = await desk.service.tokens("acme", after="", limit=9)
    assert {view.name: view.path for view in views} == {
        "a": "acme/department:a",
        "b": "acme/department:b",
        "data": "acme/department:b/team:data",
        "x": "acme/department:b/team:data/squad:x",
    }
    assert await desk.problems() == ()


async def test_two_moves_at_once_make_no_circle(desk: Desk) -> None:
    """L27, L30: of a below b and b below a, at the same instant, one is refused; the tree stays a tree."""
    await counted(desk, 1000)
    for path in ("acme/alpha:a", "acme/beta:b", "acme/alpha:a/leaf:x"):
        await desk.service.add_nodes(path, desk.act())

    async def attempt(path: str, to: str) -> bool:
        try:
            await move(desk, path, to)
        except Rejected:
            return False
        return True

    done = await asyncio.gather(attempt("acme/alpha:a", "acme/beta:b"), attempt("acme/beta:b", "acme/alpha:a"))
    assert sorted(done) == [False, True]
    paths = await tree(desk)
    assert len(paths) == 3
    for path in paths:
        above = path.rpartition("/")[0]
        assert not above or above in paths
    assert await desk.problems() == ()


async def test_a_move_among_loans(desk: Desk) -> None:
    """L21, L35: a call that comes while a node moves is lent to by one place's budgets or the other's, never both."""
    names = await grown(desk)
    asking = [asyncio.create_task(desk.borrow(DATA, 10, sidecar=f"s{n}")) for n in range(12)]
    await move(desk, "acme/team:data", "acme/department:b")
    later = await desk.borrow(DATA, 10, sidecar="later")
    for reply in await asyncio.gather(*asking):
        ids = {account.split(":")[1] for account in granted(reply)}
        assert len(ids & {names["acme/department:a"], names["acme/department:b"]}) == 1
    assert names["acme/department:b"] in {account.split(":")[1] for account in granted(later)}
    old = (await desk.borrow(Subject("acme", parse_path("department:a")), 5, sidecar="s0")).leases
    holdings = tuple(Holding(one.lease_id, 5) for one in old)
    more = await desk.ledger.resolve(msgspec.structs.replace(desk.request(DATA, 20, sidecar="s0"), holdings=holdings))
    assert more.refusal == ""
    assert await desk.problems() == ()


async def test_what_is_allocated_is_a_part_of_what_is_above_it(desk: Desk) -> None:
    """L32: a node whose allocation would be a part of nothing, or of more than there is, stays where it is."""
    await counted(desk, 1000)
    await desk.service.add_nodes("acme/department:a/team:data", desk.act())
    for place, limit in (("b", 50), ("c", 100), ("d", 0)):
        await desk.service.add_nodes(f"acme/department:{place}", desk.act())
        if limit:
            await desk.service.set_budget(budget(limit, path=f"acme/department:{place}", per="day"), desk.act())
    await desk.service.set_budget(budget(100, path="acme/department:a", per="day"), desk.act())
    await desk.service.set_budget(budget(80, path="acme/team:data", per="day", kind="allocation"), desk.act())
    for place in ("acme/department:b", "acme/department:d"):
        with pytest.raises(Rejected) as refused:
            await move(desk, "acme/team:data", place)
        assert (refused.value.code, list(refused.value.problems)) == ("allocation_exceeded", ["to"])
        assert "department:a/team:data" in await tree(desk)
    await move(desk, "acme/team:data", "acme/department:c")
    assert "department:c/team:data" in await tree(desk)
    assert await desk.problems() == ()


@pytest.mark.parametrize("kind", ["agent", "model", "session", "user", "customer"])
async def test_kinds_that_are_something_else(desk: Desk, kind: str) -> None:
    """L30: what calls say of themselves is no place in the tree, or sums by it would mean two things."""
    await counted(desk, 10)
    with pytest.raises(Rejected) as refused:
        await desk.service.add_nodes(f"acme/team:data/{kind}:x", desk.act())
    assert list(refused.value.problems) == ["path"]
    assert await tree(desk) == []
