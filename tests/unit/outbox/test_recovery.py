"""Starting again: open calls are settled, leases closed to the atom, and doubtful files surrender."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sidecar.core.governance.decisions import Source
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.outbox.cursor import Cursor, Position
from sidecar.outbox.frames import scan
from sidecar.outbox.local_disk import LocalDisk
from sidecar.outbox.records import Settled, read_record
from sidecar.outbox.recovery import Recovery, open_spool
from sidecar.outbox.remains import read_remains
from sidecar.outbox.segments import segment_numbers, segment_path, trust_path
from sidecar.outbox.shipper import Shipper, ShipperOptions
from sidecar.outbox.spool import Spool, SpoolOptions
from tests.support.calls import admission, event, read_back
from tests.support.clock import FakeClock
from tests.support.scripted_ledger import AccountBook, CustomerBook, Lent, ScriptedLedger

BUDGET = "budget:b:lifetime:"
GRANT = "grant:g"
OPTIONS = SpoolOptions(ballast_bytes=0, pod_uid="pod")


def opened(directory: Path, incarnation: str, clock: FakeClock | None = None) -> Recovery:
    return open_spool(directory, clock or FakeClock(), OPTIONS, sidecar="s", incarnation=incarnation)


def die(spool: Spool) -> None:
    """The process is gone: its lock is free, nothing else was done."""
    spool._lock.release()


def lent(granted: int, incarnation: str = "i1") -> ScriptedLedger:
    """A ledger that lent this much on a budget and on a grant."""
    ledger = ScriptedLedger(FakeClock())
    accounts = {name: AccountBook(1000, leases={f"{incarnation}/{name}": Lent(granted)}) for name in (BUDGET, GRANT)}
    ledger.customers["acme"] = CustomerBook(accounts=accounts)
    return ledger


def first_life(directory: Path) -> Spool:
    """Two leases of 500; one call settled at 70 of 100 held, one left open."""
    spool = opened(directory, "i1").spool
    for name in (BUDGET, GRANT):
        spool.note_lease("acme", f"i1/{name}", 500, 0)
    for name in ("r1", "r2"):
        spool.admit(admission(name, 100, budgets=(f"i1/{BUDGET}",), slices=((f"i1/{GRANT}", 100),)))
    spool.settle(event(admission("r1", 100, budgets=(f"i1/{BUDGET}",)), 70, ((f"i1/{GRANT}", 70),)))
    return spool


class SyncedDisk(LocalDisk):
    """This machine's disk, which notes what is brought to it."""

    def __init__(self) -> None:
        self.synced: set[str] = set()

    def sync(self, descriptor: int) -> None:  # type: ignore[override]
        self.synced.add(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        os.fdatasync(descriptor)


def test_what_a_killed_process_only_wrote_is_brought_to_the_disk(tmp_path: Path) -> None:
    """L49: the kernel has it and the disk may not; a power loss after the next start must not take it (seed 237)."""
    die(first_life(tmp_path))
    left = {segment_path(tmp_path, number).name for number in segment_numbers(tmp_path)}
    disk = SyncedDisk()
    open_spool(tmp_path, FakeClock(), OPTIONS, sidecar="s", incarnation="i2", disk=disk)
    assert left <= disk.synced


def test_a_report_cut_off_between_its_two_writes_is_settled_as_it_said(tmp_path: Path) -> None:
    """L27, L49: its admission has the body, so the next start books what was used, and its key can be answered."""
    spool = opened(tmp_path, "i1").spool
    usage = Usage(UsageState.FINAL, units={"steps": 2}, raw=b"{}")
    spool.admit(msgspec.structs.replace(admission("r1", 100), reported=usage))
    die(spool)
    with_report = opened(tmp_path, "i2")
    assert with_report.settled_calls == 1
    found = [one.event() for one in settled_in(tmp_path)]
    assert [(one.usage, one.charge_atoms, one.flags) for one in found] == [(usage, 100, ("crash",))]


def settled_in(directory: Path) -> list[Settled]:
    """Every settlement in an outbox's files."""
    found: list[Settled] = []
    for number in segment_numbers(directory):
        payloads = [span.payload for span in scan(segment_path(directory, number).read_bytes()) if span.payload]
        found += [one for one in map(read_record, payloads) if isinstance(one, Settled)]
    return found


def every_call(incarnation: str) -> bool:
    """The ledger has booked all calls of any."""
    return bool(incarnation)


def not_every_call(incarnation: str) -> bool:
    """The ledger lacks calls of any."""
    return not incarnation


class TestOpenCalls:
    def test_an_open_call_is_settled_at_its_whole_hold(self, tmp_path: Path) -> None:
        """L25, L49, F-31: nobody knows what became of it; it is flagged, so that evidence can lower it."""
        die(first_life(tmp_path))
        clock = FakeClock()
        clock.advance(30.0)
        recovery = opened(tmp_path, "i2", clock)
        assert recovery.settled_calls == 1
        batch = Shipper(ScriptedLedger(clock), recovery.spool, clock, ShipperOptions())._read_batch()
        found = {each.admission.request_id: each for each in read_back(batch.events)}
        assert set(found) == {"r1", "r2"}
        left = found["r2"]
        assert (left.charge_atoms, left.paid, left.ending) == (100, ((f"i1/{GRANT}", 100),), "abandoned")
        assert left.flags == ("estimated", "crash")
        assert left.usage.state is UsageState.ABSENT
        assert left.duration_ms == 30_000

    def test_a_call_without_a_price_stays_without(self, tmp_path: Path) -> None:
        """L5: there is no charge to estimate."""
        spool = opened(tmp_path, "i1").spool
        spool.admit(admission("r1", 0, source=Source.UNPRICED))
        die(spool)
        recovery = opened(tmp_path, "i2")
        clock = FakeClock()
        found = Shipper(ScriptedLedger(clock), recovery.spool, clock, ShipperOptions())._read_batch().events
        assert [(one.charge_atoms, one.flags) for one in read_back(found)] == [
            (None, ("estimated", "crash", "unpriced"))
        ]

    def test_it_is_settled_once(self, tmp_path: Path) -> None:
        """L20: a further restart finds nothing open."""
        die(first_life(tmp_path))
        die(opened(tmp_path, "i2").spool)
        recovery = opened(tmp_path, "i3")
        assert recovery.settled_calls == 0


def test_who_made_a_kept_answer_is_known_after_a_restart(tmp_path: Path) -> None:
    """S-31: of a protocol whose answers come back by their id; the first who had it keeps it."""
    spool = opened(tmp_path, "i1").spool
    for name, protocol, customer, answer_id in (
        ("r1", "openai.responses", "acme", "resp_1"), ("r2", "openai.responses", "eve", "resp_1"),
        ("r3", "openai.chat", "acme", "chatcmpl-1"), ("r4", "gemini.interactions", "eve", "int_1"),
    ):  # fmt: skip
        asked = admission(name, 10)
        subject = msgspec.structs.replace(asked.subject, customer=customer)
        asked = msgspec.structs.replace(asked, protocol=protocol, provider="p", subject=subject)
        spool.admit(asked)
        used = Usage(UsageState.FINAL, provider_request_id=answer_id)
        spool.settle(msgspec.structs.replace(event(asked, 5), usage=used))
    die(spool)
    assert opened(tmp_path, "i2").made == {("p", "resp_1"): "acme", ("p", "int_1"): "eve"}


class TestLeases:
    async def test_they_are_closed_to_the_atom(self, tmp_path: Path) -> None:
        """L46: granted − what is charged comes back: 500 − 70 − 100; the new run admits on none of it."""
        die(first_life(tmp_path))
        ledger = lent(500)
        recovery = opened(tmp_path, "i2")
        assert await recovery.close_leases(ledger, all_booked=every_call)
        for name in (BUDGET, GRANT):
            lease = ledger.account(name).leases[f"i1/{name}"]
            assert (lease.returned, lease.closed) == (330, True)
        assert ledger.ended == ["i1"]
        assert recovery.spool.leases == {}
        assert not trust_path(tmp_path, "i1").exists()
        clock = FakeClock()
        assert await Shipper(ledger, recovery.spool, clock, ShipperOptions()).flush(1.0)
        assert ledger.account(BUDGET).used == 170
        assert ledger.account(BUDGET).leases[f"i1/{BUDGET}"].escrow == 0

    async def test_what_was_lent_and_never_heard_of_comes_back_too(self, tmp_path: Path) -> None:
        """L42: the dead process knew of 500, the ledger had lent 800."""
        die(first_life(tmp_path))
        ledger = lent(800)
        assert await opened(tmp_path, "i2").close_leases(ledger, all_booked=every_call)
        assert ledger.account(BUDGET).leases[f"i1/{BUDGET}"].returned == 630

    async def test_a_lease_it_never_heard_of_comes_back_whole(self, tmp_path: Path) -> None:
        """L42, L46: killed between the ledger's commit and the note of it, nobody else would ever return it."""
        die(first_life(tmp_path))
        ledger = lent(500)
        ledger.account(BUDGET).leases["i1/unheard"] = Lent(40)
        assert await opened(tmp_path, "i2").close_leases(ledger, all_booked=every_call)
        assert ledger.account(BUDGET).leases["i1/unheard"] == Lent(40, 40, 0, True)

    async def test_so_it_does_where_nothing_else_was_lent(self, tmp_path: Path) -> None:
        """The whole life of the dead process was one question whose answer it never heard."""
        die(opened(tmp_path, "i1").spool)
        ledger = ScriptedLedger(FakeClock())
        ledger.customers["acme"] = CustomerBook(accounts={BUDGET: AccountBook(1000, leases={f"i1/{BUDGET}": Lent(40)})})
        assert await opened(tmp_path, "i2").close_leases(ledger, all_booked=every_call)
        assert ledger.account(BUDGET).leases[f"i1/{BUDGET}"].closed

    async def test_a_lease_it_never_heard_of_stays_while_calls_are_not_booked(self, tmp_path: Path) -> None:
        """L42: what is spent and not posted would be free twice."""
        die(first_life(tmp_path))
        ledger = lent(500)
        ledger.account(BUDGET).leases["i1/unheard"] = Lent(40)
        assert await opened(tmp_path, "i2").close_leases(ledger, all_booked=not_every_call)
        assert ledger.account(BUDGET).leases["i1/unheard"] == Lent(40)

    async def test_it_goes_on_until_the_ledger_answers(self, tmp_path: Path) -> None:
        """Also over further restarts, in which each earlier run is closed for itself."""
        die(first_life(tmp_path))
        ledger = lent(500)
        ledger.away = True
        second = opened(tmp_path, "i2")
        assert not await second.close_leases(ledger, all_booked=every_call)
        second.spool.note_lease("acme", f"i2/{BUDGET}", 50, 0)
        die(second.spool)
        ledger.away = False
        ledger.account(BUDGET).leases[f"i2/{BUDGET}"] = Lent(50)
        third = opened(tmp_path, "i3")
        assert await third.close_leases(ledger, all_booked=every_call)
        assert sorted(ledger.ended) == ["i1", "i2"]
        assert ledger.account(BUDGET).leases[f"i1/{BUDGET}"].returned == 330
        assert ledger.account(BUDGET).leases[f"i2/{BUDGET}"].returned == 50

    async def test_totals_survive_the_deletion_of_old_segments(self, tmp_path: Path) -> None:
        """L46: every segment begins with the leases' totals; what is deleted is in them."""
        options = SpoolOptions(ballast_bytes=0, segment_bytes=2048, retain_s=0.0, pod_uid="pod")
        clock = FakeClock(4_000_000_000_000)
        spool = open_spool(tmp_path, clock, options, sidecar="s", incarnation="i1").spool
        for name in (BUDGET, GRANT):
            spool.note_lease("acme", f"i1/{name}", 500, 0)
        for number in range(40):
            call = admission(f"r{number}", 10, budgets=(f"i1/{BUDGET}",))
            spool.admit(call)
            spool.settle(event(call, 5, ((f"i1/{GRANT}", 5),)))
        Cursor(tmp_path).move(Position(spool.number), "book", 1)
        spool.discard(spool.number)
        assert segment_numbers(tmp_path) == [spool.number]
        assert spool.number > 5
        die(spool)
        ledger = lent(500)
        assert await opened(tmp_path, "i2").close_leases(ledger, all_booked=every_call)
        for name in (BUDGET, GRANT):
            assert ledger.account(name).leases[f"i1/{name}"].returned == 300

    async def test_after_a_clean_stop_nothing_is_open(self, tmp_path: Path) -> None:
        """Everything was closed; the next start has nothing to do and nothing to complain of."""
        spool = first_life(tmp_path)
        spool.settle(event(admission("r2", 100), 0))
        for name in (BUDGET, GRANT):
            spool.note_ended(f"i1/{name}")
        spool.close()
        recovery = opened(tmp_path, "i2")
        assert (recovery.settled_calls, recovery.surrendered, recovery.damaged_bytes) == (0, (), 0)
        ledger = lent(500)
        assert await recovery.close_leases(ledger, all_booked=every_call)
        assert [(sync.parts, sync.ended) for sync in ledger.syncs] == [((), True)]  # should it not have heard


def reboot(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalDisk, "boot_id", staticmethod(lambda: "another"))


def copy(directory: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes in other files, as from a copied volume."""
    for number in segment_numbers(directory):
        path = segment_path(directory, number)
        shutil.copy2(path, path.with_suffix(".copy"))
        path.with_suffix(".copy").replace(path)


def tear(directory: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    path = segment_path(directory, 1)
    path.write_bytes(path.read_bytes()[:-3])


def flip(directory: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    path = segment_path(directory, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def fail(directory: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    trust_path(directory, "i1").unlink()


class TestDoubt:
    @pytest.mark.parametrize("harm", [reboot, copy, tear, flip, fail])
    async def test_doubtful_files_surrender_their_leases(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        harm: Callable[[Path, pytest.MonkeyPatch], None],
    ) -> None:
        """L46, R11, F-31b: they are left alone at the ledger, and said once; calls found open are settled."""
        die(first_life(tmp_path))
        harm(tmp_path, monkeypatch)
        ledger = lent(500)
        recovery = opened(tmp_path, "i2")
        assert set(recovery.surrendered) == {f"i1/{BUDGET}", f"i1/{GRANT}"}
        assert "leases_surrendered" in caplog.text
        assert await recovery.close_leases(ledger, all_booked=every_call)
        assert ledger.syncs == []
        # torn off is the settlement of the first call, flipped the admission of the second
        assert recovery.settled_calls == {"tear": 2, "flip": 0}.get(harm.__name__, 1)
        die(recovery.spool)
        assert opened(tmp_path, "i3").surrendered == ()

    def test_another_pods_files_surrender(self, tmp_path: Path) -> None:
        """L46: the same volume under another pod."""
        die(first_life(tmp_path))
        options = SpoolOptions(ballast_bytes=0, pod_uid="other")
        recovery = open_spool(tmp_path, FakeClock(), options, sidecar="s", incarnation="i2")
        assert len(recovery.surrendered) == 2

    def test_a_missing_segment_surrenders(self, tmp_path: Path) -> None:
        """A file between two others is gone."""
        spool = first_life(tmp_path)
        spool._begin_segment()
        spool._begin_segment()
        die(spool)
        segment_path(tmp_path, 2).unlink()
        assert len(opened(tmp_path, "i2").surrendered) == 2

    def test_a_file_that_was_only_begun_is_no_damage(self, tmp_path: Path) -> None:
        """Killed between making a segment and its first record."""
        die(first_life(tmp_path))
        segment_path(tmp_path, 2).touch()
        recovery = opened(tmp_path, "i2")
        assert recovery.surrendered == ()

    def test_every_flipped_byte_keeps_the_other_calls(self, tmp_path: Path) -> None:
        """F-42, F-43: each byte of a real segment in turn; no call is lost that stands in an undamaged record."""
        spool = opened(tmp_path / "good", "i1").spool
        for number in range(3):
            spool.admit(admission(f"r{number}"))
        die(spool)
        data = segment_path(tmp_path / "good", 1).read_bytes()
        directory = tmp_path / "bad"
        directory.mkdir()
        for at in range(len(data)):
            damaged = bytearray(data)
            damaged[at] ^= 0x10
            segment_path(directory, 1).write_bytes(damaged)
            found = read_remains(directory, sidecar="s", pod_uid="pod", disk=LocalDisk())
            assert len(found.open) >= 2, at
            assert found.damaged_spans == 1
        assert any((directory / "damaged").iterdir())


BODY = """
import sys
from pathlib import Path
from sidecar.app.system import SystemClock
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.spool import SpoolOptions
from tests.support.calls import admission, event, read_back
directory, incarnation = Path(sys.argv[1]), sys.argv[2]
options = SpoolOptions(segment_bytes=16384, ballast_bytes=0)
spool = open_spool(directory, SystemClock(), options, sidecar="s", incarnation=incarnation).spool
lease = f"{incarnation}/budget:b:lifetime:"
spool.note_lease("acme", lease, 1_000_000_000, 0)
number = 0
while True:
    call = admission(f"{incarnation}-{number}", 10, budgets=(lease,))
    spool.admit(call)
    print(f"admitted {call.request_id}", flush=True)
    if number % 3:
        spool.settle(event(call, 4))
        print(f"settled {call.request_id}", flush=True)
    number += 1
"""


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_a_random_moment(tmp_path: Path, seed: int) -> None:
    """L46, L49: whatever was said to be written is there after `kill -9`, the tallies add up, nothing is torn."""
    chance = random.Random(seed)
    lines: list[str] = []
    for life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", BODY, str(tmp_path), f"i{life}"], stdout=subprocess.PIPE, text=True
        )
        if process.stdout is None:
            raise RuntimeError("no standard output")
        lines.append(process.stdout.readline())
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
    said: dict[str, set[str]] = {"admitted": set(), "settled": set()}
    for line in lines:
        if line.endswith("\n"):
            verb, name = line.split()
            said[verb].add(name)
    recovery = open_spool(tmp_path, FakeClock(), SpoolOptions(ballast_bytes=0), sidecar="s", incarnation="i9")
    assert recovery.damaged_bytes == 0
    assert recovery.surrendered == ()
    clock = FakeClock()
    shipper = Shipper(ScriptedLedger(clock), recovery.spool, clock, ShipperOptions())
    charges: dict[str, int] = {}
    while events := (batch := shipper._read_batch()).events:
        shipper._cursor.position = batch.end
        charges |= {one.admission.request_id: one.charge_atoms or 0 for one in read_back(events)}
    assert said["admitted"] <= set(charges)
    assert all(charges[name] == 4 for name in said["settled"])
    for life in range(2):
        tally = recovery.spool.leases[f"i{life}/budget:b:lifetime:"].spent_atoms
        assert tally == sum(atoms for name, atoms in charges.items() if name.startswith(f"i{life}-"))


class NamingDisk(LocalDisk):
    """This machine's disk, which notes in what order names and contents are brought to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def sync(self, descriptor: int) -> None:  # type: ignore[override]
        self.done.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)

    def sync_names(self, directory: Path) -> None:
        self.done.append(f"names {len(segment_numbers(directory))}")


async def test_a_files_name_is_brought_to_the_disk_before_its_contents(tmp_path: Path) -> None:
    """L49, F-31b: a synced file without a name is lost; also the first of a start, and one begun in the meantime."""
    disk = NamingDisk()
    options = SpoolOptions(ballast_bytes=0, segment_bytes=2000)
    spool = open_spool(tmp_path, FakeClock(), options, sidecar="s", incarnation="i1", disk=disk).spool
    spool.admit(admission("r1", 100))
    await spool.sync()
    assert disk.done == ["names 0", "names 1", "00000001.seg"]
    disk.done.clear()
    await spool.sync()
    assert disk.done == ["00000001.seg"]  # nothing new is named
    disk.done.clear()
    while spool.number == 1:
        spool.admit(admission(f"more{spool.open_calls}", 100))
    await spool.sync()
    assert disk.done == ["names 2", "00000001.seg", "00000002.seg"]


async def test_a_lost_files_number_is_not_given_again(tmp_path: Path) -> None:
    """L49, F-31b: the ledger has acknowledged a part of a segment whose name was lost; the next one is another.

    Otherwise what stands in it before that place would never be sent. Nor does the gap cast doubt on its leases.
    """
    first = opened(tmp_path, "i1").spool
    for number in range(20):
        first.admit(admission(f"r{number}", 1))
        first.settle(event(admission(f"r{number}", 1), 1))
    ledger = lent(500, "i2")
    shipper = Shipper(ledger, first, FakeClock(), ShipperOptions())
    assert await shipper.flush(5.0)
    die(first)
    segment_path(tmp_path, first.number).unlink()
    second = opened(tmp_path, "i2").spool
    second.note_lease("acme", f"i2/{BUDGET}", 500, 0)
    second.admit(admission("new", 1))
    second.settle(event(admission("new", 1), 1))
    again = Shipper(ledger, second, FakeClock(), ShipperOptions())
    assert again.depth == 1
    assert await again.flush(5.0)
    assert again.depth == 0
    assert "new" in ledger.booked
    die(second)
    assert opened(tmp_path, "i3").surrendered == ()


def test_a_segment_lost_from_among_others_casts_doubt(tmp_path: Path) -> None:
    """L46: what it had of the leases is not known, however the numbers go on."""
    options = SpoolOptions(ballast_bytes=0, segment_bytes=2000, pod_uid="pod")
    spool = open_spool(tmp_path, FakeClock(), options, sidecar="s", incarnation="i1").spool
    spool.note_lease("acme", f"i1/{BUDGET}", 500, 0)
    while spool.number < 4:
        spool.admit(admission(f"r{spool.open_calls}", 100))
    die(spool)
    segment_path(tmp_path, 2).unlink()
    assert opened(tmp_path, "i2").surrendered == (f"i1/{BUDGET}",)
