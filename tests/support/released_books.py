"""Books as each version of the ledger wrote them: how they are put in place, and how today's is made.

`python -m tests.support.released_books` writes the book of the newest migration there is, which is done once, by the
commit that brings that migration, or by the last one before the next.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
from pathlib import Path
from typing import Final

import asyncpg

from sidecar.contract.messages import CustomerPart, LeaseReport, SyncRequest
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.ledger import administration as forms
from sidecar.storage import migrate
from tests.support.ledger import Desk, usd

RELEASED: Final = Path(__file__).resolve().parents[1] / "unit" / "ledger" / "books" / "released"


def released() -> list[int]:
    """The versions there are, by their newest migration."""
    return sorted(int(path.stem) for path in RELEASED.glob("*.sql"))


def rows_on_sqlite(path: Path, number: int) -> None:
    """A file with the tables and rows of a version."""
    book = sqlite3.connect(path, isolation_level=None)
    book.execute("PRAGMA synchronous = OFF")
    book.execute(migrate.TABLE)
    for migration in migrate.shipped("sqlite")[:number]:
        book.executescript(f"BEGIN;\n{migration.sql}\nCOMMIT;")
        facts = (migration.number, migration.name, migration.sha256)
        book.execute("INSERT INTO migrations (number, name, sha256) VALUES (?, ?, ?)", facts)
    book.executescript(f"BEGIN;\n{(RELEASED / f'{number:04}.sql').read_text('utf-8')}COMMIT;")
    book.close()


async def rows_on_postgres(url: str, number: int) -> None:
    """A database with the tables and rows of a version."""
    source = sqlite3.connect(":memory:")
    for migration in migrate.shipped("sqlite")[:number]:
        source.executescript(migration.sql)
    source.executescript((RELEASED / f"{number:04}.sql").read_text("utf-8"))
    connection = await asyncpg.connect(url)
    await connection.execute(migrate.TABLE)
    for migration in migrate.shipped("postgres")[:number]:
        await connection.execute(f"BEGIN; SET LOCAL spend.everyone = 'on'; {migration.sql}; COMMIT")
        facts = (migration.number, migration.name, migration.sha256)
        await connection.execute("INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)", *facts)
    tables = source.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    async with connection.transaction():
        await connection.execute("SET LOCAL spend.everyone = 'on'")
        for (table,) in sorted(tables, key=lambda row: row[0] != "customers"):  # which others refer to
            found = source.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in found.description]
            marks = ", ".join(f"${at + 1}" for at in range(len(columns)))
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            await connection.executemany(insert, found.fetchall())
    await connection.close()
    source.close()


async def make(folder: Path) -> None:
    """A book of today in a folder, with something of everything."""
    desk = Desk(folder)
    service = desk.service
    await service.add_customer("acme", "required", desk.act())
    await service.add_customer("beta", "none", desk.act())
    await service.add_nodes("acme/department:d/team:t", desk.act())
    for budget in (
        forms.NewBudget("acme", usd(1000), "month"),
        forms.NewBudget("acme/team:t", usd(400), "lifetime"),
        forms.NewBudget("acme", usd(300), "month", each="user"),
        forms.NewBudget("acme", usd(50), "day", hard=False),
        forms.NewBudget("beta", usd(500), "month"),
    ):
        await service.set_budget(budget, desk.act())
    ends_ms = desk.clock.wall_ms() + 90_000_000
    await service.add_grant(forms.NewGrant("acme", usd(200), expires_at_ms=ends_ms), desk.act())
    await service.add_grant(forms.NewGrant("acme", usd(600)), desk.act())
    await _call(desk)
    await service.add_key(forms.NewKey("acme/user:ada", "ab" * 32, "k"), desk.act())
    await service.freeze(forms.NodeAct("acme/user:eve", "looking"), desk.act())
    voided = await service.add_grant(forms.NewGrant("acme", usd(11)), desk.act())
    await service.void_grant(forms.GrantVoid("acme", voided.grant_id, "a mistake"), desk.act())
    await service.set_budget(forms.NewBudget("beta", usd(90), "window", each="session", window_s=18000), desk.act())
    grace = forms.NewBudget("beta", usd(450), "month", on_outage="grace", grace=usd(30))
    await service.set_budget(grace, desk.act())
    await service.set_rate_limit(forms.NewRateLimit("beta", "requests", 100), desk.act())
    await service.make_token(forms.NewToken("auditor", "finance", "cd" * 32, "acme"), desk.act())
    desk.close()


async def _call(desk: Desk) -> None:
    """Three calls of a sidecar whose leases stay out; one of another, which closes its own; a third one is silent."""
    ada, bo = Subject("acme", (Node("team", "t"),), user="ada"), Subject("beta", user="bo")
    leases = [lease.lease_id for lease in (await desk.borrow(ada, 60, demand=120)).leases]
    budgets = tuple(one for one in leases if "/budget:" in one)
    grant = next(one for one in leases if "/grant:" in one)
    for number, atoms in ((1, 10), (2, 7), (3, 5)):
        event = desk.event(f"req_{number:026}", ada, atoms, leases=budgets, paid=((grant, atoms),))
        desk.clock.advance(30)
        await desk.sync(event, reports=tuple(LeaseReport(one, number) for one in leases))
    lent = (await desk.borrow(bo, 40, sidecar="s2")).leases
    await desk.sync(desk.event(f"req_{4:026}", bo, 15, leases=tuple(one.lease_id for one in lent)), sidecar="s2")
    closes = tuple(LeaseReport(one.lease_id, one.granted_atoms - 15, closed=True) for one in lent)
    part = CustomerPart("beta", (), closes)
    await desk.ledger.sync(SyncRequest("s2", "s2-inc", desk.clock.wall_ms(), (part,)))
    await desk.borrow(Subject("beta", user="cy"), 20, sidecar="s3")
    await desk.sync(desk.event(f"req_{5:026}", Subject("acme"), None), sidecar="s3")


def main() -> None:
    """Write the book of the newest migration."""
    target = RELEASED / f"{migrate.shipped('sqlite')[-1].number:04}.sql"
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder)))
        book = sqlite3.connect(Path(folder) / "book.db")
        lines = [line for line in book.iterdump() if re.match(r'INSERT INTO "(?!migrations"|sqlite_)', line)]
        book.close()
    target.write_text("\n".join(lines) + "\n", "utf-8")
    print(target)


if __name__ == "__main__":
    main()
