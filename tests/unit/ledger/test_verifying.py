"""What `verify` finds in a book that somebody changed behind the ledger's back (L8, L9)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget, NewGrant
from tests.support.ledger import Desk, usd

ACME = Subject("acme")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A book with a grant, a budget, a lease on each, and two booked calls; the last entry is of a call."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_grant(NewGrant("acme", usd(1000)), desk.act())
    await desk.service.set_budget(NewBudget("acme", usd(500), "day"), desk.act())
    budget, grant = (lease.lease_id for lease in (await desk.borrow(ACME, 100)).leases)
    for name in ("r1", "r2"):
        await desk.sync(desk.event(name, ACME, 30, leases=(budget,), paid=((grant, 30),)))
    assert await desk.problems() == ()
    yield desk
    desk.close()


def change(folder: Path, sql: str) -> None:
    """Do to the file what an owner of the disk can do: no trigger stands in the way."""
    connection = sqlite3.connect(folder / "book.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    changed = connection.execute(sql).rowcount
    connection.commit()
    connection.close()
    assert changed == 1


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE entries SET body = replace(body, '30', '29') WHERE sequence = {last}", "entry {last}: was altered"),
        ("UPDATE entries SET occurred_at_ms = occurred_at_ms - 1 WHERE sequence = 2", "entry 2: its columns"),
        ("DELETE FROM entries WHERE sequence = 3", "entry 3: missing"),
        ("DELETE FROM entries WHERE sequence = {last}", "the journal ends at"),
        ("UPDATE customers SET head_hash = '00' WHERE customer = 'acme'", "the journal ends at"),
        ("UPDATE accounts SET available = available + 1 WHERE account LIKE 'grant:%'", "account grant:"),
        ("UPDATE leases SET returned = returned + 1 WHERE account LIKE 'budget:%'", "its leases keep"),
    ],
)
async def test_a_change_is_found_and_named(desk: Desk, tmp_path: Path, sql: str, found: str) -> None:
    """An entry edited, re-stamped, removed or cut off the end; a stored balance; a lease."""
    last = (await desk.service.verify("acme")).entries
    change(tmp_path, sql.format(last=last))
    problems = await desk.problems()
    assert any(found.format(last=last) in problem for problem in problems), problems


async def test_the_journal_itself_refuses_changes(desk: Desk, tmp_path: Path) -> None:
    """L7: whoever goes through the database's front door cannot update or delete an entry."""
    connection = sqlite3.connect(tmp_path / "book.db")
    for sql in ("UPDATE entries SET kind = 'x'", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(sql)
    connection.close()
    assert await desk.problems() == ()
