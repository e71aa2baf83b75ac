"""A book held, without its ledger, against the signed checkpoints that left it (L8): a file, and a database."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
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
from sidecar.ledger.views import VerifyView
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import PostgresBook, open_postgres
from sidecar.storage.postgres_snapshot import opened_database
from sidecar.storage.sqlite_files import opened_to_look
from tests.support import tampering
from tests.support.engines import POSTGRES, SQLITE, postgres_url
from tests.support.ledger import Desk, usd
from tests.support.tampering import Rewrite, hands_on, rewrite

BOOK = "book.db"


class Watched(Desk):
    """A ledger whose checkpoints go to `checkpoints.jsonl`, and to a sidecar's folder `sidecar`."""

    def __init__(
        self,
        folder: Path,
        options: CheckpointOptions | None = None,
        *,
        shared: PostgresBook | None = None,
        url: str = "",
    ) -> None:
        super().__init__(folder if shared is None else shared)
        self.at: Path | str = url or folder / BOOK
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


@pytest.fixture(params=[SQLITE, POSTGRES])
async def desk(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    """Ten entries, one of them of two settled calls; a checkpoint after the 5th, the 8th and the last."""
    url = postgres_url() if request.param == POSTGRES else ""
    shared = await open_postgres(DatabaseOptions(url)) if url else None
    desk = Watched(tmp_path, shared=shared, url=url)
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
    if shared is not None:
        await shared.close()


def witnesses(folder: Path, *files: str) -> Witnesses:
    """What files of checkpoints say, by the ledger's own public key."""
    keys = read_public_keys(public_file(folder / "checkpoint.key"))
    return read_witnesses([folder / name for name in files or ("checkpoints.jsonl",)], keys)


def views(desk: Watched, found: Witnesses) -> list[VerifyView]:
    """What is said of each customer, looked at as a command does it: in a thread without a loop."""

    def look() -> list[VerifyView]:
        at = desk.at
        with opened_to_look(at) if isinstance(at, Path) else opened_database(at) as opened:
            return list(prove(opened, found, None))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(look).result()


def problems(desk: Watched, found: Witnesses) -> list[str]:
    """Everything that is wrong."""
    return [problem for view in views(desk, found) for problem in view.problems] + found.problems


async def test_a_book_that_nobody_touched_agrees(desk: Watched, tmp_path: Path) -> None:
    """Every head is held against its entry, of each customer, usage batches among them."""
    desk.close()
    found = witnesses(tmp_path)
    seen = views(desk, found)
    assert {view.customer: (view.entries, view.signed, view.problems) for view in seen} == {
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
    rewrite(desk.at, "acme", change)
    assert problems(desk, Witnesses()) == []
    found = problems(desk, witnesses(tmp_path, where))
    assert [one.startswith(expected) for one, expected in zip(found, told, strict=True)] == [True] * len(told), found


@pytest.mark.parametrize("change", tampering.SIX)
async def test_the_last_checkpoint_is_enough(desk: Watched, tmp_path: Path, change: Rewrite) -> None:
    """One line that somebody kept shows each kind of change before it."""
    desk.close()
    last = (tmp_path / "sidecar" / WITNESSED).read_text().splitlines()[-1]
    (tmp_path / "kept").write_text(last + "\n")
    rewrite(desk.at, "acme", change)
    (told,) = problems(desk, witnesses(tmp_path, "kept"))
    assert "checkpoint 3 (kept:1) signed" in told


async def test_a_call_that_was_changed_with_all_that_proves_it_is_found(desk: Watched, tmp_path: Path) -> None:
    """Of a batch: the call says another user, and its checksum, the batch's digest and the chain were made to fit."""
    desk.close()
    with hands_on(desk.at) as run:
        ((stored,),) = run("SELECT calls FROM entries WHERE kind = 'usage'")
        assert isinstance(stored, bytes)
        whole = msgspec.msgpack.decode(zlib.decompress(stored), type=list[Any])
        whole[4][1][2]["admission"]["subject"]["user"] = "eve"
        altered = zlib.compress(msgspec.msgpack.encode(whole), 1)
        run("UPDATE entries SET calls = ? WHERE kind = 'usage'", (altered,))
        for position, raw in enumerate(Batch(altered).calls):
            run("UPDATE calls SET checksum = ? WHERE position = ?", (zlib.crc32(raw), position))
    digest = hashlib.sha256(altered).hexdigest()

    def made_to_fit(entries: list[Entry]) -> list[Entry]:
        entries[3] = msgspec.structs.replace(entries[3], facts={**entries[3].facts, "sha256": digest})
        return entries

    rewrite(desk.at, "acme", made_to_fit)
    assert problems(desk, Witnesses()) == []
    (told,) = problems(desk, witnesses(tmp_path))
    assert told.startswith("entries 1 to 5: altered")


async def test_a_fork_is_told_as_one(desk: Watched, tmp_path: Path) -> None:
    """A copy of book and key went on by itself: what it signed and what the first one signed are not of one chain."""
    if isinstance(desk.at, str):
        pytest.skip("a database is not copied by its folder; `forked` above has its twin")
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
    assert problems(desk, witnesses(tmp_path)) == []
    found = problems(desk, witnesses(tmp_path, "checkpoints.jsonl", "others.jsonl"))
    assert any(one.startswith("entry 11: the book was forked: checkpoint ") for one in found), found


async def test_a_customer_that_is_gone_is_missed(desk: Watched, tmp_path: Path) -> None:
    """Nothing in the book tells of it."""
    desk.close()
    rewrite(desk.at, "globex", lambda _: [])
    with hands_on(desk.at) as run:
        run("DELETE FROM idempotency WHERE customer = 'globex'")
        run("DELETE FROM customers WHERE customer = 'globex'")
    assert problems(desk, Witnesses()) == []
    (told,) = problems(desk, witnesses(tmp_path))
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
    with hands_on(desk.at) as run:
        run("UPDATE meta SET value = 'history_of_another' WHERE name = 'history_id'")
    (told,) = problems(desk, witnesses(tmp_path))
    assert "another history" in told
