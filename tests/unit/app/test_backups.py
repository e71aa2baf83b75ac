"""Copies of the embedded book: whole, checked, in place at once or not at all, under a history of their own (L50a)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from sidecar.app import backups
from sidecar.app.backups import Backups, Restored, Restoring, digest_file, restore, take_backup
from sidecar.app.checkpoint_files import CheckpointOptions
from sidecar.app.checkpointing import Checkpointer
from sidecar.app.proving import prove, read_witnesses
from sidecar.app.signing import public_file, read_public_keys
from sidecar.contract.messages import RegisterRequest
from sidecar.core.credits.entries import Entry
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import ConfigurationError, NotFound
from sidecar.ledger.administration import NewGrant, NewKey, NewToken
from sidecar.ledger.after_restore import EndedKeys
from sidecar.ledger.views import BackupView
from sidecar.storage.sqlite import open_book
from sidecar.storage.sqlite_files import copy_book, opened_to_look
from tests.support import tampering
from tests.support.clock import FakeClock, SequentialIds
from tests.support.ledger import Desk, usd

REGISTER = RegisterRequest("s1", "s1-inc")


class Kept(Desk):
    """A ledger on `FOLDER/book.sqlite`, as a process keeps it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(open_book(folder / "book.sqlite"))
        self.folder = folder
        self.checkpointer = Checkpointer(self.book, self.clock, self.ids, CheckpointOptions(), data=folder)
        self._acts = os.getpid() * 1000 + len(list(folder.iterdir()))

    async def add(self, name: str) -> None:
        """One entry more."""
        await self.service.add_nodes(f"acme/team:{name}", self.act())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Kept]:
    """A customer with a grant, and a settled call."""
    desk = Kept(tmp_path)
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_grant(NewGrant("acme", usd(1000)), desk.act())
    (lease,) = (lease.lease_id for lease in (await desk.borrow(Subject("acme"), 100)).leases)
    await desk.sync(desk.event("r1", Subject("acme"), 10, paid=((lease, 10),)))
    yield desk
    desk.close()


async def made(desk: Kept) -> BackupView:
    """A backup that the ledger has finished."""
    making = Backups(desk.folder, desk.ids)
    view = await making.start("ada@example.com")
    async with asyncio.timeout(20):
        while view.state == "making":
            await asyncio.sleep(0.01)
            view = making.look(view.name)
    return view


def put_back(backup: Path, folder: Path, *, force: bool = False) -> Restored:
    """Restore, a while later."""
    clock, ids = FakeClock(), SequentialIds()
    clock.advance(60)
    ids.new("history")
    ids.new("history")
    return restore(backup, folder, Restoring(clock, ids, "the disk died"), force=force)


def fifth_edited(entries: list[Entry]) -> list[Entry]:
    """The fifth says something else."""
    entries[4] = msgspec.structs.replace(entries[4], facts={"paths": ["team:another"]})
    return entries


async def backed_up(desk: Kept) -> Path:
    """A backup in a file `copy.sqlite`."""
    target = desk.folder / "copy.sqlite"
    take_backup(Path((await made(desk)).path), target)
    return target


async def test_a_backup_is_whole_while_the_ledger_writes_on(desk: Kept) -> None:
    """What is copied is one instant; it is sound, its owner's alone, and its digest is beside it."""
    stop = asyncio.Event()

    async def write() -> int:
        count = 0
        while not stop.is_set():
            await desk.add(f"t{count}")
            count += 1
        return count

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.05)
    view = await made(desk)
    stop.set()
    assert await writing > 0
    target = desk.folder / "copy.sqlite"
    sha256, customers, entries = take_backup(Path(view.path), target)
    assert (view.state, view.done_bytes, customers) == ("made", target.stat().st_size, 1)
    assert digest_file(target).read_text() == f"{sha256}  copy.sqlite\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with opened_to_look(target) as opened:
        (found,) = list(prove(opened, read_witnesses([], frozenset()), None))
    assert (found.problems, found.entries) == ((), entries)
    assert [path.name for path in desk.folder.glob(".copy*")] == []


async def test_only_the_last_backup_is_known(desk: Kept) -> None:
    """One at a time; a former start's is gone."""
    view = await made(desk)
    assert Path(view.path).exists()
    anew = Backups(desk.folder, desk.ids)
    assert not Path(view.path).exists()
    with pytest.raises(NotFound):
        anew.look(view.name)
    one, other = await anew.start("ada"), await anew.start("ada")
    assert one.name == other.name
    await anew.stop()
    assert anew.look(one.name).state in {"made", "failed"}


async def test_a_copy_that_is_not_sound_is_not_kept(desk: Kept) -> None:
    """The backup of before stays where it is."""
    target = await backed_up(desk)
    before = target.read_bytes()
    await desk.add("more")
    staged = Path((await made(desk)).path)
    tampering.rewrite(staged, "acme", lambda entries: entries[:2])  # so that balances are not the entries' sum
    with pytest.raises(ConfigurationError, match="is not sound"):
        take_backup(staged, target)
    assert target.read_bytes() == before
    assert list(desk.folder.glob(".copy*")) == []


async def test_a_full_disk_leaves_nothing(desk: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the copy that the ledger makes, nor of the one that is put in place."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = await backed_up(desk)
    await desk.add("more")
    staged = Path((await made(desk)).path)
    before = target.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("sidecar.storage.sqlite_files.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            take_backup(staged, target)
        with pytest.raises(OSError, match="No space left"):
            copy_book(desk.folder / "book.sqlite", desk.folder / "another.sqlite")
        desk.close()
        with pytest.raises(OSError, match="No space left"):
            put_back(target, desk.folder, force=True)
    assert target.read_bytes() == before
    assert {path.name for path in desk.folder.iterdir()} == {
        ".backup", "book.sqlite", "book.sqlite.lock", "copy.sqlite", "copy.sqlite.sha256",
    }  # fmt: skip
    assert put_back(target, desk.folder, force=True).entries == 4


async def test_a_restore_brings_back_and_is_noticed(desk: Kept) -> None:
    """L50a: the book is the one of then, under another name; who restored it, and why, is an entry."""
    history = (await desk.service.register(REGISTER)).history_id
    target = await backed_up(desk)
    await desk.add("later")
    desk.close()
    done = put_back(target, desk.folder, force=True)
    assert (done.customers, done.entries) == (1, 4)
    with opened_to_look(Path(done.kept)) as opened:
        (kept,) = list(prove(opened, read_witnesses([], frozenset()), None))
    assert (kept.entries, kept.problems) == (5, ())
    again = Kept(desk.folder)
    reply = await again.service.register(REGISTER)
    assert reply.history_id == done.history_id != history
    assert (await again.service.verify("acme")).entries == 4
    (entry,), _ = await again.service.entries("_system", after=0, kind="book_restored", limit=10)
    assert entry.actor.startswith("operator:")
    assert entry.facts == {
        "ended": [history], "history_id": done.history_id, "reason": "the disk died", "sha256": done.sha256,
    }  # fmt: skip
    assert await again.problems("_system") == ()
    again.close()


async def test_checkpoints_of_before_hold_for_what_was_restored(desk: Kept) -> None:
    """What came after the backup is told as lost, not as cut off; what was altered before it still is found."""
    await desk.add("a")
    await desk.checkpointer.make()
    target = await backed_up(desk)
    for name in "bc":
        await desk.add(name)
    await desk.checkpointer.make()
    desk.close()
    done = put_back(target, desk.folder, force=True)
    again = Kept(desk.folder)
    again.clock.advance(120)
    await again.add("d")
    await again.checkpointer.make()
    again.close()

    def look() -> dict[str, tuple[int, int, tuple[str, ...]]]:
        keys = read_public_keys(public_file(desk.folder / "checkpoint.key"))
        found = read_witnesses([desk.folder / "checkpoints.jsonl"], keys)
        with opened_to_look(desk.folder / "book.sqlite") as opened:
            views = {view.customer: (view.signed, view.lost, view.problems) for view in prove(opened, found, None)}
        assert found.problems == []
        return views

    assert done.entries == 5
    assert look()["acme"] == (2, 2, ())
    tampering.rewrite(desk.folder / "book.sqlite", "acme", fifth_edited)
    assert look()["acme"][2][0].startswith("entries 1 to 5: altered")


def cut(path: Path) -> None:
    """Some pages of it."""
    path.write_bytes(path.read_bytes()[:20_000])


def replaced(path: Path) -> None:
    """Something else."""
    path.write_bytes(b"no book at all")


def altered(path: Path) -> None:
    """Its balances are not the sum of its entries."""
    tampering.rewrite(path, "acme", lambda entries: entries[:2])


@pytest.mark.parametrize("spoil", [cut, replaced, altered, Path.unlink])
@pytest.mark.parametrize("has_digest", [True, False])
async def test_what_is_not_sound_is_not_restored(desk: Kept, spoil: Callable[[Path], None], has_digest: bool) -> None:
    """Cut short, something else, changed, gone: the book that stands there stays, to the byte."""
    target = await backed_up(desk)
    desk.close()
    spoil(target)
    if not has_digest:
        digest_file(target).unlink()
    before = (desk.folder / "book.sqlite").read_bytes()
    with pytest.raises(ConfigurationError) as refused:
        put_back(target, desk.folder, force=True)
    assert all(str(problem).startswith(f"{target}: ") for problem in refused.value.problems)
    assert (desk.folder / "book.sqlite").read_bytes() == before
    assert list(desk.folder.glob(".restoring*")) == []


async def test_nothing_is_overwritten_unasked_or_under_a_ledger(desk: Kept) -> None:
    """Not while it runs, not without --force."""
    target = await backed_up(desk)
    with pytest.raises(ConfigurationError, match="another process has this book open"):
        put_back(target, desk.folder, force=True)
    desk.close()
    with pytest.raises(ConfigurationError, match="--force"):
        put_back(target, desk.folder)
    put_back(target, desk.folder / "new")
    assert (desk.folder / "new" / "book.sqlite").exists()


@pytest.mark.parametrize("last", ["copy_file", "_check", "change_copy", "put_in_place"])
async def test_a_restore_that_is_killed_leaves_the_old_book(
    desk: Kept, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """At each step, with whatever it had written until then; the next one is not disturbed by what it left."""
    target = await backed_up(desk)
    await desk.add("later")
    desk.close()

    def die() -> None:
        pid = os.fork()
        if not pid:
            really = getattr(backups, last)

            def kill(*args: object) -> object:
                if last != "put_in_place":
                    really(*args)
                os._exit(9)

            monkeypatch.setattr(backups, last, kill)
            try:
                put_back(target, desk.folder, force=True)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9

    die()
    with sqlite3.connect(desk.folder / "book.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (5,)
    connection.close()
    assert put_back(target, desk.folder, force=True).entries == 4
    with opened_to_look(desk.folder / "book.sqlite") as opened:
        assert all(not view.problems for view in prove(opened, read_witnesses([], frozenset()), None))


async def test_what_was_revoked_since_the_backup_stays_revoked(desk: Kept) -> None:
    """S-13: the book that stood there knows it; what is good in both stays, and what it never had ends."""

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    keys = [
        await desk.service.add_key(NewKey("acme", digest(name), name=name), desk.act()) for name in ("stays", "ends")
    ]
    for name in ("stays", "ends"):
        await desk.service.make_token(NewToken(name, "auditor", digest(f"t {name}"), "acme"), desk.act())
        await desk.service.set_sidecar_token(name, digest(f"s {name}"), desk.act())
    target = await backed_up(desk)
    await desk.service.revoke_key("acme", keys[1].key_id, desk.act())
    await desk.service.revoke_token("acme", "ends", desk.act())
    await desk.service.revoke_sidecar_token("ends", desk.act())
    desk.close()
    done = put_back(target, desk.folder, force=True)
    assert done.ended == EndedKeys(1, 1, 1)

    async def good(folder: Path) -> tuple[list[str], list[str], list[str]]:
        again = Kept(folder)
        found, _ = await again.service.keys("acme", after=0, limit=9)
        tokens, _ = await again.service.tokens("acme", after="", limit=9)
        sidecars = await again.service.sidecar_tokens()
        assert [await again.problems(name) for name in ("acme", "_system")] == [(), ()]
        again.close()
        return (
            [key.name for key in found if key.revoked_at_ms is None],
            [token.name for token in tokens if token.revoked_at_ms is None],
            [sidecar.name for sidecar in sidecars],
        )

    assert await good(desk.folder) == (["stays"], ["stays"], ["stays"])
    done = put_back(target, desk.folder / "new")
    assert done.ended == EndedKeys(2, 2, 2)
    assert await good(desk.folder / "new") == ([], [], [])
    kept = restore(
        target, desk.folder / "kept", Restoring(FakeClock(), SequentialIds(), "", keep_keys=True), force=False
    )
    assert kept.ended == EndedKeys()
    assert await good(desk.folder / "kept") == (["stays", "ends"], ["ends", "stays"], ["ends", "stays"])
