"""Who did what, and why: every act of a person is an entry with its actor and its reason (L7, L27)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.errors import Rejected
from sidecar.ledger.administration import Act, NewBudget, NewGrant, NewToken
from sidecar.ledger.views import ActView
from tests.support.ledger import Desk, usd
from tests.unit.ledger.test_verifying import change

SHA = "ab" * 32


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Acts of two people, a second apart, on two customers and the ledger itself; between them a lease and a call."""
    desk = Desk(tmp_path)
    service = desk.service
    await service.add_customer("acme", "required", Act("ada", "1", "a new contract"))
    desk.clock.advance(1)
    await service.add_grant(NewGrant("acme", usd(100)), Act("bob", "2", "paid in advance ✓"))
    desk.clock.advance(1)
    (lease,) = (lease.lease_id for lease in (await desk.borrow(Subject("acme"), 50)).leases)
    await desk.sync(desk.event("r1", Subject("acme"), 10, paid=((lease, 10),)))
    await service.add_customer("globex", "none", Act("ada", "3"))
    await service.set_sidecar_token("pod", SHA, Act("bob", "4", "a new cluster"))
    desk.clock.advance(1)
    await service.set_budget(NewBudget("acme", usd(50), "day"), Act("ada", "5", "too fast"))
    yield desk
    desk.close()


async def acts(desk: Desk, **asked: object) -> list[ActView]:
    """All of them, in pages of two."""
    found: list[ActView] = []
    cursor = ""
    while True:
        wanted = {"customer": "", "actor": "", "since_ms": 0, "until_ms": 2**62} | asked
        page, cursor = await desk.service.audit(**wanted, after=cursor, limit=2)  # type: ignore[arg-type]
        found += page
        if not cursor:
            return found


def told(found: list[ActView]) -> list[tuple[str, str, str, str]]:
    """Who, what, of whom, why."""
    return [(act.actor, act.kind, act.customer, act.reason) for act in found]


ALL = [
    ("ada", "customer_added", "acme", "a new contract"),
    ("bob", "grant_issued", "acme", "paid in advance ✓"),
    ("bob", "sidecar_token_set", "_system", "a new cluster"),
    ("ada", "customer_added", "globex", ""),
    ("ada", "budget_set", "acme", "too fast"),
]


async def test_every_act_is_listed_in_pages(desk: Desk) -> None:
    """By time, then customer; what the ledger and the sidecars do of themselves is not among them."""
    found = await acts(desk)
    assert told(found) == ALL
    assert found[0].facts == {"wallet": "required"}
    assert await desk.problems() == await desk.problems("_system") == ()
    entries, _ = await desk.service.entries("acme", after=0, kind="", limit=100)
    assert {entry.kind for entry in entries} > {act.kind for act in found if act.customer == "acme"}


async def test_of_one_customer_by_one_actor_since_and_until(desk: Desk) -> None:
    """Each alone, and together; an instant itself is after `since` and not before `until`."""
    first = (await acts(desk))[0].recorded_at_ms
    assert told(await acts(desk, customer="acme")) == [ALL[0], ALL[1], ALL[4]]
    assert told(await acts(desk, actor="bob")) == ALL[1:3]
    assert told(await acts(desk, since_ms=first + 1000, until_ms=first + 3000)) == ALL[1:4]
    assert told(await acts(desk, customer="_system", actor="bob", since_ms=first + 1)) == [ALL[2]]
    assert await acts(desk, customer="nobody") == []
    with pytest.raises(Rejected):
        await desk.service.audit(customer="", actor="", since_ms=0, until_ms=1, after="x", limit=1)


async def test_an_act_that_is_repeated_is_there_once(desk: Desk) -> None:
    """L27: also where it is the ledger's own, and whatever reason the second one gives."""
    await desk.service.set_sidecar_token("pod", SHA, Act("bob", "4", "again"))
    await desk.service.add_customer("acme", "required", Act("ada", "1", "again"))
    assert told(await acts(desk)) == ALL


async def test_an_act_that_is_refused_is_none(desk: Desk) -> None:
    """Its entry commits with it, or neither does; a reason of two lines is no reason."""
    for name, reason in (("", "why"), ("pod", "two\nlines")):
        with pytest.raises(Rejected):
            await desk.service.set_sidecar_token(name, SHA, Act("bob", "6", reason))
    assert told(await acts(desk)) == ALL


async def test_what_is_of_no_customer_is_in_the_ledgers_own_book(desk: Desk) -> None:
    """L7: tokens over the whole ledger, its clock, a token that is void again; it is no customer of anybody."""
    await desk.service.make_token(
        NewToken(name="ci", role="auditor", path="", token_sha256=SHA), Act("bob", "7", "a visit")
    )
    await desk.service.revoke_token("", "ci", Act("bob", "8", "they have gone"))
    await desk.service.revoke_sidecar_token("pod", Act("bob", "9", "the cluster is gone"))
    await desk.service.accept_clock(Act("bob", "10", "it was right"))
    found = await acts(desk, customer="_system")
    assert [(act.kind, act.reason) for act in found[1:]] == [
        ("token_made", "a visit"),
        ("token_revoked", "they have gone"),
        ("sidecar_token_revoked", "the cluster is gone"),
        ("clock_accepted", "it was right"),
    ]
    assert await desk.problems("_system") == ()
    customers, _ = await desk.service.customers(after="", limit=10)
    assert [view.customer for view in customers] == ["acme", "globex"]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM acts WHERE customer = 'acme' AND sequence = 2", "entry 2: is somebody's act, and not listed"),
        ("UPDATE acts SET actor = 'eve' WHERE customer = 'acme' AND sequence = 2", "entry 2: is listed as an act of"),
        ("INSERT INTO acts VALUES ('acme', 99, 'eve', 1)", "entry 99: is listed among the acts, and is none"),
    ],
)
async def test_a_list_that_was_changed_is_found(tmp_path: Path, desk: Desk, sql: str, found: str) -> None:
    """Verify holds the list against the entries."""
    (tmp_path / "book.db").stat()
    change(tmp_path, sql)
    assert [problem.startswith(found) for problem in await desk.problems()] == [True]


def test_acts_are_not_changed_by_accident(tmp_path: Path) -> None:
    """Nor removed: the database itself refuses it."""
    desk = Desk(tmp_path)
    desk.close()
    connection = sqlite3.connect(tmp_path / "book.db")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("INSERT INTO acts VALUES ('acme', 1, 'ada', 1)")
    for sql in ("UPDATE acts SET actor = 'eve'", "DELETE FROM acts"):
        with pytest.raises(sqlite3.IntegrityError, match="acts are never"):
            connection.execute(sql)
    connection.close()
