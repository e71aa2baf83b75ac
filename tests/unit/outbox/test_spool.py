"""The spool: what it promises to have written, and what it does when the disk will not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sidecar.contract.messages import UsageEvent
from sidecar.errors import ConfigurationError, SpoolFull
from sidecar.outbox.frames import scan
from sidecar.outbox.local_disk import LocalDisk
from sidecar.outbox.records import Settled, read_record
from sidecar.outbox.recovery import Recovery, open_spool
from sidecar.outbox.segments import segment_numbers, segment_path, trust_path
from sidecar.outbox.spool import SETTLE_ROOM_BYTES, Spool, SpoolOptions
from tests.support.calls import admission, event
from tests.support.clock import FakeClock

SMALL = SpoolOptions(max_bytes=64 * 1024, segment_bytes=4096, ballast_bytes=4096)


def reopened(directory: Path, options: SpoolOptions = SMALL, incarnation: str = "i1") -> Recovery:
    return open_spool(directory, FakeClock(), options, sidecar="s", incarnation=incarnation)


def settled_on_disk(directory: Path) -> list[UsageEvent]:
    """Every settlement in the files."""
    found: list[UsageEvent] = []
    for number in segment_numbers(directory):
        for span in scan(segment_path(directory, number).read_bytes()):
            record = None if span.payload is None else read_record(span.payload)
            if isinstance(record, Settled):
                found.append(record.event())
    return found


def ids(events: list[UsageEvent]) -> list[str]:
    return [each.admission.request_id for each in events]


class TestWriting:
    def test_a_settlement_is_read_back_as_it_was(self, tmp_path: Path) -> None:
        """L49: the whole event, the provider's own words included."""
        spool = reopened(tmp_path).spool
        settled = event(admission("r1", budgets=("i1/budget:b:lifetime:",)), 70)
        spool.admit(settled.admission)
        assert spool.open_calls == 1
        spool.settle(settled)
        assert spool.open_calls == 0
        assert settled_on_disk(tmp_path) == [settled]

    def test_a_hold_that_grew_is_written_again_and_the_last_one_counts(self, tmp_path: Path) -> None:
        """L22, L49: after a crash it settles at all that was held; what is kept for its settlement is kept once."""
        spool = reopened(tmp_path).spool
        spool.admit(admission("r1", 100))
        kept = spool._reserved
        for atoms in (150, 225):
            spool.admit(admission("r1", atoms))
            assert spool.open_calls == 1
            assert kept <= spool._reserved < kept + 64
        spool._lock.release()
        again = reopened(tmp_path, incarnation="i2")
        assert again.settled_calls == 1
        assert [(one.charge_atoms, one.admission.request_id) for one in settled_on_disk(tmp_path)] == [(225, "r1")]
        again.spool.close()

    def test_one_process_at_a_time(self, tmp_path: Path) -> None:
        """F-44: a second one is refused, until the first has closed."""
        first = reopened(tmp_path).spool
        with pytest.raises(ConfigurationError, match="another process"):
            reopened(tmp_path)
        first.close()
        reopened(tmp_path, incarnation="i2").spool.close()

    def test_the_cap_refuses_calls_and_never_their_settlements(self, tmp_path: Path) -> None:
        """Room for a settlement is kept from its admission on."""
        spool = reopened(tmp_path).spool
        admitted: list[str] = []

        def admit_forever() -> None:
            while True:
                spool.admit(admission(f"r{len(admitted)}"))
                admitted.append(f"r{len(admitted)}")

        with pytest.raises(SpoolFull, match="holds its"):
            admit_forever()
        assert 5 < len(admitted) < SMALL.max_bytes / SETTLE_ROOM_BYTES
        for name in admitted:
            spool.settle(event(admission(name), 1))
        assert ids(settled_on_disk(tmp_path)) == admitted
        assert spool.total_bytes <= SMALL.max_bytes
        spool.admit(admission("again"))

    def test_acknowledged_segments_are_deleted_from_the_front(self, tmp_path: Path) -> None:
        """Kept for a day, or until room is needed; never one with an open call, nor one behind it."""
        clock = FakeClock()
        now_s = clock.wall_ms() / 1000
        options = SpoolOptions(segment_bytes=1024, ballast_bytes=0)
        spool = open_spool(tmp_path, clock, options, sidecar="s", incarnation="i1").spool
        for number in range(12):
            spool.admit(admission(f"r{number}"))
            if number != 5:
                spool.settle(event(admission(f"r{number}"), 1))
        for number in segment_numbers(tmp_path):
            os.utime(segment_path(tmp_path, number), (now_s, now_s))
        before = segment_numbers(tmp_path)
        assert len(before) > 3
        spool.discard(spool.number)
        assert segment_numbers(tmp_path) == before, "younger than a day"
        clock.advance(86_401.0)
        spool.discard(spool.number)
        left = segment_numbers(tmp_path)
        assert left[0] > before[0], "before the open call"
        assert left == before[before.index(left[0]) :], "no gap"
        spool.settle(event(admission("r5"), 1))
        spool.discard(spool.number)
        assert segment_numbers(tmp_path) == [spool.number]

    def test_an_enormous_usage_object_is_left_out(self, tmp_path: Path) -> None:
        """The counts are what is charged; a provider's megabytes are not worth the record."""
        spool = reopened(tmp_path, SpoolOptions(ballast_bytes=0)).spool
        settled = event(admission("r1"), 70)
        huge = with_raw(settled, b"x" * (2 << 20))
        spool.admit(settled.admission)
        spool.settle(huge)
        found = settled_on_disk(tmp_path)[0]
        assert (found.charge_atoms, found.usage.raw, found.usage.notes) == (70, b"", ("raw_dropped",))

    @pytest.mark.parametrize(
        "where", ["tier", "geo", "provider_request_id", "reported_cost", "model", "notes", "units"]
    )
    def test_no_word_of_a_provider_is_long_enough_to_lose_a_settlement(self, tmp_path: Path, where: str) -> None:
        """L25, L49: what fits no frame is recorded bare: ids, leases, charge, and the sum of the tokens."""
        spool = reopened(tmp_path, SpoolOptions(ballast_bytes=0)).spool
        settled = event(admission("r1", budgets=("i1/budget:b:lifetime:",)), 70)
        word = "x" * (3 << 19)
        lines = (msgspec.structs.replace(settled.usage.lines[0], model=word),)
        long: dict[str, dict[str, object]] = {
            "model": {"lines": lines},
            "notes": {"notes": (word,)},
            "units": {"units": {word: 1}},
        }
        usage = msgspec.structs.replace(settled.usage, **long.get(where, {where: word}))
        spool.admit(settled.admission)
        spool.settle(msgspec.structs.replace(settled, usage=usage))
        assert spool.open_calls == 0
        found = settled_on_disk(tmp_path)[0]
        assert (found.admission, found.charge_atoms, found.paid) == (settled.admission, 70, settled.paid)
        assert (found.usage.total(), found.usage.notes) == (settled.usage.total(), ("words_dropped",))


def with_raw(settled: UsageEvent, raw: bytes) -> UsageEvent:
    return msgspec.structs.replace(settled, usage=msgspec.structs.replace(settled.usage, raw=raw))


class Disk:
    """write() and its kin, failing as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error = 0
        self.room = 1 << 40
        self._write = LocalDisk.write
        self._fallocate = os.posix_fallocate
        monkeypatch.setattr(LocalDisk, "write", staticmethod(self.write))
        monkeypatch.setattr(os, "posix_fallocate", self.fallocate)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        part = data[: self.room]
        if data and not part:
            raise OSError(28, os.strerror(28))
        self.room -= len(part)
        return self._write(descriptor, part)

    def fallocate(self, descriptor: int, offset: int, length: int) -> None:
        if self.error or length > self.room:
            raise OSError(28, os.strerror(28))
        self._fallocate(descriptor, offset, length)


class TestFailingDisk:
    @pytest.mark.parametrize("error", [28, 5])
    def test_nothing_is_admitted_until_the_disk_is_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        """F-41: ENOSPC, EIO: what cannot be recorded is not spent; settlements wait in memory and are then written."""
        spool = reopened(tmp_path).spool
        spool.admit(admission("r1"))
        disk = Disk(monkeypatch)
        disk.error = error
        with pytest.raises(SpoolFull):
            spool.admit(admission("r2"))
        with pytest.raises(SpoolFull):
            spool.settle(event(admission("r1"), 7))
        assert not spool.probe()
        disk.error = 0
        with pytest.raises(SpoolFull):
            spool.admit(admission("r3"))
        assert spool.probe()
        assert ids(settled_on_disk(tmp_path)) == ["r1"]
        spool.admit(admission("r4"))
        assert spool.open_calls == 1

    def test_every_partial_write_is_taken_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """NTH: the disk fills up at every byte of a record; what is in the files afterwards is whole."""
        length = 0
        for room in range(0, 400, 7):
            directory = tmp_path / str(room)
            with monkeypatch.context() as patched:
                spool = reopened(directory).spool
                spool.admit(admission("r1"))
                disk = Disk(patched)
                disk.room = room
                try:
                    spool.admit(admission("r2"))
                except SpoolFull:
                    length = room
                disk.room = 1 << 40
                assert spool.probe() or not spool.fault
                spool.settle(event(admission("r1"), 7))
            spool.close()
            again = reopened(directory, incarnation="i2")
            assert again.damaged_bytes == 0
            assert again.settled_calls == (room > length)
            again.spool.close()
        assert length > 100, "the loop met the record's whole length"

    def test_the_ballast_pays_for_settlements(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """F-41: on a full disk a settlement takes the space that was set aside; calls are refused all the same."""
        spool = reopened(tmp_path).spool
        spool.admit(admission("r1"))
        disk = Disk(monkeypatch)
        disk.room = 0
        unlink = Path.unlink

        def unlink_and_free(path: Path, missing_ok: bool = False) -> None:
            disk.room += path.stat().st_size if path.exists() else 0
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink_and_free)
        spool.settle(event(admission("r1"), 7))
        assert ids(settled_on_disk(tmp_path)) == ["r1"]
        with pytest.raises(SpoolFull):
            spool.admit(admission("r2"))
        disk.room = 1 << 20
        assert spool.probe()
        spool.admit(admission("r2"))

    async def test_a_failed_fsync_is_not_trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """R11: the kernel calls lost pages clean; this incarnation's leases will not be closed by a restart."""
        spool = reopened(tmp_path).spool

        def fails(_descriptor: int) -> None:
            raise OSError(5, os.strerror(5))

        spool.admit(admission("r1"))
        assert trust_path(tmp_path, "i1").exists()
        with monkeypatch.context() as patched:
            patched.setattr(LocalDisk, "sync", staticmethod(fails))
            await spool.sync()
        assert not trust_path(tmp_path, "i1").exists()
        with pytest.raises(SpoolFull):
            spool.admit(admission("r2"))
        before = spool.number
        assert spool.probe()
        assert spool.number == before + 1


def run_on(directory: Path, body: str, prefix: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python that has `spool`, in a process of its own."""
    program = f"""
import sys
from pathlib import Path
from sidecar.app.system import SystemClock
from sidecar.errors import SpoolFull
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.spool import SpoolOptions
from tests.support.calls import admission, event
options = SpoolOptions(ballast_bytes=65536, segment_bytes=131072)
spool = open_spool(Path({str(directory)!r}), SystemClock(), options, sidecar="s", incarnation="i1").spool
{body}
"""
    return subprocess.run(
        [*prefix, sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


FILL = """
admitted = []
try:
    for number in range(100_000):
        spool.admit(admission(f"r{number}"))
        admitted.append(f"r{number}")
except SpoolFull:
    pass
for name in admitted[:50]:
    spool.settle(event(admission(name), 1))
print(len(admitted), bool(spool.fault))
"""


READ_BACK = """
from sidecar.outbox.local_disk import LocalDisk
from sidecar.outbox.remains import read_remains
remains = read_remains(spool.directory, sidecar="s", pod_uid="", disk=LocalDisk())
print(len(remains.open) + remains.settled, remains.settled, remains.damaged_bytes)
"""


def test_a_full_tmpfs(tmp_path: Path) -> None:
    """F-41: a real disk of 1 MB; every call that was admitted is in the files, and fifty settlements still fit."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    inside = f'mount -t tmpfs -o size=1m none {mounted} && exec "$@"'
    if subprocess.run(["unshare", "-m", "sh", "-c", inside, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    ran = run_on(mounted / "outbox", FILL + READ_BACK, ["unshare", "-m", "sh", "-c", inside, "sh"])
    assert ran.returncode == 0, ran.stderr
    admitted, fault, *found = ran.stdout.split()
    assert int(admitted) > 1000
    assert fault == "True"
    assert found == [admitted, "50", "0"]


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    """F-41: EFBIG instead of ENOSPC: the same rules."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    ran = run_on(tmp_path / "outbox", limit + FILL.replace("admitted[:50]", "[]") + READ_BACK, [])
    assert ran.returncode == 0, ran.stderr
    admitted, fault, *found = ran.stdout.split()
    assert fault == "True"
    assert found == [admitted, "0", "0"]


def test_spool_is_the_port() -> None:
    """mypy holds the class against the protocol."""
    from sidecar.ports import Spool as Port

    port: type[Port] = Spool
    assert port is Spool
