"""A book in PostgreSQL as a file, and back: whole, of one instant, all or nothing (L50a)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
import msgspec
import pytest

from sidecar.app.backups import Restored, Restoring, digest_file, restore
from sidecar.app.proving import Witnesses, prove
from sidecar.app.shared_backups import restore_shared, take_shared_backup
from sidecar.contract.messages import RegisterRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import ConfigurationError
from sidecar.ledger.administration import NewBudget, NewGrant, NewKey, NewToken
from sidecar.ledger.after_restore import EndedKeys
from sidecar.ledger.views import VerifyView
from sidecar.storage import postgres_snapshot
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from sidecar.storage.postgres_snapshot import opened_database
from sidecar.storage.sqlite import open_book
from sidecar.storage.sqlite_files import opened_to_look
from tests.support import tampering
from tests.support.clock import FakeClock, SequentialIds
from tests.support.engines import postgres_url
from tests.support.ledger import Desk, usd

T = TypeVar("T")
EVERYTHING: Final = ("customers", "nodes", "grants", "budgets", "accounts", "leases", "children", "entries", "calls")


class Shared(Desk):
    """A ledger on a database, with all that a backup must bring back."""

    url = ""

    async def fill(self) -> None:
        """A customer with a grant, a budget, a key, a token, a lease and settled calls; and another one."""
        await self.service.add_customer("acme", "required", self.act())
        await self.service.add_customer("globex", "none", self.act())
        await self.service.add_nodes("acme/team:data", self.act())
        await self.service.add_grant(NewGrant("acme", usd(1000)), self.act())
        await self.service.set_budget(NewBudget("acme/team:data", "3", "day"), self.act())
        await self.service.add_key(NewKey("acme/team:data", digest("key"), name="a-key"), self.act())
        await self.service.make_token(NewToken("ci", "auditor", digest("token"), "acme"), self.act())
        await self.service.make_token(NewToken("all", "auditor", digest("all")), self.act())
        await self.service.set_sidecar_token("s1", digest("sidecar"), self.act())
        (lease,) = (lease.lease_id for lease in (await self.borrow(Subject("acme"), 100)).leases)
        await self.sync(*(self.event(f"r{n}", Subject("acme"), 10, paid=((lease, 10),)) for n in range(3)))


@pytest.fixture
async def desk() -> AsyncIterator[Shared]:
    """A ledger that runs."""
    url = postgres_url()
    book = await open_postgres(DatabaseOptions(url))
    desk = Shared(book)
    desk.url = url
    await desk.fill()
    yield desk
    await book.close()


def digest(text: str) -> str:
    """SHA-256."""
    return sha256(text.encode()).hexdigest()


async def as_a_command(work: Callable[[], T]) -> T:
    """In a thread without a loop, while ours goes on."""
    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


def how(*, keep_keys: bool = True) -> Restoring:
    """An hour later."""
    clock, ids = FakeClock(), SequentialIds()
    clock.advance(3600)
    for _ in range(5):
        ids.new("history")
    return Restoring(clock, ids, "the disk died", keep_keys)


async def rows_of(url: str) -> dict[str, list[dict[str, object]]]:
    """All rows of the tables that hold what a customer has."""
    connection = await asyncpg.connect(url)
    found = {
        table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table} WHERE customer <> '_system'")]
        for table in EVERYTHING
    }
    await connection.close()
    return {table: sorted(rows, key=str) for table, rows in found.items()}


async def test_a_backup_of_a_database_is_a_book(desk: Shared, tmp_path: Path) -> None:
    """As sound as the one it is of, with its digest; and it is of one instant, while the ledger writes on."""
    target = tmp_path / "copy.sqlite"
    told: list[tuple[int, int]] = []
    writing = asyncio.create_task(_write(desk))
    sha, customers, _ = await as_a_command(
        lambda: take_shared_backup(desk.url, target, lambda done, whole: told.append((done, whole)))
    )
    writing.cancel()
    assert digest_file(target).read_text() == f"{sha}  copy.sqlite\n"
    assert sha == sha256(target.read_bytes()).hexdigest()
    assert (customers, told[-1][0], target.stat().st_mode & 0o777) == (2, told[-1][1], 0o600)
    assert {path.name for path in tmp_path.iterdir()} == {"copy.sqlite", "copy.sqlite.sha256"}
    with opened_to_look(target) as opened:
        views = {view.customer: view for view in prove(opened, Witnesses(), None)}
    assert [view.problems for view in views.values()] == [(), (), ()]
    assert views["acme"].entries >= 8


async def _write(desk: Shared) -> None:
    number = 0
    while True:
        number += 1
        await desk.service.add_nodes(f"globex/team:t{number}", desk.act())


async def test_a_backup_comes_back_into_an_empty_database(desk: Shared, tmp_path: Path) -> None:
    """Every row; under another history, with an entry that says who and why; and a ledger goes on with it."""
    history = (await desk.service.register(RegisterRequest("s1", "s1-inc"))).history_id
    target, url = tmp_path / "copy.sqlite", postgres_url()
    await as_a_command(lambda: take_shared_backup(desk.url, target))
    done = await as_a_command(lambda: restore_shared(target, url, tmp_path / "scratch", how()))
    assert await rows_of(url) == await rows_of(desk.url)
    assert (done.customers, done.ended) == (2, EndedKeys())
    assert list((tmp_path / "scratch").iterdir()) == []
    book = await open_postgres(DatabaseOptions(url))
    again = Desk(book)
    again.clock.advance(3600)
    again._acts = 100
    assert (await again.service.register(RegisterRequest("s1", "s1-inc"))).history_id == done.history_id != history
    (entry,), _ = await again.service.entries("_system", after=0, kind="book_restored", limit=9)
    assert (entry.facts["reason"], entry.facts["ended"]) == ("the disk died", [history])
    await again.service.add_nodes("acme/team:more", again.act())
    assert [await again.problems(name) for name in ("acme", "globex", "_system")] == [(), (), ()]
    await book.close()


async def test_either_engine_takes_the_others_backup(desk: Shared, tmp_path: Path) -> None:
    """A database's becomes an embedded book, and that one's a database's: the same book, entry for entry."""
    target, url = tmp_path / "copy.sqlite", postgres_url()
    await as_a_command(lambda: take_shared_backup(desk.url, target))
    restore(target, tmp_path / "data", how(), force=False)
    embedded = open_book(tmp_path / "data" / "book.sqlite")
    there = Desk(embedded)
    assert (await there.service.verify("acme")).head == (await desk.service.verify("acme")).head
    embedded.close()
    await as_a_command(lambda: restore_shared(tmp_path / "data" / "book.sqlite", url, tmp_path, how()))
    assert await rows_of(url) == await rows_of(desk.url)


async def test_a_book_that_stands_there_stays(desk: Shared, tmp_path: Path) -> None:
    """Nothing is put over a customer, nor where somebody has acted; a ledger that only started is no book."""
    target = tmp_path / "copy.sqlite"
    await as_a_command(lambda: take_shared_backup(desk.url, target))
    before = await rows_of(desk.url)
    with pytest.raises(ConfigurationError, match="a book stands there, with customer acme"):
        await as_a_command(lambda: restore_shared(target, desk.url, tmp_path, how()))
    assert await rows_of(desk.url) == before

    acted, started = postgres_url(), postgres_url()
    for url in (acted, started):
        book = await open_postgres(DatabaseOptions(url))
        other = Desk(book)
        await other.service.register(RegisterRequest("s2", "s2-inc"))
        if url == acted:
            await other.service.set_sidecar_token("s2", digest("x"), other.act())
        await book.close()
    with pytest.raises(ConfigurationError, match="somebody has done something"):
        await as_a_command(lambda: restore_shared(target, acted, tmp_path, how()))
    done: Restored = await as_a_command(lambda: restore_shared(target, started, tmp_path, how()))
    assert done.customers == 2


async def test_what_is_not_sound_is_neither_kept_nor_put_back(desk: Shared, tmp_path: Path) -> None:
    """Of a database that was tampered with there is no backup; of a backup that was, no book."""
    target, url = tmp_path / "copy.sqlite", postgres_url()
    await as_a_command(lambda: take_shared_backup(desk.url, target))
    tampering.rewrite(desk.url, "acme", lambda entries: entries[:3])
    with pytest.raises(ConfigurationError, match="is not sound"):
        await as_a_command(lambda: take_shared_backup(desk.url, tmp_path / "other.sqlite"))
    tampering.rewrite(target, "acme", lambda entries: entries[:3])
    digest_file(target).unlink()
    with pytest.raises(ConfigurationError, match="is not sound"):
        await as_a_command(lambda: restore_shared(target, url, tmp_path, how()))
    assert {path.name for path in tmp_path.iterdir()} == {"copy.sqlite"}


async def test_a_restore_that_is_cut_short_leaves_nothing(
    desk: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost in its middle: the database is as empty as before, and the next try succeeds."""
    target, url = tmp_path / "copy.sqlite", postgres_url()
    await as_a_command(lambda: take_shared_backup(desk.url, target))
    really, seen = postgres_snapshot.Empty.put, []

    def lost(self: postgres_snapshot.Empty, table: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
        really(self, table, columns, rows)
        seen.append(table)
        if table == "entries":
            self._connection.terminate()

    with monkeypatch.context() as patched:
        patched.setattr(postgres_snapshot.Empty, "put", lost)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            await as_a_command(lambda: restore_shared(target, url, tmp_path, how()))
    assert "entries" in seen
    assert set(map(len, (await rows_of(url)).values())) == {0}
    assert (await as_a_command(lambda: restore_shared(target, url, tmp_path, how()))).customers == 2


async def test_keys_end_with_a_restore_unless_they_are_kept(desk: Shared, tmp_path: Path) -> None:
    """S-13: nobody knows what was revoked since; the book says of each that it ended, and verifies."""
    target, url = tmp_path / "copy.sqlite", postgres_url()
    await as_a_command(lambda: take_shared_backup(desk.url, target))
    done = await as_a_command(lambda: restore_shared(target, url, tmp_path, how(keep_keys=False)))
    assert done.ended == EndedKeys(1, 2, 1)
    book = await open_postgres(DatabaseOptions(url))
    again = Desk(book)
    assert await again.service.find_token(bytes.fromhex(digest("token"))) is None
    assert await again.service.token_digests() == {}
    ((key,), _) = await again.service.keys("acme", after=0, limit=9)
    assert key.revoked_by.startswith("operator:")
    assert [await again.problems(name) for name in ("acme", "_system")] == [(), ()]
    await book.close()


async def test_an_older_or_no_book_is_told(tmp_path: Path) -> None:
    """An empty database, one of an older version, none at all."""
    url = postgres_url()

    def look(url: str) -> list[VerifyView]:
        with opened_database(url) as opened:
            return list(prove(opened, Witnesses(), None))

    with pytest.raises(ConfigurationError, match="no book in this database"):
        await as_a_command(lambda: look(url))
    await (await open_postgres(DatabaseOptions(url))).close()
    assert await as_a_command(lambda: look(url)) == []
    connection = await asyncpg.connect(url)
    await connection.execute("DELETE FROM migrations WHERE number = (SELECT max(number) FROM migrations)")
    await connection.close()
    with pytest.raises(ConfigurationError, match="older version"):
        await as_a_command(lambda: look(url))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await as_a_command(lambda: look("postgresql://spend@127.0.0.1:1/none"))


def test_a_restored_says_what_it_did() -> None:
    """As JSON: every number of what ended."""
    assert msgspec.structs.asdict(EndedKeys(1, 2, 3)) == {"keys": 1, "tokens": 2, "sidecar_tokens": 3}
