"""A book that an earlier version wrote is read, checked and written on.

`books/0002.sql` is the dump of one as it was when each call had an entry of its own: customers `acme`
(a wallet, two grants, an overrun, a lease that nobody knows, a path that the tree does not know, a call
without a price) and `beta` (no wallet, a soft budget that was crossed). On PostgreSQL the same rows stand in a database
with the tables of that time, which has been brought as far as some version since: before rows had a wall between
customers (migration 0012), and after.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from sidecar.storage import migrate
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from tests.support.engines import postgres_url
from tests.support.ledger import Desk, usd

BOOK = Path(__file__).parent / "books" / "0002.sql"
CALLS = {"acme": 6, "beta": 4}
CHARGED = {"acme": 30 + 40 + 500 + 7 + 3, "beta": 80}
OF_ITSELF = {"usage", "lent", "returned", "threshold_crossed", "debt_repaid", "budget_counted", "grant_expired"}
HEAD = "0e5e71e45ba1c2d0190871165314a5ed4fbb02d7979c9fe553fbb56121d172e0"


WRITTEN: Final = 2
"""The last migration that the writer of the book knew."""

STATES: Final = (
    "SQLite 2",
    "PostgreSQL 2",
    "PostgreSQL 11",
    "PostgreSQL 11, its owner's",
    "PostgreSQL 17, its owner's",
)
"""How far a book was brought before it is opened, and whether its tables belong to a role that walls bind."""

later = pytest.mark.parametrize("desk", STATES, indirect=True)
only_sqlite = pytest.mark.parametrize("desk", STATES[:1], indirect=True)


@pytest.fixture
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """A ledger on that book, some hours later."""
    engine, _, rest = request.param.partition(" ")
    if engine == "SQLite":
        with sqlite3.connect(tmp_path / "book.db") as connection:
            connection.executescript(BOOK.read_text("utf-8"))
        connection.close()
        desk = Desk(tmp_path)
        desk.clock.advance(3 * 3600)
        yield desk
        desk.close()
        return
    book = await open_postgres(DatabaseOptions(await on_postgres(int(rest.split(",")[0]), owned="owner" in rest)))
    desk = Desk(book)
    desk.clock.advance(3 * 3600)
    yield desk
    await book.close()


async def on_postgres(brought_to: int, *, owned: bool) -> str:
    """The address of a database with the same rows, with all migrations up to a number; `owned`: of a plain role."""
    url = postgres_url()
    if owned:
        name = urlsplit(url).path[1:]
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE ROLE owner_{name} LOGIN; ALTER DATABASE {name} OWNER TO owner_{name}")
        await connection.close()
        url = url.replace("//spend@", f"//owner_{name}@")
    connection = await asyncpg.connect(url)
    await connection.execute(migrate.TABLE)
    for migration in migrate.shipped("postgres")[:brought_to]:
        await connection.execute(f"BEGIN; SET LOCAL spend.everyone = 'on'; {migration.sql}; COMMIT")
        facts = (migration.number, migration.name, migration.sha256)
        await connection.execute("INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)", *facts)
        if migration.number == WRITTEN:
            await fill(connection)
    await connection.close()
    return url


async def fill(connection: asyncpg.Connection) -> None:
    """Put the rows of the dump into empty tables of its time."""
    with sqlite3.connect(":memory:") as dump:
        dump.executescript(BOOK.read_text("utf-8"))
    for (table,) in dump.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'migrations'"):
        found = dump.execute(f"SELECT * FROM {table}")
        columns = ", ".join(column[0] for column in found.description)
        marks = ", ".join(f"${number + 1}" for number in range(len(found.description)))
        await connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", found.fetchall())
    dump.close()


@later
async def test_it_is_whole(desk: Desk) -> None:
    """L8, L9: the chain and the balances are the ones that were written."""
    assert [await desk.problems(customer) for customer in CALLS] == [(), ()]
    found = await desk.service.verify("acme")
    assert (found.entries, found.head) == (15, HEAD)


@later
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


@later
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


@later
async def test_a_call_of_it_is_explained(desk: Desk) -> None:
    """L50: what decided it, what it moved, and the entry that it had to itself."""
    view = await desk.service.explain(f"req_{2:026}")
    assert view.charge is not None
    assert view.charge.atoms == 40
    assert view.decision is not None
    assert [one.id for one in view.decision.consulted] == ["b"]
    assert view.entry is not None
    assert (view.entry.key, view.legs) == (view.request_id, view.entry.legs)


@later
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


@later
async def test_a_new_budget_counts_what_it_has_and_what_came_since(desk: Desk) -> None:
    """L31: this month's calls, however they are kept."""
    await desk.sync(*(desk.event(f"new{number}", Subject("beta"), 2) for number in range(5)))
    view = await desk.service.set_budget(NewBudget("beta", usd(1000), "month"), desk.act())
    assert [child.used.atoms for child in view.children] == [90]
    assert await desk.problems("beta") == ()


@only_sqlite
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


@later
async def test_it_is_lent_from_and_charged_on(desk: Desk) -> None:
    """L31, L39, L42: a limit of today counts what it had, a sidecar of today borrows, and its call is booked."""
    await desk.service.set_budget(NewBudget("beta", usd(1000), "month"), desk.act())
    reply = await desk.borrow(Subject("beta"), 5, sidecar="new")
    assert reply.leases
    event = desk.event("today", Subject("beta"), 5, leases=tuple(lease.lease_id for lease in reply.leases))
    (answer,) = (await desk.sync(event, sidecar="new")).parts
    assert (answer.booked, answer.error) == (True, "")
    views = await desk.service.budgets("beta")
    assert [child.used.atoms for view in views for child in view.children] == [CHARGED["beta"] + 5] * len(views)
    assert [await desk.problems(customer) for customer in CALLS] == [(), ()]
