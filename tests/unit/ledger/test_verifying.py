"""What `verify` finds in a book that somebody changed behind the ledger's back (L8, L9, L29)."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
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


@pytest.fixture
async def batch(desk: Desk) -> Desk:
    """The same book, and in its last entry four calls, `c0` to `c3`, of 10 to 13 atoms."""
    budget, grant = (lease.lease_id for lease in (await desk.borrow(ACME, 100)).leases)
    await desk.sync(
        *(desk.event(f"c{n}", ACME, 10 + n, leases=(budget,), paid=((grant, 10 + n),)) for n in range(4)),
    )
    assert await desk.problems() == ()
    return desk


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM calls WHERE request_id = 'c2'", "call c2: cannot be found by its id"),
        ("INSERT INTO calls VALUES ('c9', 'acme', {last}, 4, 0)", "call c9: entry {last} does not have it"),
        ("INSERT INTO calls VALUES ('c9', 'acme', {last}, 1, 0)", "call c9: entry {last} does not have it"),
        ("INSERT INTO calls VALUES ('c9', 'acme', 1, 0, 0)", "call c9: entry 1 does not have it"),
        ("UPDATE calls SET position = 3 WHERE request_id = 'c1'", "call c1: is call 1 of entry {last}; its id says 3"),
        ("UPDATE calls SET sequence = 1 WHERE request_id = 'c1'", "call c1: is call 1 of entry {last}"),
        ("UPDATE calls SET request_id = 'c8' WHERE request_id = 'c1'", "call c8: entry {last} does not have it"),
        ("UPDATE entries SET calls = NULL WHERE sequence = {last}", "entry {last}: its calls are missing"),
        ("UPDATE entries SET calls = x'00' WHERE sequence = {last}", "entry {last}: its calls cannot be read"),
    ],
)
async def test_an_id_that_does_not_lead_to_its_call_is_named(batch: Desk, tmp_path: Path, sql: str, found: str) -> None:
    """Removed, made up, moved within or between entries, renamed; and calls that are gone."""
    last = (await batch.service.verify("acme")).entries
    change(tmp_path, sql.format(last=last))
    problems = await batch.problems()
    assert any(problem.startswith(found.format(last=last)) for problem in problems), problems


def raise_a_charge(calls: list[Any]) -> None:
    """Of the second call, in the event itself."""
    event = msgspec.msgpack.decode(calls[1][2])
    event["charge_atoms"] += 1
    event["paid"][0][1] += 1
    calls[1][2] = msgspec.Raw(msgspec.msgpack.encode(event))


def rename_its_user(calls: list[Any]) -> None:
    """Of the second call: nothing about money changes."""
    event = msgspec.msgpack.decode(calls[1][2])
    event["admission"]["subject"]["user"] = "eve"
    calls[1][2] = msgspec.Raw(msgspec.msgpack.encode(event))


def swap(calls: list[Any]) -> None:
    """The first two."""
    calls[0], calls[1] = calls[1], calls[0]


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (raise_a_charge, ["call c1: was altered", "its calls say 1 more of grant:"]),
        (rename_its_user, ["call c1: was altered"]),
        (swap, ["call c0: is call 1", "call c1: is call 0"]),
        (lambda calls: calls.pop(1), ["call c1: entry {last} does not have it", "has 3 calls, not 4"]),
        (lambda calls: calls.append(calls[1]), ["call c1: stands twice", "has 5 calls, not 4"]),
    ],
)
@pytest.mark.parametrize("forge", [False, True])
async def test_a_call_that_was_changed_is_named(
    batch: Desk, tmp_path: Path, alter: Callable[[list[Any]], object], found: list[str], *, forge: bool
) -> None:
    """Altered, reordered, removed, repeated: the call is named, also where the entry's digest was made to fit."""
    last = (await batch.service.verify("acme")).entries
    connection = sqlite3.connect(tmp_path / "book.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    body, stored = connection.execute("SELECT body, calls FROM entries WHERE sequence = ?", (last,)).fetchone()
    whole = msgspec.msgpack.decode(zlib.decompress(stored), type=list[Any])
    calls = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=list[Any]) for one in whole[4]]
    for call in calls:
        call[2] = msgspec.Raw(msgspec.msgpack.encode(call[2]))
    alter(calls)
    altered = zlib.compress(msgspec.msgpack.encode([*whole[:4], calls]), 1)
    if forge:
        body = body.replace(hashlib.sha256(stored).hexdigest(), hashlib.sha256(altered).hexdigest())
    connection.execute("UPDATE entries SET body = ?, calls = ? WHERE sequence = ?", (body, altered, last))
    connection.commit()
    connection.close()
    problems = await batch.problems()
    wanted = [f"entry {last}: was altered" if forge else f"entry {last}: its calls were altered", *found]
    for one in wanted:
        assert any(one.format(last=last) in problem for problem in problems), (one, problems)


async def test_the_journal_itself_refuses_changes(desk: Desk, tmp_path: Path) -> None:
    """L7: whoever goes through the database's front door cannot change an entry, or where a call is booked."""
    connection = sqlite3.connect(tmp_path / "book.db")
    for sql in (
        *("UPDATE entries SET kind = 'x'", "DELETE FROM entries"),
        *("UPDATE calls SET position = 7", "DELETE FROM calls"),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(sql)
    connection.close()
    assert await desk.problems() == ()
