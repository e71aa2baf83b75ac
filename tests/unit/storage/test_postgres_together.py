"""Customers whose works go together: as if each were alone, and for the price of one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from sidecar.ports import Transaction
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import PostgresBook, open_postgres
from tests.support.engines import postgres_url

CUSTOMERS = [f"c{n:02}" for n in range(20)]
LOCK = "SELECT * FROM customers WHERE customer = ?"
ADD = (
    "INSERT INTO customers (customer, wallet, created_at_ms, revision, head_sequence, head_hash, last_recorded_at_ms)"
    " VALUES (?, 'none', 0, 0, 0, '', 0)"
)
ASKED = Counter[str]()


class Counting(asyncpg.Connection):  # type: ignore[misc]  # untyped
    """A connection that counts what it is asked, by the first word and what it is asked of."""

    async def fetch(self, *args: Any, **more: Any) -> Any:
        ASKED["SELECT"] += 1
        return await super().fetch(*args, **more)

    async def execute(self, *args: Any, **more: Any) -> Any:
        ASKED[args[0].split()[0]] += 1
        return await super().execute(*args, **more)


@pytest.fixture
def url() -> str:
    """An empty database."""
    return postgres_url()


@pytest.fixture
async def book(url: str) -> AsyncIterator[PostgresBook]:
    """A book with some customers, each at revision 0."""
    opened = await open_postgres(DatabaseOptions(url), connection_class=Counting)
    await asyncio.gather(*(opened.transact(one, partial(add, customer=one)) for one in CUSTOMERS))
    ASKED.clear()
    yield opened
    await opened.close()


async def add(tx: Transaction, customer: str) -> None:
    """Make a customer."""
    await tx.execute(ADD, (customer,))


async def count_up(tx: Transaction, customer: str, *, look_first: bool = False, fail: str = "") -> int:
    """Add one to a customer's revision; gives what it was."""
    if look_first:
        await tx.fetch("SELECT id FROM nodes WHERE customer = ?", (customer,))
    (row,) = await tx.fetch_locked(LOCK, (customer,))
    assert row["customer"] == customer
    if fail == "before":
        raise ValueError(customer)
    revision: int = row["revision"]
    await tx.execute("UPDATE customers SET revision = ? WHERE customer = ?", (revision + 1, customer))
    if fail == "after":
        raise ValueError(customer)
    return revision


async def revisions(book: PostgresBook) -> list[int]:
    """Of all customers, in their order."""
    sql = "SELECT revision FROM customers ORDER BY customer"
    return [row["revision"] for row in await book.read_everyone(lambda tx: tx.fetch(sql))]


async def all_at_once(
    book: PostgresBook, work: Callable[[Transaction, str], Awaitable[Any]], customers: list[str] = CUSTOMERS
) -> list[Any]:
    """What comes of a work for each customer."""

    async def ask(customer: str) -> Any:
        return await book.transact(customer, lambda tx: work(tx, customer))

    return await asyncio.gather(*map(ask, customers), return_exceptions=True)


async def test_what_many_ask_alike_is_asked_once(book: PostgresBook) -> None:
    """Twenty customers cost four statements."""
    assert await all_at_once(book, count_up) == [0] * 20
    assert ASKED == {"BEGIN": 1, "SELECT": 1, "UPDATE": 1, "COMMIT": 1}
    assert await revisions(book) == [1] * 20


async def test_who_asks_more_is_waited_for(book: PostgresBook) -> None:
    """A statement that only some ask costs one more, and no other is asked twice for it."""

    async def work(tx: Transaction, customer: str) -> int:
        return await count_up(tx, customer, look_first=customer.endswith("7"))

    for _ in range(2):  # the first time nobody knew yet which comes before which
        ASKED.clear()
        await all_at_once(book, work)
    assert ASKED == {"BEGIN": 1, "SELECT": 2, "UPDATE": 1, "COMMIT": 1}


async def test_everybody_gets_their_own_rows(book: PostgresBook) -> None:
    """Also of queries for several values, by some for many and by some for none that are there."""
    nodes = {one: [(f"kind{n}", f"{one}-{n}") for n in range(number % 4)] for number, one in enumerate(CUSTOMERS)}

    async def work(tx: Transaction, customer: str) -> list[tuple[str, str]]:
        await tx.execute_many(
            "INSERT INTO nodes (customer, kind, id, path, created_at_ms) VALUES (?, ?, ?, ?, ?)",
            [(customer, kind, name, "", 0) for kind, name in nodes[customer]],
        )
        some = [*nodes[customer], ("kind9", "nowhere")]
        sql = "SELECT kind, id FROM nodes WHERE customer = ? AND (kind, id) IN (VALUES {})"
        rows = await tx.fetch_in(sql, (customer,), some)
        sql = "SELECT kind, count(*) AS n FROM nodes WHERE customer = ? AND id IN ({}) GROUP BY kind"
        counted = await tx.fetch_in(sql, (customer,), [(name,) for _, name in some])
        ordered = await tx.fetch("SELECT kind FROM nodes WHERE customer = ? ORDER BY id DESC LIMIT ?", (customer, 2))
        kinds = [kind for kind, _ in nodes[customer]]
        assert sorted((row["kind"], row["n"]) for row in counted) == [(kind, 1) for kind in kinds]
        assert [row["kind"] for row in ordered] == kinds[::-1][:2]
        return sorted((row["kind"], row["id"]) for row in rows)

    assert await all_at_once(book, work) == list(nodes.values())
    assert ASKED["INSERT"] == 1
    assert ASKED["SELECT"] <= 6  # who writes nothing was ahead


async def test_what_is_nobodys_is_looked_up_once_for_all_who_ask_it_alike(book: PostgresBook) -> None:
    """Everybody gets the rows of what it asked, one or several values, also where they are none."""
    sql = "INSERT INTO meta (name, value) VALUES (?, ?)"
    await book.transact("c00", lambda tx: tx.execute_many(sql, [("a", "1"), ("b", "2")]))
    ASKED.clear()

    async def one(tx: Transaction, customer: str) -> list[str]:
        name = "a" if customer < "c12" else "b" if customer < "c19" else "none"
        return [row["value"] for row in await tx.fetch("SELECT value FROM meta WHERE name = ?", (name,))]

    async def same(tx: Transaction, customer: str) -> list[str]:
        return [row["value"] for row in await tx.fetch("SELECT value FROM meta WHERE name = ?", ("b",))]

    async def several(tx: Transaction, customer: str) -> list[str]:
        names = [("b",), ("none",), ("a",)] if customer < "c10" else [("a",)]
        return [row["value"] for row in await tx.fetch_in("SELECT value FROM meta WHERE name IN ({})", (), names)]

    assert await all_at_once(book, one) == [["1"]] * 12 + [["2"]] * 7 + [[]]
    assert await all_at_once(book, same) == [["2"]] * 20
    assert await all_at_once(book, several) == [["2", "1"]] * 10 + [["1"]] * 10
    assert ASKED == {"BEGIN": 3, "SELECT": 3, "COMMIT": 3}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_who_fails_fails_alone(book: PostgresBook, when: str) -> None:
    """Before or after having written: the others' works stand, each once, and its own do not."""

    async def work(tx: Transaction, customer: str) -> int:
        return await count_up(tx, customer, fail=when if customer == "c11" else "")

    outcomes = await all_at_once(book, work)
    assert isinstance(outcomes.pop(11), ValueError)
    assert outcomes == [0] * 19
    assert await revisions(book) == [int(one != "c11") for one in CUSTOMERS]


async def test_a_customer_that_others_hold_up_holds_up_nobody(book: PostgresBook, url: str) -> None:
    """One row is locked from elsewhere: while it is, the nineteen others' works are done; then its own."""
    elsewhere = await asyncpg.connect(url)
    await elsewhere.execute("BEGIN")
    await elsewhere.execute("SELECT * FROM customers WHERE customer = 'c03' FOR UPDATE")
    waiting = asyncio.create_task(book.transact("c03", partial(count_up, customer="c03")))
    assert await all_at_once(book, count_up, [one for one in CUSTOMERS if one != "c03"]) == [0] * 19
    assert not waiting.done()
    more = await all_at_once(book, count_up, [one for one in CUSTOMERS if one != "c03"])
    assert more == [1] * 19
    assert not waiting.done()
    await elsewhere.execute("COMMIT")
    assert await waiting == 0
    await elsewhere.close()
    assert await revisions(book) == [1 if one == "c03" else 2 for one in CUSTOMERS]


@pytest.mark.parametrize("isolation", ["read_committed", "serializable"])
async def test_ledgers_that_take_the_same_customers_lose_nothing(url: str, book: PostgresBook, isolation: str) -> None:
    """L9: two of them, every customer many times, in whatever order they were asked for."""
    other = await open_postgres(DatabaseOptions(url, isolation=isolation))  # type: ignore[arg-type]
    for _ in range(3):
        here, there = await asyncio.gather(
            all_at_once(book, count_up), all_at_once(other, count_up, [*reversed(CUSTOMERS)])
        )
        assert all(isinstance(one, int) for one in (*here, *there)), (here, there)
    assert await revisions(book) == [6] * 20
    await other.close()


async def test_a_work_may_wait_for_nothing_but_its_book(book: PostgresBook) -> None:
    """It would hold up all that go with it; it is told so, and they go on."""

    async def work(tx: Transaction, customer: str) -> int:
        if customer == "c05":
            await asyncio.sleep(0)
        return await count_up(tx, customer)

    outcomes = await all_at_once(book, work)
    assert isinstance(outcomes.pop(5), RuntimeError)
    assert outcomes == [0] * 19


async def test_who_goes_together_has_a_wall_of_its_own(book: PostgresBook) -> None:
    """S-31: what does not say whose rows it means, or names another, finds and changes one's own rows alone."""

    async def work(tx: Transaction, customer: str) -> list[int]:
        number = CUSTOMERS.index(customer)
        other = CUSTOMERS[number - 1]
        found = [
            await tx.fetch("SELECT customer FROM customers"),
            await tx.fetch("SELECT customer FROM customers WHERE head_sequence = ?", (0,)),
            await tx.fetch_in("SELECT customer FROM customers WHERE wallet IN ({})", (), [("none",)]),
        ]
        assert [[row["customer"] for row in rows] for rows in found] == [[customer]] * 3
        assert await tx.fetch("SELECT * FROM customers WHERE customer = ?", (other,)) == []
        assert len(await tx.fetch_of_everyone("SELECT customer FROM customers")) == 20
        assert len(await tx.fetch("SELECT customer FROM customers")) == 1
        await tx.execute("UPDATE customers SET revision = ? WHERE head_sequence = ?", (number, 0))
        await tx.execute("UPDATE customers SET revision = ? WHERE customer = ?", (99, other))
        return [row["revision"] for row in await tx.fetch("SELECT * FROM customers WHERE customer = ?", (customer,))]

    assert await all_at_once(book, work) == [[n] for n in range(20)]
    assert await revisions(book) == list(range(20))


async def test_who_goes_together_writes_no_row_of_another(book: PostgresBook) -> None:
    """S-31: the database refuses it, to whom it was and to nobody else."""

    async def work(tx: Transaction, customer: str) -> None:
        owner = "c04" if customer == "c03" else customer
        await tx.execute(
            "INSERT INTO nodes (customer, kind, id, path, created_at_ms) VALUES (?, ?, ?, ?, ?)",
            (owner, "team", f"of-{customer}", "", 0),
        )

    outcomes = await all_at_once(book, work)
    assert isinstance(outcomes.pop(3), asyncpg.InsufficientPrivilegeError)
    assert outcomes == [None] * 19
    rows = await book.read_everyone(lambda tx: tx.fetch("SELECT customer, id FROM nodes ORDER BY customer"))
    assert [(row["customer"], row["id"]) for row in rows] == [(one, f"of-{one}") for one in CUSTOMERS if one != "c03"]


async def test_whatever_is_in_a_text_comes_back(book: PostgresBook) -> None:
    """Marks of our own, nothing at all, quotes and letters of any kind; and numbers up to the last."""
    paths = ["", "a\x1fb", "\x1e", "'{},\"\\", "ünïcode 🐑", "\n", "NULL", "$1"]
    numbers = [0, 2**63 - 1, -(2**63), 7]

    async def work(tx: Transaction, customer: str) -> list[tuple[str, str, int]]:
        number = CUSTOMERS.index(customer)
        written = [(str(n), paths[(number + n) % len(paths)], numbers[(number + n) % 4]) for n in range(number % 3 + 1)]
        await tx.execute_many(
            "INSERT INTO nodes (customer, kind, id, path, created_at_ms) VALUES (?, ?, ?, ?, ?)",
            [(customer, "k", name, path, at_ms) for name, path, at_ms in written],
        )
        sql = "SELECT id, path, created_at_ms FROM nodes WHERE customer = ? AND path IN ({})"
        found = await tx.fetch_in(sql, (customer,), [(path,) for path in {path for _, path, _ in written}])
        assert sorted((row["id"], row["path"], row["created_at_ms"]) for row in found) == written
        return written

    assert all(isinstance(one, list) for one in await all_at_once(book, work))
