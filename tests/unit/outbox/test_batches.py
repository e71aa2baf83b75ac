"""A batch is the same whether it comes from memory or from the files, and nothing is left out between the two."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidecar.contract.codec import decode, encode
from sidecar.contract.messages import CustomerPart, RecordedPart, RecordedSync, SyncRequest
from sidecar.outbox import batches
from sidecar.outbox.batches import Batch, Latest, parts_of, read_batch
from sidecar.outbox.cursor import Position
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.spool import Spool, SpoolOptions
from tests.support.calls import admission, event, read_back
from tests.support.clock import FakeClock


class Desk:
    """A spool, and what is remembered of it."""

    def __init__(self, directory: Path) -> None:
        options = SpoolOptions(ballast_bytes=0, segment_bytes=4096)
        self.spool: Spool = open_spool(directory, FakeClock(), options, sidecar="s", incarnation="i").spool
        self.start = Position(self.spool.number, self.spool.size)
        self.latest = Latest(self.start)
        self.spool.on_settle = lambda customer, recorded: self.latest.add(
            Position(self.spool.number, self.spool.size), customer, recorded
        )
        self.count = 0

    def settle(self, count: int) -> None:
        for _ in range(count):
            admitted = admission(f"r{self.count}", 1, customer=("acme", "other")[self.count % 2])
            self.count += 1
            self.spool.admit(admitted)
            self.spool.settle(event(admitted, 1))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """One of each."""
    return Desk(tmp_path)


def ids(batch: Batch | None) -> list[str]:
    """Of the calls, customer by customer."""
    assert batch is not None
    return [one.admission.request_id for one in read_back(batch.events)]


def test_memory_gives_what_the_files_give(desk: Desk) -> None:
    """The same bytes, and an end behind the same call; over several segments."""
    desk.settle(20)
    ours, theirs = desk.latest.batch(desk.start, desk.spool), read_batch(desk.spool, desk.start)
    assert ours is not None
    assert (ours.events, ours.count, ours.end, ours.reaches_end) == (theirs.events, 20, theirs.end, True)
    assert desk.spool.number > 2


def test_a_full_batch_ends_behind_its_last_call(desk: Desk) -> None:
    """From there the next one goes on, in memory or in the files."""
    desk.settle(10)
    first = desk.latest.batch(desk.start, desk.spool, 6)
    assert first is not None
    assert (first.count, first.reaches_end) == (6, False)
    assert read_batch(desk.spool, desk.start, 6).count == 6
    assert ids(read_batch(desk.spool, first.end)) == ids(desk.latest.batch(first.end, desk.spool))
    assert sorted([*ids(first), *ids(read_batch(desk.spool, first.end))]) == sorted(f"r{n}" for n in range(10))


def test_what_is_not_acknowledged_is_given_again(desk: Desk) -> None:
    """Only a place that has moved on makes it forget."""
    desk.settle(3)
    assert ids(desk.latest.batch(desk.start, desk.spool)) == ids(desk.latest.batch(desk.start, desk.spool))


@pytest.mark.parametrize("bound", ["MAX_LATEST", "MAX_LATEST_BYTES"])
def test_too_much_is_left_to_the_files(desk: Desk, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Memory is bounded; what it let go is not there, and what follows is, once the files were read so far."""
    monkeypatch.setattr(batches, bound, {"MAX_LATEST": 4, "MAX_LATEST_BYTES": 1500}[bound])
    desk.settle(4)
    while desk.latest.batch(desk.start, desk.spool) is not None:
        desk.settle(1)
    before = desk.count
    behind = read_batch(desk.spool, desk.start).end
    desk.settle(2)
    assert desk.latest.batch(desk.start, desk.spool) is None
    assert ids(desk.latest.batch(behind, desk.spool)) == [f"r{before}", f"r{before + 1}"]
    assert len(ids(read_batch(desk.spool, desk.start))) == before + 2


def test_a_place_before_its_beginning_is_not_answered(desk: Desk) -> None:
    """A replay, and what an earlier start left: that is in the files alone."""
    desk.settle(1)
    assert desk.latest.batch(Position(), desk.spool) is None


def test_on_the_wire_a_recorded_sync_is_a_sync(desk: Desk) -> None:
    """Either can be read as the other: old and new stand side by side."""
    desk.settle(3)
    parts = parts_of(read_batch(desk.spool, desk.start).events, {})
    recorded = RecordedSync("s", "i", 5, tuple(parts))
    read = decode(encode(recorded), SyncRequest)
    assert encode(read) == encode(recorded)
    assert [type(part) for part in read.parts] == [CustomerPart, CustomerPart]
    assert decode(encode(read), RecordedSync) == recorded
    fields = [(name.name, name.default) for name in msgspec.structs.fields(SyncRequest) if name.name != "parts"]
    assert fields == [
        (name.name, name.default) for name in msgspec.structs.fields(RecordedSync) if name.name != "parts"
    ]
    assert RecordedPart.__struct_fields__ == CustomerPart.__struct_fields__
