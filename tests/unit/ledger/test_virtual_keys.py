"""Virtual keys in the book: what is kept of them, for whom they stand, and that a revoked one stays so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.contract.messages import Change, ResolveKeyReply, ResolveKeyRequest
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.core.governance.virtual_keys import key_digest, write_key
from sidecar.errors import Conflict, IdempotencyConflict, NotFound, Rejected
from sidecar.ledger import virtual_keys
from sidecar.ledger.administration import Act, NewKey
from tests.support.ledger import Desk

KEY = write_key(b"k" * 32)
DIGEST = key_digest(KEY)


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    """A ledger with a customer and a team."""
    desk = Desk(tmp_path)
    await desk.service.add_customer("acme", "none", desk.act())
    await desk.service.add_nodes("acme/department:a/team:data", desk.act())
    return desk


@pytest.fixture(autouse=True)
def _close(desk: Desk) -> Iterator[None]:
    yield
    desk.close()


def named(path: str = "acme", key: str = KEY, **fields: str) -> NewKey:
    """A key to take."""
    return msgspec.structs.replace(NewKey(path, key_digest(key).hex()), **fields)


async def resolve(desk: Desk, key: str = KEY) -> ResolveKeyReply:
    """Ask as a sidecar does."""
    return await desk.service.resolve_key(ResolveKeyRequest("s1", key_digest(key)))


async def test_a_key_names_its_subject_as_it_was_given(desk: Desk) -> None:
    """Customer, nodes, user and the dimensions; a user need not have been seen before. Its whole path is shown."""
    view = await desk.service.add_key(
        named("acme/team:data/user:ada", name="ci", agent="bot", session="s", feature="f", product="p"), desk.act()
    )
    assert (view.path, view.name, view.created_by) == ("acme/department:a/team:data/user:ada", "ci", "ada@example.com")
    found = await resolve(desk)
    assert found.subject == Subject("acme", (Node("team", "data"),), "ada", "bot", "s", "f", "p")
    assert found.key_id == view.key_id
    assert await resolve(desk, write_key(b"o" * 32)) == ResolveKeyReply()


async def test_the_key_itself_is_nowhere_in_the_book(desk: Desk, tmp_path: Path) -> None:
    """S-13, S-25: nor is its digest where people read: not in the journal, not in a view."""
    view = await desk.service.add_key(named(name="ci"), desk.act())
    await desk.service.revoke_key("acme", view.key_id, desk.act())
    entries, _ = await desk.service.entries("acme", after=0, kind="", limit=100)
    shown = msgspec.json.encode([view, entries, await desk.service.keys("acme", after=0, limit=9)])
    assert DIGEST.hex().encode() not in shown
    assert view.fingerprint.encode() in shown
    desk.close()
    with sqlite3.connect(tmp_path / "book.db") as book:
        dumped = "\n".join(book.iterdump())
    book.close()
    assert DIGEST.hex() in dumped
    assert KEY not in dumped


async def test_making_and_revoking_are_entries_with_their_actor_and_are_told(desk: Desk) -> None:
    """L35: every sidecar is told of both, by the customer's revision; the book stays whole."""
    heard: list[Change] = []
    desk.service.subscribe(heard.append)
    view = await desk.service.add_key(named(), Act("grace@example.com", "k1"))
    await desk.service.revoke_key("acme", view.key_id, Act("grace@example.com", "k2"))
    entries, _ = await desk.service.entries("acme", after=0, kind="", limit=100)
    made, ended = entries[-2:]
    assert [(entry.kind, entry.key, entry.actor) for entry in (made, ended)] == [
        ("key_created", view.key_id, "grace@example.com"),
        ("key_revoked", view.key_id, "grace@example.com"),
    ]
    assert heard == [Change("acme", made.sequence), Change("acme", ended.sequence)]
    assert await desk.problems() == ()


async def test_a_revoked_key_is_no_key_and_revoking_twice_is_once(desk: Desk) -> None:
    """It is listed still, with who ended it and when; the second act makes no entry and tells nobody."""
    view = await desk.service.add_key(named(), desk.act())
    desk.clock.advance(60)
    ended = await desk.service.revoke_key("acme", view.key_id, desk.act())
    assert (ended.revoked_at_ms, ended.revoked_by) == (desk.clock.wall_ms(), "ada@example.com")
    assert await resolve(desk) == ResolveKeyReply()
    heard: list[Change] = []
    desk.service.subscribe(heard.append)
    desk.clock.advance(60)
    assert await desk.service.revoke_key("acme", view.key_id, desk.act()) == ended
    assert heard == []
    assert (await desk.service.keys("acme", after=0, limit=9)) == ([ended], 0)
    with pytest.raises(Conflict):  # and it cannot be taken up again
        await desk.service.add_key(named(), desk.act())


async def test_a_key_ends_when_it_was_said_to(desk: Desk) -> None:
    """Up to the instant it is good, and says for how long; from it on it is none. Its end is part of its entry."""
    form = msgspec.structs.replace(named(), expires_in_ms=3_600_000)
    view = await desk.service.add_key(form, desk.act())
    assert view.expires_at_ms == desk.clock.wall_ms() + 3_600_000
    desk.clock.advance(3599)
    assert (await resolve(desk)).expires_in_ms == 1000
    desk.clock.advance(1)
    assert await resolve(desk) == ResolveKeyReply()
    assert await desk.problems() == ()
    await desk.book.transact("acme", lambda tx: tx.execute("UPDATE virtual_keys SET expires_at_ms = NULL"))
    (told,) = await desk.problems()
    assert told.startswith(f"key {view.key_id}: is not the one that entry")
    with pytest.raises(Rejected):
        await desk.service.add_key(msgspec.structs.replace(named(), expires_in_ms=0), desk.act())


async def test_the_last_day_of_its_use_is_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written once a day, and without an entry: it changes nothing that a sidecar hears of."""
    view = await desk.service.add_key(named(), desk.act())
    before = (await desk.service.customer("acme")).entries
    assert view.last_used_on == ""
    written: list[str] = []
    transact = desk.book.transact

    async def counting(customer: str, work: Any) -> Any:
        written.append(customer)
        return await transact(customer, work)

    monkeypatch.setattr(desk.book, "transact", counting)
    for _ in range(3):
        assert (await resolve(desk)).subject is not None
    assert written == ["acme"]
    ((first,), _) = await desk.service.keys("acme", after=0, limit=9)
    desk.clock.advance(86_400)
    await resolve(desk)
    ((second,), _) = await desk.service.keys("acme", after=0, limit=9)
    days = [date.fromisoformat(one.last_used_on) for one in (first, second)]
    assert days[1] - days[0] == timedelta(days=1)
    assert written == ["acme", "acme"]
    assert (await desk.service.customer("acme")).entries == before


async def test_asking_twice_with_one_idempotency_key_makes_one_key(desk: Desk) -> None:
    """L27: the same answer; another subject under it is a conflict."""
    act = Act("ada@example.com", "once")
    view = await desk.service.add_key(named(), act)
    assert await desk.service.add_key(named(), act) == view
    with pytest.raises(IdempotencyConflict):
        await desk.service.add_key(named("acme/team:data"), act)
    assert len((await desk.service.keys("acme", after=0, limit=9))[0]) == 1


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (NewKey("acme", "ab"), "sha256"),
        (NewKey("acme", "AB" * 32), "sha256"),
        (named("_system"), "path"),
        (named("acme/user:ada/team:data"), "path"),
        (named(agent="a b"), "agent"),
        (named(name="x" * 129), "name"),
    ],
)
async def test_what_is_no_key_or_names_nobody_is_refused(desk: Desk, form: NewKey, field: str) -> None:
    """Each field at fault by its name, and nothing is written."""
    with pytest.raises(Rejected) as refused:
        await desk.service.add_key(form, desk.act())
    assert field in refused.value.problems


async def test_it_names_what_exists(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer and nodes that are there, in their places; and one key too many is refused, until one is revoked."""
    for path in ("nobody", "acme/team:none"):
        with pytest.raises(NotFound):
            await desk.service.add_key(named(path), desk.act())
    with pytest.raises(Rejected):
        await desk.service.add_key(named("acme/team:data/department:a"), desk.act())
    with pytest.raises(NotFound):
        await desk.service.revoke_key("acme", "key_none", desk.act())
    with pytest.raises(NotFound):
        await desk.service.keys("nobody", after=0, limit=9)
    view = await desk.service.add_key(named(), desk.act())
    monkeypatch.setattr(virtual_keys, "MAX_KEYS", 1)
    other = named(key=write_key(b"o" * 32))
    with pytest.raises(Rejected, match="at most 1"):
        await desk.service.add_key(other, desk.act())
    await desk.service.revoke_key("acme", view.key_id, desk.act())
    await desk.service.add_key(other, desk.act())


async def test_a_digest_that_two_customers_have_names_neither(desk: Desk) -> None:
    """Whoever chose would be choosing who pays."""
    await desk.service.add_customer("beta", "none", desk.act())
    await desk.service.add_key(named(), desk.act())
    beta = await desk.service.add_key(named("beta"), desk.act())
    assert await resolve(desk) == ResolveKeyReply()
    await desk.service.revoke_key("beta", beta.key_id, desk.act())
    assert (await resolve(desk)).subject == Subject("acme")


CHANGES = {
    "another digest": (
        "UPDATE virtual_keys SET sha256 = replace(sha256, substr(sha256, 1, 4), 'beef')",
        "is not the one",
    ),
    "another subject": ("""UPDATE virtual_keys SET subject = '{"customer":"acme","user":"eve"}'""", "is not the one"),
    "good again": ("UPDATE virtual_keys SET revoked_at_ms = NULL", "entries say that it was revoked"),
    "ended unseen": ("UPDATE virtual_keys SET revoked_at_ms = 1 WHERE revoked_at_ms IS NULL", "no entry says so"),
    "taken away": ("DELETE FROM virtual_keys WHERE name = 'one'", "it is gone"),
    "put in": (
        "INSERT INTO virtual_keys SELECT customer, 'key_new', 'ab', name, subject, 1, 'x', 99, NULL, '', NULL, NULL"
        " FROM virtual_keys WHERE name = 'one'",
        "no entry made it",
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_key_that_is_not_what_its_entries_say_is_found(
    desk: Desk, tmp_path: Path, change: tuple[str, str]
) -> None:
    """L8: `spend verify` tells of a key that somebody wrote into the book past the ledger, and names it."""
    await desk.service.add_key(named(name="one"), desk.act())
    two = await desk.service.add_key(named(key=write_key(b"o" * 32), name="two"), desk.act())
    await desk.service.revoke_key("acme", two.key_id, desk.act())
    assert await desk.problems() == ()
    desk.close()
    with sqlite3.connect(tmp_path / "book.db") as book:
        book.execute(change[0])
    book.close()
    again = Desk(tmp_path)
    problems = await again.problems()
    again.close()
    assert problems
    assert all(change[1] in problem and problem.startswith("key ") for problem in problems), problems


async def test_the_list_is_paged(desk: Desk) -> None:
    """In the order made, each once."""
    made = [await desk.service.add_key(named(key=write_key(bytes([n]) * 32)), desk.act()) for n in range(5)]
    rows, after = await desk.service.keys("acme", after=0, limit=2)
    while after:
        more, after = await desk.service.keys("acme", after=after, limit=2)
        rows += more
    assert rows == made
