"""A book of every schema that there was is brought to today's, and goes on (F-17).

`books/released/NNNN.sql` has the rows of a book as the code wrote them whose newest migration was NNNN:
`tests.support.released_books` made each with the code of its time, and makes that of today. Customers `acme` (a
wallet, grants, leases that are out, calls that are booked, one without a price) and `beta` (no wallet, a lease that was
closed, one whose holder is silent), and from the version on that had them a key, a frozen user, a voided grant, a
window, grace, a token and a rate limit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from sidecar.contract.messages import LeaseReport
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.storage import migrate, postgres_opening
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from sidecar.storage.sqlite import open_book
from tests.scenarios.world import scratch
from tests.support.engines import POSTGRES, SQLITE, postgres_url
from tests.support.ledger import Desk
from tests.support.released_books import RELEASED, released, rows_on_postgres, rows_on_sqlite

ADA: Final = Subject("acme", (Node("team", "t"),), user="ada")
ENGINES: Final = (SQLITE, POSTGRES)

each_engine = pytest.mark.parametrize("engine", ENGINES)
each_version = pytest.mark.parametrize("number", released())


@asynccontextmanager
async def brought_up(engine: str, number: int, folder: Path) -> AsyncIterator[Desk]:
    """A ledger of today on a book of a version, an hour and a half later."""
    if engine == SQLITE:
        rows_on_sqlite(folder / "book.db", number)
        desk = Desk(folder)
    else:
        url = postgres_url()
        await rows_on_postgres(url, number)
        desk = Desk(await open_postgres(DatabaseOptions(url)))
    desk.clock.advance(5400)
    try:
        yield desk
    finally:
        desk.close()
        if engine == POSTGRES:
            await desk.book.close()  # type: ignore[attr-defined]


def test_every_version_has_its_book() -> None:
    """F-17: none between the first and the newest of them is left out."""
    assert released() == list(range(1, released()[-1] + 1))


@each_engine
@each_version
async def test_it_is_brought_up_verified_lent_from_and_charged(engine: str, number: int, tmp_path: Path) -> None:
    """F-17, L9, L29, L39, L42: nothing changes but its shape; what was out comes home, and old calls count once."""
    before = figures(number)
    async with brought_up(engine, number, tmp_path) as desk:
        assert await accounts_of(desk) == before
        assert [await desk.problems(customer) for customer in ("acme", "beta")] == [(), ()]
        rows, _ = await desk.service.usage(customer="", since_ms=0, after="", limit=99)
        assert len(rows) == 5

        reply = await desk.borrow(ADA, 20, demand=20)
        leases = {lease.lease_id: lease for lease in reply.leases}
        assert leases
        budgets = tuple(name for name in leases if "/budget:" in name)
        (grant,) = (name for name in leases if "/grant:" in name)
        old = desk.event(f"req_{1:026}", ADA, 10, leases=budgets, paid=((grant, 10),), admitted_at_ms=1795521600000)
        new = desk.event("today", ADA, 20, leases=budgets, paid=((grant, 20),))
        (answer,) = (await desk.sync(old, new)).parts
        assert (answer.booked, answer.error) == (True, "")
        spent = {name: {**before, **await accounts_of(desk)}[name.partition("/")[2]][2] for name in leases}
        closes = tuple(LeaseReport(name, leases[name].granted_atoms - spent[name], closed=True) for name in leases)
        (answer,) = (await desk.sync(reports=closes)).parts
        assert answer.error == ""

        after = await accounts_of(desk)
        for name in leases:
            account = name.partition("/")[2]
            assert after[account][2] == before.get(account, (0, 0, 0))[2] + 20
            assert after[account][1] == 0
        assert [await desk.problems(customer) for customer in ("acme", "beta")] == [(), ()]


@pytest.mark.parametrize("number", [1, 12])
def test_a_migration_that_is_killed_anywhere_is_made_whole_by_the_next_start(number: int) -> None:
    """F-17: killed before each of its statements in turn, the next start brings the file to the same end."""
    with scratch() as name:
        folder = Path(name)
        rows_on_sqlite(folder / "before.db", number)
        shutil.copy(folder / "before.db", folder / "whole.db")
        open_book(folder / "whole.db").close()
        whole = shape(folder / "whole.db")
        program = f"from {__name__} import *; kill_each({name!r})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True)
        assert int(done.stdout) > len(migrate.shipped("sqlite")[number:])
        for path in sorted(folder.glob("killed-*.db")):
            open_book(path).close()
            assert shape(path) == whole, path.name


def kill_each(folder: str) -> None:
    """In a process of its own: children migrate copies of a book, each killed a statement later; prints how many."""
    step = 0
    while True:
        path = Path(folder) / f"killed-{step:04}.db"
        shutil.copy(Path(folder) / "before.db", path)
        child = os.fork()
        if not child:
            _migrate_until(path, step)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            print(step)
            return
        step += 1


def _migrate_until(path: Path, steps: int) -> None:
    connect, left = sqlite3.connect, steps

    def counting(*args: Any, **more: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **more)
        connection.set_trace_callback(lambda _sql: count())
        return connection

    def count() -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sqlite3.connect = counting  # type: ignore[assignment]
    open_book(path).close()
    os._exit(0)


@pytest.mark.parametrize("number", [1, 11, 17])
async def test_one_that_is_cut_off_leaves_postgresql_as_it_was(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-17: its connection is cut before each migration in turn: nothing of it stands, and the next try is whole."""
    url = postgres_url()
    await rows_on_postgres(url, number)
    lacking = migrate.shipped("postgres")[number:]
    pending = migrate.pending
    for stop in range(1, len(lacking) + 1):
        connection = await asyncpg.connect(url)

        def cut(*args: Any, stop: int = stop, doomed: asyncpg.Connection = connection, **more: Any) -> Any:
            def some() -> Any:
                for at, migration in enumerate(pending(*args, **more)):
                    if at == stop:
                        doomed.terminate()
                    yield migration
                doomed.terminate()

            return some()

        monkeypatch.setattr(migrate, "pending", cut)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await postgres_opening.prepare(connection)
        monkeypatch.undo()
        look = await asyncpg.connect(url)
        assert await look.fetchval("SELECT max(number) FROM migrations") == number
        await look.close()
    book = await open_postgres(DatabaseOptions(url))
    desk = Desk(book)
    assert [await desk.problems(customer) for customer in ("acme", "beta")] == [(), ()]
    await book.close()


def figures(number: int) -> dict[str, tuple[int, int, int]]:
    """By account what its version's book says: available, leased, consumed."""
    with sqlite3.connect(":memory:") as book:
        for migration in migrate.shipped("sqlite")[:number]:
            book.executescript(migration.sql)
        book.executescript((RELEASED / f"{number:04}.sql").read_text("utf-8"))
    found = {name: (a, b, c) for name, a, b, c in book.execute(FIGURES)}
    book.close()
    return found


FIGURES: Final = "SELECT account, available, leased, consumed FROM accounts"


async def accounts_of(desk: Desk) -> dict[str, tuple[int, int, int]]:
    """The same of a book of today."""
    rows = await desk.book.read_everyone(lambda tx: tx.fetch_of_everyone(FIGURES))
    return {row["account"]: (row["available"], row["leased"], row["consumed"]) for row in rows}


def shape(path: Path) -> str:
    """A digest of all tables and rows of a file."""
    with sqlite3.connect(path) as book:
        digest = hashlib.sha256("\n".join(book.iterdump()).encode()).hexdigest()
    book.close()
    return digest
