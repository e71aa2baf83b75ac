"""When checkpoints are made, and what stands in them (L8)."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from sidecar.app import checkpoint_files
from sidecar.app.checkpoint_files import CheckpointOptions, read_lines, rotated
from sidecar.app.checkpointing import checkpoints_made
from sidecar.app.signing import Signer, is_signed, public_file
from sidecar.app.witness import WITNESSED, Witness
from sidecar.core.credits.checkpoints import MAX_HEADS, MAX_LINE_BYTES, Checkpoint, Head, line_of, read_line
from sidecar.errors import ConfigurationError
from tests.unit.app.test_proving import Watched, problems, witnesses


def lines_of(folder: Path) -> list[dict[str, object]]:
    """The checkpoints in the usual file."""
    return [json.loads(line) for _, line in read_lines(folder / "checkpoints.jsonl")]


async def test_only_what_moved_is_signed(tmp_path: Path) -> None:
    """Nothing new, no line; a restart does not sign again what stands in the file, and counts on from it."""
    desk = Watched(tmp_path)
    for name in ("acme", "globex"):
        await desk.service.add_customer(name, "required", desk.act())
    assert [await desk.checkpointer.make() for _ in range(2)] == [1, 0]
    desk.close()
    again = Watched(tmp_path)
    again._acts = 10
    assert await again.checkpointer.make() == 0
    await again.add_team("data")
    assert await again.checkpointer.make() == 1
    again.close()
    first, second = lines_of(tmp_path)
    assert [head[:2] for head in first["heads"]] == [["acme", 1], ["globex", 1]]  # type: ignore[attr-defined]
    assert [head[:2] for head in second["heads"]] == [["acme", 2]]  # type: ignore[attr-defined]
    assert (first["number"], second["number"], first["previous"]) == (1, 2, "")
    assert problems(desk, witnesses(tmp_path)) == []


async def test_many_heads_make_many_lines_within_their_bound(tmp_path: Path) -> None:
    """A line is as long as a reader takes, whatever the names."""
    longest = Checkpoint(
        "history_" + "0" * 26,
        10**9,
        10**13,
        tuple(Head("n" * 128, 2**62, "f" * 64) for _ in range(MAX_HEADS)),
        "f" * 64,
        "f" * 64,
        "f" * 128,
    )
    assert len(line_of(longest)) < MAX_LINE_BYTES
    assert read_line(line_of(longest)) == longest
    desk = Watched(tmp_path)
    for number in range(MAX_HEADS + 1):
        await desk.service.add_customer(f"c{number}", "required", desk.act())
    assert await desk.checkpointer.make() == 2
    assert [len(line["heads"]) for line in lines_of(tmp_path)] == [MAX_HEADS, 1]  # type: ignore[arg-type]
    desk.close()


async def test_a_full_file_is_followed_by_one_with_every_head(tmp_path: Path) -> None:
    """What is moved away, or fell out, is not missed."""
    desk = Watched(tmp_path, CheckpointOptions(max_bytes=100))
    await desk.service.add_customer("acme", "required", desk.act())
    await desk.service.add_customer("globex", "required", desk.act())
    await desk.checkpointer.make()
    await desk.add_team("data")
    await desk.checkpointer.make()
    desk.close()
    (second,) = lines_of(tmp_path)
    assert [head[:2] for head in second["heads"]] == [["acme", 2], ["globex", 1]]  # type: ignore[attr-defined]
    assert rotated(tmp_path / "checkpoints.jsonl").exists()
    assert len(witnesses(tmp_path).checkpoints) == 2


async def test_one_is_made_at_the_end(tmp_path: Path) -> None:
    """However short the run was."""
    desk = Watched(tmp_path)
    async with checkpoints_made(desk.checkpointer, 3600):
        await desk.service.add_customer("acme", "required", desk.act())
        await asyncio.sleep(0)
        assert not (tmp_path / "checkpoints.jsonl").exists()
    assert len(lines_of(tmp_path)) == 1
    desk.close()


async def test_a_disk_that_takes_none_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one makes up for it, and the torn line that was left ends before it."""
    desk = Watched(tmp_path)
    await desk.service.add_customer("acme", "required", desk.act())

    def fail(_: object, lines: list[str]) -> None:
        (tmp_path / "checkpoints.jsonl").write_text(lines[0][:40])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_files.CheckpointFile, "append", fail)
        async with checkpoints_made(desk.checkpointer, 3600):
            pass
    assert desk.checkpointer.failing
    assert await desk.checkpointer.make() == 1
    desk.close()
    found = witnesses(tmp_path)
    assert [where for where, _ in found.checkpoints] == ["checkpoints.jsonl:2"]


def test_the_key_is_the_owners_alone_and_lasts(tmp_path: Path) -> None:
    """Made once; beside it the public one, by which a text is told from another."""
    signer = Signer(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert public_file(tmp_path / "key").read_text().strip() == signer.public == Signer(tmp_path / "key").public
    signature = signer.sign(b"text")
    assert is_signed(signer.public, signature, b"text")
    assert not is_signed(signer.public, signature, b"test")
    assert not is_signed(signer.public, "", b"text")
    public_file(tmp_path / "key").unlink()
    public_file(tmp_path / "key").symlink_to("nowhere/at/all")  # where nothing can be written
    assert Signer(tmp_path / "key").public == signer.public
    (tmp_path / "key").write_text("no key")
    with pytest.raises(ConfigurationError, match="is not a key"):
        Signer(tmp_path / "key")


def test_a_witness_keeps_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones stay; a line that is none, or comes twice, is not kept."""
    monkeypatch.setattr("sidecar.app.witness.MAX_WITNESSED_BYTES", 100)
    witness = Witness(tmp_path)
    for line in ["x" * 99, "x" * 99, "two\nlines", "y" * 60, "z"]:
        witness.keep(line)
    assert (tmp_path / WITNESSED).read_text() == "y" * 60 + "\nz\n"
    assert rotated(tmp_path / WITNESSED).read_text() == "x" * 99 + "\n"
