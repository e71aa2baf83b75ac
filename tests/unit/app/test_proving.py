"""A book held, without its ledger, against the signed checkpoints that left it (L8)."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.app.checkpoint_files import CheckpointOptions
from sidecar.app.checkpointing import Checkpointer
from sidecar.app.proving import Witnesses, prove, read_witnesses
from sidecar.app.signing import public_file, read_public_keys
from sidecar.app.witness import WITNESSED, Witness
from sidecar.core.credits.entries import Entry
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewGrant
from sidecar.ledger.booked_calls import Batch
from sidecar.storage.sqlite_files import opened_to_look
from tests.support import tampering
from tests.support.ledger import Desk, usd
from tests.support.tampering import Rewrite, rewrite

BOOK = "book.db"


class Watched(Desk):
    """A ledger whose checkpoints go to `checkpoints.jsonl`, and to a sidecar's folder `sidecar`."""

    def __init__(self, folder: Path, options: CheckpointOptions | None = None) -> None:
        super().__init__(folder)
        (folder / "sidecar").mkdir(exist_ok=True)
        self.checkpointer = Checkpointer(
            self.book,
            self.clock,
            self.ids,
            options or CheckpointOptions(),
            data=folder,
            tell=Witness(folder / "sidecar").keep,
        )

    async def add_team(self, name: str) -> None:
        """One more entry that moves nothing."""
        await self.service.add_nodes(f"acme/team:{name}", self.act())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Watched]:
    """Ten entries, one of them of two settled calls; a checkpoint after the 5th, the 8th and the last."""
    desk = Watched(tmp_path)
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_customer("globex", "required", desk.act())
    await desk.service.add_grant(NewGrant("acme", usd(1000)), desk.act())
    (lease,) = (lease.lease_id for lease in (await desk.borrow(Subject("acme"), 100)).leases)
    await desk.sync(*(desk.event(f"r{n}", Subject("acme"), 10, paid=((lease, 10),)) for n in range(2)))
    for name in ("a", "b", "c", "d", "e", "f"):
        await desk.add_team(name)
        if name in "adf":
            assert await desk.checkpointer.make() == 1
    yield desk
    desk.close()


def witnesses(folder: Path, *files: str) -> Witnesses:
    """What files of checkpoints say, by the ledger's own public key."""
    keys = read_public_keys(public_file(folder / "checkpoint.key"))
    return read_witnesses([folder / name for name in files or ("checkpoints.jsonl",)], keys)


def problems(folder: Path, found: Witnesses, book: str = BOOK) -> list[str]:
    """Everything that is wrong."""
    with opened_to_look(folder / book) as opened:
        views = list(prove(opened, found, None))
    return [problem for view in views for problem in view.problems] + found.problems


async def test_a_book_that_nobody_touched_agrees(desk: Watched, tmp_path: Path) -> None:
    """Every head is held against its entry, of each customer, usage batches among them."""
    desk.close()
    found = witnesses(tmp_path)
    with opened_to_look(tmp_path / BOOK) as opened:
        views = {view.customer: view for view in prove(opened, found, None)}
    assert {name: (view.entries, view.signed, view.problems) for name, view in views.items()} == {
        "acme": (10, 3, ()),
        "globex": (1, 1, ()),
    }
    assert found.problems == []


@pytest.mark.parametrize("where", ["checkpoints.jsonl", f"sidecar/{WITNESSED}"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (tampering.edited, ["entries 6 to 8: altered"]),
        (tampering.deleted, ["entries 6 to 8: altered", "entry 10: cut off"]),
        (tampering.inserted, ["entries 6 to 8: altered"]),
        (tampering.reordered, ["entries 6 to 8: altered"]),
        (tampering.truncated, ["entries 9 to 10: cut off"]),
        (tampering.forked, ["entries 6 to 8: altered"]),
    ],
)
async def test_a_chain_computed_anew_is_found(
    desk: Watched, tmp_path: Path, change: Rewrite, told: list[str], where: str
) -> None:
    """The book alone says that all is well; the checkpoints name the entries, and those of a sidecar alone do too."""
    desk.close()
    rewrite(tmp_path / BOOK, "acme", change)
    assert problems(tmp_path, Witnesses()) == []
    found = problems(tmp_path, witnesses(tmp_path, where))
    assert [one.startswith(expected) for one, expected in zip(found, told, strict=True)] == [True] * len(told), found


@pytest.mark.parametrize("change", tampering.SIX)
async def test_the_last_checkpoint_is_enough(desk: Watched, tmp_path: Path, change: Rewrite) -> None:
    """One line that somebody kept shows each kind of change before it."""
    desk.close()
    last = (tmp_path / "sidecar" / WITNESSED).read_text().splitlines()[-1]
    (tmp_path / "kept").write_text(last + "\n")
    rewrite(tmp_path / BOOK, "acme", change)
    (told,) = problems(tmp_path, witnesses(tmp_path, "kept"))
    assert "checkpoint 3 (kept:1) signed" in told


async def test_a_call_that_was_changed_with_all_that_proves_it_is_found(desk: Watched, tmp_path: Path) -> None:
    """Of a batch: the call says another user, and its checksum, the batch's digest and the chain were made to fit."""
    desk.close()
    with sqlite3.connect(tmp_path / BOOK) as connection:
        for name in ("entries_are_not_updated", "calls_are_not_updated"):
            connection.execute(f"DROP TRIGGER {name}")
        (stored,) = connection.execute("SELECT calls FROM entries WHERE kind = 'usage'").fetchone()
        whole = msgspec.msgpack.decode(zlib.decompress(stored), type=list[Any])
        whole[4][1][2]["admission"]["subject"]["user"] = "eve"
        altered = zlib.compress(msgspec.msgpack.encode(whole), 1)
        connection.execute("UPDATE entries SET calls = ? WHERE kind = 'usage'", (altered,))
        for position, raw in enumerate(Batch(altered).calls):
            connection.execute("UPDATE calls SET checksum = ? WHERE position = ?", (zlib.crc32(raw), position))
    connection.close()
    digest = hashlib.sha256(altered).hexdigest()

    def made_to_fit(entries: list[Entry]) -> list[Entry]:
        entries[3] = msgspec.structs.replace(entries[3], facts={**entries[3].facts, "sha256": digest})
        return entries

    rewrite(tmp_path / BOOK, "acme", made_to_fit)
    assert problems(tmp_path, Witnesses()) == []
    (told,) = problems(tmp_path, witnesses(tmp_path))
    assert told.startswith("entries 1 to 5: altered")


async def test_a_fork_is_told_as_one(desk: Watched, tmp_path: Path) -> None:
    """A copy of book and key went on by itself: what it signed and what the first one signed are not of one chain."""
    desk.close()
    other = tmp_path / "other"
    shutil.copytree(tmp_path, other, ignore=shutil.ignore_patterns("other"))
    for folder, name in ((tmp_path, "x"), (other, "y")):
        again = Watched(folder)
        again._acts = 100
        await again.add_team(name)
        await again.checkpointer.make()
        await again.add_team(f"{name}2")
        await again.checkpointer.make()
        again.close()
    shutil.copy(other / "checkpoints.jsonl", tmp_path / "others.jsonl")
    assert problems(tmp_path, witnesses(tmp_path)) == []
    found = problems(tmp_path, witnesses(tmp_path, "checkpoints.jsonl", "others.jsonl"))
    assert any(one.startswith("entry 11: the book was forked: checkpoint ") for one in found), found


async def test_a_customer_that_is_gone_is_missed(desk: Watched, tmp_path: Path) -> None:
    """Nothing in the book tells of it."""
    desk.close()
    rewrite(tmp_path / BOOK, "globex", lambda _: [])
    with sqlite3.connect(tmp_path / BOOK) as connection:
        connection.execute("DELETE FROM idempotency WHERE customer = 'globex'")
        connection.execute("DELETE FROM customers WHERE customer = 'globex'")
    assert problems(tmp_path, Witnesses()) == []
    (told,) = problems(tmp_path, witnesses(tmp_path))
    assert told.startswith("customer globex: is not in the book; checkpoint 1")


async def test_a_checkpoint_is_believed_by_its_signature_alone(desk: Watched, tmp_path: Path) -> None:
    """One whose head was changed to fit the book, one signed by another key, one that is none, one left out."""
    desk.close()
    path = tmp_path / "checkpoints.jsonl"
    lines = path.read_text().splitlines()
    changed = json.loads(lines[1])
    changed["heads"][0][1] = 9
    foreign = Watched(tmp_path / "foreign")
    await foreign.service.add_customer("acme", "required", foreign.act())
    await foreign.checkpointer.make()
    foreign.close()
    (other,) = (tmp_path / "foreign" / "checkpoints.jsonl").read_text().splitlines()
    text = json.dumps(changed, sort_keys=True, separators=(",", ":"))
    path.write_text("\n".join([lines[0], text, other, "{}", lines[2]]) + "\n" + '{"torn')
    found = witnesses(tmp_path)
    assert [where for where, _ in found.checkpoints] == ["checkpoints.jsonl:1", "checkpoints.jsonl:5"]
    assert found.problems == [
        "checkpoints.jsonl:2: checkpoint 2 was altered: its signature is not of it",
        f"checkpoints.jsonl:3: is signed by another key ({json.loads(other)['key'][:12]}…) than the ledger's",
        "checkpoints.jsonl:4: was altered; checkpoints 2 to 2 are not there",
    ]
    path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    found = witnesses(tmp_path)
    assert (found.problems, found.notes) == ([], ["checkpoints.jsonl:2: checkpoints 2 to 2 are not there"])


async def test_checkpoints_of_another_book_are_told(desk: Watched, tmp_path: Path) -> None:
    """A book put in place of this one, with a history of its own, cannot hide behind it."""
    desk.close()
    with sqlite3.connect(tmp_path / BOOK) as connection:
        connection.execute("UPDATE meta SET value = 'history_of_another' WHERE name = 'history_id'")
    (told,) = problems(tmp_path, witnesses(tmp_path))
    assert "another history" in told
