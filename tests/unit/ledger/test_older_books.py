"""A book that an earlier version wrote is read, checked and written on.

`books/0002.sql` is the dump of one as it was when each call had an entry of its own: customers `acme`
(a wallet, two grants, an overrun, a lease that nobody knows, a path that the tree does not know, a call
without a price) and `beta` (no wallet, a soft budget that was crossed).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from tests.support.ledger import Desk, usd

BOOK = Path(__file__).parent / "books" / "0002.sql"
CALLS = {"acme": 6, "beta": 4}
CHARGED = {"acme": 30 + 40 + 500 + 7 + 3, "beta": 80}
OF_ITSELF = {"usage", "lent", "returned", "threshold_crossed", "debt_repaid", "budget_counted", "grant_expired"}
HEAD = "0e5e71e45ba1c2d0190871165314a5ed4fbb02d7979c9fe553fbb56121d172e0"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A ledger on that book, some hours later."""
    with sqlite3.connect(tmp_path / "book.db") as connection:
        connection.executescript(BOOK.read_text("utf-8"))
    connection.close()
    desk = Desk(tmp_path)
    desk.clock.advance(3 * 3600)
    yield desk
    desk.close()


async def test_it_is_whole(desk: Desk) -> None:
    """L8, L9: the chain and the balances are the ones that were written."""
    assert [await desk.problems(customer) for customer in CALLS] == [(), ()]
    found = await desk.service.verify("acme")
    assert (found.entries, found.head) == (15, HEAD)


async def test_who_did_what_in_it_is_listed(desk: Desk) -> None:
    """L7: its acts are those of its entries whose actor is a person, each by its own actor."""
    found, _ = await desk.service.audit(customer="", actor="", since_ms=0, until_ms=2**62, after="", limit=1000)
    for customer in CALLS:
        entries, _ = await desk.service.entries(customer, after=0, kind="", limit=1000)
        people = [entry for entry in entries if entry.kind not in OF_ITSELF]
        assert [(act.sequence, act.actor) for act in found if act.customer == customer] == [
            (entry.sequence, entry.actor) for entry in people
        ]
        assert people


@pytest.mark.parametrize("size", [1, 4, 1000])
async def test_its_calls_are_listed_and_summed_with_new_ones(desk: Desk, size: int) -> None:
    """However they are kept and however long a page is: each call once, to the atom."""
    bo = Subject("beta", user="bo")
    await desk.sync(*(desk.event(f"new{number}", bo, 2) for number in range(5)))
    for customer, count, atoms in (("acme", 6, CHARGED["acme"]), ("beta", 9, 90), ("", 15, CHARGED["acme"] + 90)):
        rows, cursor = await desk.service.usage(customer=customer, since_ms=0, after="", limit=size)
        while cursor:
            more, cursor = await desk.service.usage(customer=customer, since_ms=0, after=cursor, limit=size)
            rows += more
        assert len({row.request_id for row in rows}) == len(rows) == count
        assert sum(row.charge.atoms for row in rows if row.charge is not None) == atoms
        sums, _ = await desk.service.sums(by="user", customer=customer, since_ms=0, after="")
        assert sum(one.charge.atoms for one in sums if one.charge is not None) == atoms
        assert sum(one.calls for one in sums) == count


async def test_a_call_of_it_is_explained(desk: Desk) -> None:
    """L50: what decided it, what it moved, and the entry that it had to itself."""
    view = await desk.service.explain(f"req_{2:026}")
    assert view.charge is not None
    assert view.charge.atoms == 40
    assert view.decision is not None
    assert [one.id for one in view.decision.consulted] == ["b"]
    assert view.entry is not None
    assert (view.entry.key, view.legs) == (view.request_id, view.entry.legs)


async def test_a_call_of_it_is_not_booked_again(desk: Desk) -> None:
    """L29, F-17: sent once more, alone or among others, it changes nothing."""
    before = await desk.service.balance("beta")
    again = desk.event(f"req_{9:026}", Subject("beta", user="bo"), 20)
    (reply,) = (await desk.sync(again)).parts
    assert (reply.booked, reply.error) == (True, "")
    assert await desk.service.balance("beta") == before
    await desk.sync(again, desk.event("new", Subject("beta"), 1))
    assert await desk.problems("beta") == ()
    rows, _ = await desk.service.usage(customer="beta", since_ms=0, after="", limit=99)
    assert [row.request_id for row in rows][4:] == ["new"]


async def test_a_new_budget_counts_what_it_has_and_what_came_since(desk: Desk) -> None:
    """L31: this month's calls, however they are kept."""
    await desk.sync(*(desk.event(f"new{number}", Subject("beta"), 2) for number in range(5)))
    view = await desk.service.set_budget(NewBudget("beta", usd(1000), "month"), desk.act())
    assert [child.used.atoms for child in view.children] == [90]
    assert await desk.problems("beta") == ()


async def test_what_is_changed_in_it_is_found(desk: Desk, tmp_path: Path) -> None:
    """L8: an id that leads to another call, and one that leads nowhere."""
    connection = sqlite3.connect(tmp_path / "book.db")
    connection.execute("DROP TRIGGER calls_are_not_updated")
    connection.execute("UPDATE calls SET sequence = sequence + 1 WHERE request_id = ?", (f"req_{1:026}",))
    connection.execute("INSERT INTO calls VALUES ('made up', 'acme', 1, 0, 0)")
    connection.commit()
    connection.close()
    problems = " ".join(await desk.problems("acme"))
    assert f"call req_{1:026}: is call 0 of entry" in problems
    assert "call made up: entry 1 does not have it" in problems
