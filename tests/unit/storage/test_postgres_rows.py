"""The second wall between customers: the database keeps what a query forgot to keep (S-31)."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from functools import partial
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from sidecar.errors import Conflict, LedgerUnavailable, WireFormatError
from sidecar.ledger.administration import NewBudget, NewGrant, NewKey, NewToken, NodeAct
from sidecar.ports import Transaction
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import PostgresBook, open_postgres
from sidecar.storage.postgres_rows import beginning
from tests.support.engines import postgres_url
from tests.support.ledger import Desk

TABLES: Final = (
    "SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS is_walled FROM pg_class AS c"
    " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'customer' AND NOT a.attisdropped"
    " WHERE c.relkind = 'r' ORDER BY c.relname"
)
POLICIES: Final = "SELECT tablename AS name, qual AS policy FROM pg_policies"
SPOILED: Final = re.compile(r"\b((?:\w+\.)?customer) = (\$\d+|given\.v\d+)")
"""The WHERE that keeps customers apart, as the code says it."""


class Forgetful(asyncpg.Connection):  # type: ignore[misc]  # untyped
    """A connection whose queries for one customer's rows ask for everybody's."""

    __slots__ = ("__dict__",)
    spoils = False

    async def fetch(self, sql: str, *args: Any, **more: Any) -> Any:
        if self.spoils and sql.startswith("SELECT"):
            sql = SPOILED.sub(r"(\2::text IS NOT NULL)", sql)
        return await super().fetch(sql, *args, **more)


@pytest.fixture(params=["superuser", "owner"])
async def book(request: pytest.FixtureRequest) -> AsyncIterator[PostgresBook]:
    """An empty book, for a role that no policy binds by itself and for the owner of the tables."""
    url = postgres_url()
    if request.param == "owner":
        url = await owned(url)
    opened = await open_postgres(DatabaseOptions(url), connection_class=Forgetful)
    yield opened
    Forgetful.spoils = False
    await opened.close()


async def owned(url: str) -> str:
    """The same database, as a plain role sees it to whom it belongs."""
    where = urlsplit(url)
    database = where.path[1:]
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE ROLE owner_{database} LOGIN; ALTER DATABASE {database} OWNER TO owner_{database}")
    await connection.close()
    return url.replace("//spend@", f"//owner_{database}@")


async def two_customers(book: PostgresBook) -> Desk:
    """Two of the same shape, every name of theirs with their own in it."""
    desk = Desk(book)
    for customer in ("acme", "beta"):
        await desk.service.add_customer(customer, "required", desk.act())
        path = f"{customer}/team:{customer}-team"
        await desk.service.add_nodes(path, desk.act())
        await desk.service.add_grant(NewGrant(customer, "5"), desk.act())
        await desk.service.set_budget(NewBudget(path, "3", "day"), desk.act())
        await desk.service.add_key(NewKey(path, digest(customer), name=f"{customer}-key"), desk.act())
        token = NewToken(f"{customer}-token", "org_owner", digest(f"token {customer}"), customer)
        await desk.service.make_token(token, desk.act())
        await desk.service.freeze(NodeAct(f"{customer}/user:{customer}-user", "left"), desk.act())
    return desk


def digest(text: str) -> str:
    """SHA-256."""
    return sha256(text.encode()).hexdigest()


async def look(desk: Desk, customer: str) -> str:
    """All that can be asked for one customer, as text."""
    service = desk.service
    found = (
        await service.customer(customer),
        await service.nodes(customer),
        await service.frozen(customer),
        await service.grants(customer),
        await service.budgets(customer),
        await service.balance(customer),
        await service.keys(customer, after=0, limit=99),
        await service.tokens(customer, after="", limit=99),
        await service.entries(customer, after=0, kind="", limit=99),
        await service.audit(customer=customer, actor="", since_ms=0, until_ms=1 << 60, after="", limit=99),
        await service.silent_leases(customer),
        await service.verify(customer),
    )
    return msgspec.json.encode(found).decode()


async def everything(tx: Transaction, table: str) -> list[str]:
    """Whose rows a query without any WHERE finds."""
    return [row["customer"] for row in await tx.fetch(f"SELECT customer FROM {table}")]


async def test_every_table_that_has_a_customer_is_walled(book: PostgresBook) -> None:
    """Whatever table a later migration makes; and no connection of the book is above it."""
    rows = await book.read("acme", lambda tx: tx.fetch(TABLES))
    assert {"entries", "calls", "customers", "accounts", "virtual_keys", "acts"} <= {row["name"] for row in rows}
    assert [row["name"] for row in rows if not row["is_walled"]] == []
    policies = await book.read("acme", lambda tx: tx.fetch(POLICIES))
    assert {row["name"] for row in policies} == {row["name"] for row in rows}
    lonely = [row["name"] for row in policies if "'spend.customers'" not in row["policy"]]
    assert lonely == [], "nothing of it is seen where customers share a transaction (as in migration 0014)"
    bound = "SELECT rolsuper OR rolbypassrls AS above FROM pg_roles WHERE rolname = current_user"
    assert [row["above"] for row in await book.read("acme", lambda tx: tx.fetch(bound))] == [False]

    async def write(tx: Transaction) -> list[bool]:
        return [row["above"] for row in await tx.fetch(bound)]

    assert await book.transact("acme", write) == [False]


async def test_a_forgotten_where_finds_nothing_of_others(book: PostgresBook) -> None:
    """Two customers on pooled connections, in random order; only who says so sees all."""
    await two_customers(book)
    rows = await book.read("acme", lambda tx: tx.fetch(TABLES))
    tables = [row["name"] for row in rows]
    order = random.Random(31)
    seen: set[str] = set()
    for _ in range(60):
        customer, table = order.choice(["acme", "beta", "gamma", ""]), order.choice(tables)
        asked = order.choice([book.read, book.transact])
        found = set(await asked(customer, partial(everything, table=table)))
        assert found <= {customer}
        seen |= found
    assert seen == {"acme", "beta"}
    assert set(await book.read_everyone(partial(everything, table="nodes"))) == {"acme", "beta"}
    assert set(await book.read("", partial(everything, table="nodes"))) == set()


async def test_nothing_of_others_is_written(book: PostgresBook) -> None:
    """An UPDATE and a DELETE without WHERE reach one's own rows; an INSERT for another is refused; nor by a CTE."""
    await two_customers(book)

    async def spoil(tx: Transaction) -> None:
        await tx.execute("UPDATE budgets SET limit_atoms = 1")
        await tx.execute("UPDATE customers SET head_hash = 'x' WHERE customer <> 'acme'")
        await tx.execute("DELETE FROM virtual_keys")

    await book.transact("acme", spoil)

    async def left(tx: Transaction) -> list[tuple[str, int, int]]:
        rows = await tx.fetch(
            "SELECT b.customer, b.limit_atoms, count(k.key_id) AS keys FROM budgets AS b"
            " LEFT JOIN virtual_keys AS k ON k.customer = b.customer GROUP BY 1, 2 ORDER BY 1"
        )
        return [(row["customer"], row["limit_atoms"], row["keys"]) for row in rows]

    assert await book.read_everyone(left) == [("acme", 1, 0), ("beta", 3_000_000_000, 1)]
    theirs = "INSERT INTO nodes (customer, kind, id, path, created_at_ms) VALUES ('beta', 'team', 'x', 'team:x', 0)"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await book.transact("acme", lambda tx: tx.execute(theirs))
    moved = "UPDATE nodes SET customer = 'beta'"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await book.transact("acme", lambda tx: tx.execute(moved))


async def test_the_answers_are_the_same_where_the_code_forgets_whose_rows_it_wants(book: PostgresBook) -> None:
    """Every query of a customer's is asked without its customer; what the service answers does not change."""
    desk = await two_customers(book)
    before = {customer: await look(desk, customer) for customer in ("acme", "beta")}
    Forgetful.spoils = True
    for customer in ("acme", "beta"):
        assert await look(desk, customer) == before[customer]
    Forgetful.spoils = False
    assert "beta" not in before["acme"]


async def test_without_the_wall_forgetting_would_show(book: PostgresBook) -> None:
    """That the test above can fail: seen over all customers, the same spoiled query finds what is another's."""
    await two_customers(book)
    one = "SELECT customer FROM nodes WHERE customer = ?"
    Forgetful.spoils = True
    rows = await book.read_everyone(lambda tx: tx.fetch(one, ("acme",)))
    assert {row["customer"] for row in rows} == {"acme", "beta"}


async def test_what_must_be_known_over_all_is_asked_for_by_name(book: PostgresBook) -> None:
    """A token whose digest another customer has is refused; what the transaction does next is its customer's again."""
    desk = await two_customers(book)
    with pytest.raises(Conflict, match="SHA-256"):
        await desk.service.make_token(NewToken("mine", "auditor", digest("token beta"), "acme"), desk.act())

    async def look_around(tx: Transaction) -> tuple[int, int]:
        among = await tx.fetch_of_everyone("SELECT customer FROM nodes")
        return len(among), len(await tx.fetch("SELECT customer FROM nodes"))

    assert await book.transact("acme", look_around) == (2, 1)
    assert await book.read("acme", look_around) == (2, 1)


@pytest.mark.parametrize("name", ["acme'; DELETE FROM meta; --", "a\\b", "'", "''", "ünïcode 🐑", "$1", "?", "%s", "*"])
async def test_a_name_is_only_a_name(name: str) -> None:
    """Whatever stands in it, it is set as it is."""
    book = await open_postgres(DatabaseOptions(postgres_url()))
    setting = "SELECT current_setting('spend.customer') AS customer, (SELECT count(*) FROM meta) AS n"
    rows = await book.read(name, lambda tx: tx.fetch(setting))
    assert [(row["customer"], row["n"]) for row in rows] == [(name, 1)]
    await book.close()


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_customer_has_is_refused(name: str) -> None:
    """With NUL, or no Unicode."""
    with pytest.raises(WireFormatError):
        beginning("BEGIN", name)


async def test_a_connection_keeps_nothing_of_the_last(book: PostgresBook) -> None:
    """After a transaction, also one that failed, its connection stands for nobody."""
    await two_customers(book)

    async def fail(tx: Transaction) -> None:
        await tx.execute("SELECT no_such_column")

    for _ in range(3):
        await book.read("acme", partial(everything, table="nodes"))
        with pytest.raises(LedgerUnavailable):
            await book.transact("acme", fail)
    connection = await book._writers.take()
    assert await connection.fetch("SELECT * FROM nodes") == []
    assert await connection.fetchval("SELECT current_setting('spend.customer', true)") in (None, "")
    await book._writers.give(connection, sound=True)


async def test_of_a_role_above_all_policies_the_log_tells(caplog: pytest.LogCaptureFixture) -> None:
    """BYPASSRLS without being a superuser: it cannot lay that down by itself."""
    url = await owned(postgres_url())
    connection = await asyncpg.connect(re.sub("//[^@]*@", "//spend@", url))
    await connection.execute(f"ALTER ROLE {urlsplit(url).username} BYPASSRLS")
    await connection.close()
    await (await open_postgres(DatabaseOptions(url))).close()
    assert [one.message for one in caplog.records if "row_level" in one.message] == ["row_level_security_is_bypassed"]
