"""The shared book: its migrations, what shares a transaction, and a database that goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from sidecar.errors import ConfigurationError, LedgerUnavailable, WireFormatError
from sidecar.ports import Transaction
from sidecar.storage import migrate
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import MAX_GROUP, MAX_QUEUED, PostgresBook, open_postgres
from sidecar.storage.postgres_opening import prepare
from tests.support.engines import postgres_url
from tests.support.postgres import Server, binaries

PUT = "INSERT INTO meta (name, value) VALUES (?, 'x')"
NAMES = "SELECT name FROM meta WHERE name <> 'system' ORDER BY name"


@pytest.fixture
def url() -> str:
    """An empty database."""
    return postgres_url()


@pytest.fixture
async def book(url: str) -> AsyncIterator[PostgresBook]:
    """An empty book."""
    opened = await open_postgres(DatabaseOptions(url))
    yield opened
    await opened.close()


async def put(tx: Transaction, name: str, *, fail: bool = False) -> str:
    """Write a row and, if told so, fail after that."""
    await tx.execute(PUT, (name,))
    if fail:
        raise ValueError(name)
    return name


async def names(book: PostgresBook) -> list[str]:
    """What was written."""
    return [row["name"] for row in await book.read("acme", lambda tx: tx.fetch(NAMES))]


async def test_ledgers_that_start_together_migrate_once(url: str) -> None:
    """Of eight at once all come up, and the database remembers each migration once."""
    books = await asyncio.gather(*(open_postgres(DatabaseOptions(url)) for _ in range(8)))
    rows = await books[0].read("acme", lambda tx: tx.fetch("SELECT number, sha256 FROM migrations WHERE number > 0"))
    assert {row["number"]: row["sha256"] for row in rows} == {m.number: m.sha256 for m in migrate.shipped("postgres")}
    for one in books:
        await one.close()


def test_both_engines_have_the_same_migrations() -> None:
    """By number and name: what one book can, the other can."""
    both = [[(one.number, one.name) for one in migrate.shipped(engine)] for engine in ("sqlite", "postgres")]
    assert both[0] == both[1]
    assert len(both[0]) >= 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("INSERT INTO migrations (number, name, sha256) VALUES (9999, 'later', 'ab')", "newer version"),
        ("UPDATE migrations SET sha256 = 'ab' WHERE number = 1", "not the one"),
    ],
)
async def test_a_database_of_another_version_is_refused(url: str, change: str, said: str) -> None:
    """F-17: a newer one, and one made by other files; nothing in it is touched."""
    await (await open_postgres(DatabaseOptions(url))).close()
    connection = await asyncpg.connect(url)
    await connection.execute(change)
    before = await connection.fetch("SELECT * FROM migrations ORDER BY number")
    with pytest.raises(ConfigurationError, match=said):
        await open_postgres(DatabaseOptions(url))
    assert await connection.fetch("SELECT * FROM migrations ORDER BY number") == before
    await connection.close()


async def test_tables_that_a_newer_version_changes_stop_nobody(url: str, book: PostgresBook) -> None:
    """F-17: each connection knows the statements it has seen, and their columns: no transaction fails for it."""
    other = await asyncpg.connect(url)

    async def all_columns(tx: Transaction) -> bool:
        rows = await tx.fetch("SELECT * FROM meta WHERE name = 'system'")
        await tx.fetch("SELECT pg_sleep(0.005)")  # so that several connections are used
        return "of_the_next" in repr(rows[0])

    async def everywhere() -> set[bool]:
        reads = [book.read("acme", all_columns) for _ in range(40)]
        return set(await asyncio.gather(*reads, *(book.transact(f"c{n}", all_columns) for n in range(40))))

    assert await everywhere() == {False}
    await other.execute("ALTER TABLE meta ADD COLUMN of_the_next TEXT")
    assert await everywhere() == {True}
    await other.close()


async def test_a_column_that_is_gone_is_no_mistake_of_the_asker(url: str, book: PostgresBook) -> None:
    """F-17: facing tables that it does not know, a ledger says so and serves nothing, as if the database were away."""
    other = await asyncpg.connect(url)
    await other.execute("ALTER TABLE meta RENAME COLUMN value TO worth")
    with pytest.raises(LedgerUnavailable, match=r"another version's: UndefinedColumnError"):
        await book.transact("acme", partial(put, name="a"))
    assert book.fault
    with pytest.raises(LedgerUnavailable, match="another version's"):
        await book.read("acme", lambda tx: tx.fetch("SELECT value FROM meta"))
    await other.execute("ALTER TABLE meta RENAME COLUMN worth TO value")
    await other.close()
    assert await book.transact("acme", partial(put, name="b")) == "b"
    assert await names(book) == ["b"]
    assert not book.fault


async def test_a_migration_lets_calls_through_until_it_can_be_made(
    url: str, book: PostgresBook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F-17: whoever reads a table for long, as a backup does, keeps it from being changed, and keeps nobody else."""
    known = (*migrate.shipped("postgres"), migrate.Migration(9001, "next", "ALTER TABLE meta ADD COLUMN more TEXT"))
    monkeypatch.setattr(migrate, "shipped", lambda _: known)
    reader, other = await asyncpg.connect(url), await asyncpg.connect(url)
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("SELECT * FROM meta")
    migrating = asyncio.create_task(prepare(other))
    while caplog.text.count("migration_tried_again") < 2:
        await asyncio.sleep(0.01)
        await book.transact("acme", lambda tx: tx.fetch("SELECT * FROM meta"))
    assert not migrating.done()
    await reading.commit()
    await migrating
    assert len((await other.fetch("SELECT * FROM meta"))[0]) == 3
    await asyncio.gather(reader.close(), other.close())


@pytest.mark.parametrize("url", ["postgresql://spend:hunter22@127.0.0.1:1/book", "postgresql://spend:hunter22@[/book"])
async def test_a_database_that_is_not_there_is_said_without_its_password(url: str) -> None:
    """At the start it is a mistake of the configuration."""
    with pytest.raises(ConfigurationError) as raised:
        await open_postgres(DatabaseOptions(url))
    assert "hunter22" not in str(raised.value)
    assert "ledger.database.url" in str(raised.value)


async def test_a_database_that_may_lose_commits_is_said_to(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """L50a: the server of these tests syncs nothing; what is set right for our database is not complained of."""
    await (await open_postgres(DatabaseOptions(url))).close()
    (said,) = [one for one in caplog.records if one.message == "database_may_lose_what_it_answered"]
    assert said.__dict__["facts"] == {"off": "fsync synchronous_commit"}
    connection = await asyncpg.connect(url)
    await connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = on")
    await connection.close()
    caplog.clear()
    await (await open_postgres(DatabaseOptions(url))).close()
    (said,) = [one for one in caplog.records if one.message == "database_may_lose_what_it_answered"]
    assert said.__dict__["facts"] == {"off": "fsync"}


async def test_each_of_many_at_once_hears_its_own(book: PostgresBook) -> None:
    """Of several groups, one in three fails after it has written: only its own writes are gone."""
    works = [book.transact("acme", partial(put, name=f"n{n:03}", fail=n % 3 == 0)) for n in range(3 * MAX_GROUP)]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for number, came in enumerate(outcomes):
        if number % 3 == 0:
            assert isinstance(came, ValueError)
        else:
            assert came == f"n{number:03}"
    assert await names(book) == [f"n{n:03}" for n in range(3 * MAX_GROUP) if n % 3]


async def test_those_that_wait_share_a_transaction(book: PostgresBook, url: str) -> None:
    """F-14: of one customer, and of several; what is of nobody has its own, and so has each where it is said so."""

    async def transaction(tx: Transaction) -> int:
        await tx.execute("SELECT 1")
        found: int = (await tx.fetch("SELECT txid_current() AS n"))[0]["n"]
        return found

    same = await asyncio.gather(*(book.transact("acme", transaction) for _ in range(MAX_GROUP)))
    assert len(set(same)) == 1
    several = await asyncio.gather(*(book.transact(f"c{n % 9}", transaction) for n in range(MAX_GROUP)))
    assert len(set(several)) == 1
    assert len(set(await asyncio.gather(*(book.transact(f"_{n % 2}", transaction) for n in range(4))))) == 2
    lonely = await open_postgres(DatabaseOptions(url, customers_together=1))
    apart = await asyncio.gather(*(lonely.transact(f"c{n}", transaction) for n in range(5)))
    assert len(set(apart)) == 5
    await lonely.close()


async def test_who_has_gone_keeps_nobody_from_hearing(book: PostgresBook) -> None:
    """A cancelled asker's work is left out if it has not begun; the others are answered."""
    tasks = [asyncio.create_task(book.transact("acme", partial(put, name=f"n{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == ["n1", "n2"]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert "n0" not in await names(book)


async def test_a_value_that_no_column_takes_is_refused(book: PostgresBook) -> None:
    """A text with NUL, which SQLite takes: the asker is told, and those beside it are not disturbed."""
    works = [book.transact("acme", partial(put, name=name)) for name in ("a", "b\0c", "d")]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert isinstance(outcomes[1], WireFormatError)
    assert await names(book) == ["a", "d"]


async def test_what_is_read_is_one_snapshot_and_writes_nothing(book: PostgresBook) -> None:
    """Two looks in one work see the same, whatever comes in between."""

    async def twice(tx: Transaction) -> tuple[int, int]:
        before = len(await tx.fetch(NAMES))
        await book.transact("acme", partial(put, name="meanwhile"))
        return before, len(await tx.fetch(NAMES))

    assert await book.read("acme", twice) == (0, 0)
    assert await names(book) == ["meanwhile"]
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await book.read("acme", partial(put, name="never"))


@pytest.mark.parametrize("table", ["entries", "calls"])
@pytest.mark.parametrize("change", ["UPDATE {} SET sequence = 9", "DELETE FROM {}", "TRUNCATE {}"])
async def test_what_is_booked_is_not_changed(url: str, book: PostgresBook, table: str, change: str) -> None:
    """L7: the database itself refuses it, to the ledger, and to whom it would obey in anything else."""

    async def write(tx: Transaction) -> None:
        await tx.execute(
            "INSERT INTO entries (customer, sequence, kind, recorded_at_ms, occurred_at_ms, hash, body)"
            " VALUES ('acme', 1, 'x', 0, 0, '', '')"
        )
        await tx.execute(
            "INSERT INTO calls (request_id, customer, sequence, position, checksum) VALUES ('', 'acme', 1, 1, 1)"
        )

    await book.transact("acme", write)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):  # S-76
        await book.transact("acme", lambda tx: tx.execute(change.replace("{}", table)))
    superuser = await asyncpg.connect(url)
    with pytest.raises(asyncpg.RaiseError, match="never updated or deleted"):
        await superuser.execute(change.replace("{}", table))
    await superuser.close()


async def test_too_many_that_wait_are_told_so(book: PostgresBook) -> None:
    """F-09: the queue has a bound, over all customers."""
    works = [
        asyncio.create_task(book.transact(f"c{n % 50}", partial(put, name=f"n{n}"))) for n in range(MAX_QUEUED + 9)
    ]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, LedgerUnavailable)]
    assert len(refused) == 9
    assert len(await names(book)) == MAX_QUEUED


async def test_a_closed_book_takes_nothing(url: str) -> None:
    """What was queued is done first."""
    book = await open_postgres(DatabaseOptions(url))
    last = asyncio.create_task(book.transact("acme", partial(put, name="last")))
    await asyncio.sleep(0)
    await book.close()
    assert await last == "last"
    with pytest.raises(LedgerUnavailable):
        await book.transact("acme", partial(put, name="late"))
    with pytest.raises(LedgerUnavailable):
        await names(book)


async def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """F-07: while it is away askers hear so within seconds, and afterwards the same book goes on; nothing is twice."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    server = await asyncio.to_thread(Server, ("fsync=off",))
    book = await open_postgres(DatabaseOptions(server.new_database()))
    answered: set[str] = set()

    async def ask(customer: int) -> str:
        """Write one row after the other until there is no answer; gives the one that had none."""
        number = 0
        while True:
            number += 1
            try:
                answered.add(await book.transact(f"c{customer}", partial(put, name=f"c{customer}-{number}")))
            except LedgerUnavailable:
                return f"c{customer}-{number}"

    try:
        askers = [asyncio.create_task(ask(customer)) for customer in range(7)]
        while len(answered) < 50:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(30):
            unanswered = set(await asyncio.gather(*askers))
        assert book.fault
        await asyncio.to_thread(server.start)
        for name in unanswered:
            try:
                await book.transact(name.partition("-")[0], partial(put, name=name))
            except asyncpg.UniqueViolationError:  # its commit was not answered, and was made
                continue
        assert not book.fault
        assert set(await names(book)) == answered | unanswered
    finally:
        await book.close()
        await asyncio.to_thread(server.remove)
