"""A machine loses its power: its leases are spent to their marks, and the rest of them goes back at once (L46)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidecar.outbox.frames import scan
from sidecar.outbox.local_disk import LocalDisk
from sidecar.outbox.records import Marked, Noted, read_record
from sidecar.outbox.recovery import Recovery, open_spool
from sidecar.outbox.segments import segment_numbers, segment_path
from sidecar.outbox.spool import Spool, SpoolOptions
from tests.support.calls import admission, event
from tests.support.clock import FakeClock
from tests.support.scripted_ledger import AccountBook, CustomerBook, Lent, ScriptedLedger

BUDGET = "budget:b:lifetime:"
LEASE = f"i1/{BUDGET}"
OPTIONS = SpoolOptions(ballast_bytes=0)


class AfterPowerLoss(LocalDisk):
    """This machine's disk, under a kernel that was started anew."""

    def boot_id(self) -> str:
        return "another"


class Spender:
    """Wants the marks it is told to want, and hears of bounds."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, int | None]] = []
        self.bounds: dict[str, int | None] = {}

    def due(self) -> list[tuple[str, int | None]]:
        wanted, self.wanted = self.wanted, []
        return wanted

    def bounded(self, lease_id: str, atoms: int | None) -> None:
        self.bounds[lease_id] = atoms


def restarted(directory: Path, *, disk: LocalDisk | None = None, incarnation: str = "i2") -> Recovery:
    disk = AfterPowerLoss() if disk is None else disk
    return open_spool(directory, FakeClock(), OPTIONS, sidecar="s", incarnation=incarnation, disk=disk)


def lent(granted: int) -> ScriptedLedger:
    ledger = ScriptedLedger(FakeClock())
    ledger.customers["acme"] = CustomerBook(accounts={BUDGET: AccountBook(1000, leases={LEASE: Lent(granted)})})
    return ledger


def returned(ledger: ScriptedLedger) -> int:
    return ledger.customers["acme"].accounts[BUDGET].leases[LEASE].returned


async def marked(directory: Path, *marks: int | None) -> tuple[Spool, Spender]:
    """A lease of 500; one call settled at 70; then these marks, each brought to the disk."""
    spool = open_spool(directory, FakeClock(), OPTIONS, sidecar="s", incarnation="i1").spool
    spender = Spender()
    spool.attach(spender)
    spool.note_lease("acme", LEASE, 500, 0)
    spool.admit(admission("r1", 100, budgets=(LEASE,)))
    spool.settle(event(admission("r1", 100, budgets=(LEASE,)), 70))
    for mark in marks:
        spender.wanted = [(LEASE, mark)]
        assert await spool.sync()
    return spool, spender


async def every_call(recovery: Recovery, ledger: ScriptedLedger) -> bool:
    return await recovery.close_leases(ledger, all_booked=bool)


async def test_a_lease_is_closed_at_its_mark(tmp_path: Path) -> None:
    """L46, F-31b: of 500 lent 200 may be spent, so 300 go back; before, all 500 were out until a person spoke."""
    spool, _ = await marked(tmp_path, 200)
    spool._lock.release()
    recovery, ledger = restarted(tmp_path), lent(500)
    assert (recovery.spent_to_mark, recovery.surrendered) == ((LEASE,), ())
    assert await every_call(recovery, ledger)
    assert returned(ledger) == 300


async def test_without_a_mark_a_lease_is_left_alone(tmp_path: Path) -> None:
    """L46, R11: also where it had one and has none any more."""
    spool, _ = await marked(tmp_path, 200, None)
    spool._lock.release()
    recovery, ledger = restarted(tmp_path), lent(500)
    assert (recovery.spent_to_mark, recovery.surrendered) == ((), (LEASE,))
    assert await every_call(recovery, ledger)
    assert returned(ledger) == 0


async def test_after_a_kill_nothing_changes(tmp_path: Path) -> None:
    """L46, F-31: the files are whole, and say to the atom what is spent; the mark is not looked at."""
    spool, _ = await marked(tmp_path, 200)
    spool._lock.release()
    recovery, ledger = restarted(tmp_path, disk=LocalDisk()), lent(500)
    assert (recovery.spent_to_mark, recovery.surrendered) == ((), ())
    assert await every_call(recovery, ledger)
    assert returned(ledger) == 430


async def test_what_is_not_booked_keeps_what_was_never_heard_of(tmp_path: Path) -> None:
    """L46: a lease whose note was lost with the end is not found to be free because all known calls are booked."""
    spool, _ = await marked(tmp_path, 200)
    spool._lock.release()
    recovery, ledger = restarted(tmp_path), lent(500)
    ledger.customers["acme"].accounts[BUDGET].leases["i1/lost"] = Lent(100)
    assert await every_call(recovery, ledger)
    assert ledger.customers["acme"].accounts[BUDGET].leases["i1/lost"].returned == 0


async def test_what_the_files_say_counts_where_it_is_more(tmp_path: Path) -> None:
    """L46, L17: a call above its hold passes the mark; its settlement survived."""
    spool, _ = await marked(tmp_path, 60)
    spool._lock.release()
    recovery, ledger = restarted(tmp_path), lent(500)
    assert await every_call(recovery, ledger)
    assert returned(ledger) == 430


async def test_a_mark_bounds_from_when_it_may_be_found(tmp_path: Path) -> None:
    """L46: a lower one before its sync, a higher one after it; one of a sync that failed not at all."""
    spool, spender = await marked(tmp_path, 200)
    assert spender.bounds == {LEASE: 200}
    spender.wanted = [(LEASE, 300)]
    seen: list[int | None] = []
    sync_all = spool._sync_all

    def look(done: list[int], current: int, new_names: bool) -> None:
        seen.append(spender.bounds[LEASE])
        sync_all(done, current, new_names)

    def fail(*_some: object) -> None:
        raise OSError(5, "Input/output error")

    spool._sync_all = look  # type: ignore[method-assign]
    assert await spool.sync()
    assert (seen, spender.bounds) == ([200], {LEASE: 300})
    spool._sync_all = fail  # type: ignore[method-assign,assignment]
    spender.wanted = [(LEASE, 400)]
    assert not await spool.sync()
    assert spender.bounds == {LEASE: 300}
    spool._sync_all = sync_all  # type: ignore[method-assign]
    assert spool.probe()  # the next segment has what was last written
    assert await spool.sync()
    assert spender.bounds == {LEASE: 400}


async def test_a_lease_at_rest_is_bounded_until_its_end_is_on_the_disk(tmp_path: Path) -> None:
    """L46: its end and what is lent anew may both be lost, and the old mark found."""
    spool, _ = await marked(tmp_path, 200)
    spool.note_ended(LEASE)
    assert spool.note_lease("acme", LEASE, 900, 70) == 200
    await spool.sync()
    assert spool.note_lease("acme", LEASE, 1000, 70) is None


@pytest.mark.parametrize("at", ["before", "behind"])
async def test_damage_is_a_lost_end_only_behind_what_was_synced(tmp_path: Path, at: str) -> None:
    """L46, F-42, R11: a torn record that a sync had covered is no power loss's, and no mark is believed."""
    spool, spender = await marked(tmp_path, 200)
    synced = spool.size
    spender.wanted = [(LEASE, 210)]
    await spool.sync()  # its record says how far the one before came
    spool.admit(admission("r2", 10, budgets=(LEASE,)))
    spool._lock.release()
    path = segment_path(tmp_path, spool.number)
    data = bytearray(path.read_bytes())
    data[synced - 3 if at == "before" else -3] ^= 0x10
    path.write_bytes(data)
    recovery = restarted(tmp_path)
    assert recovery.surrendered == ((LEASE,) if at == "before" else ())


async def test_another_start_killed_before_it_closed_them(tmp_path: Path) -> None:
    """L46, F-31b: the third start finds the same marks, in files of which the first are older than the power loss."""
    spool, _ = await marked(tmp_path, 200)
    spool._lock.release()
    second = restarted(tmp_path)
    second.spool._lock.release()
    third, ledger = restarted(tmp_path, incarnation="i3"), lent(500)
    assert third.spent_to_mark == (LEASE,)
    assert await every_call(third, ledger)
    assert returned(ledger) == 300


BODY = """
import asyncio, sys
from pathlib import Path
from sidecar.app.system import SystemClock
from sidecar.contract.messages import AccountReading, LeaseGrant
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.keeper import Keeper
from sidecar.leases.options import KeeperOptions
from sidecar.leases.table import Held, LeaseTable
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.spool import SpoolOptions
from tests.support.calls import admission, event

BUDGET, LEASE = "budget:b:lifetime:", "i1/budget:b:lifetime:"
STANDING = Standing(
    "acme", (), "", Wallet.NONE, "usd", (Budget("b", "usd", 10**9, Cadence.LIFETIME),), (), "p@1", 1, 60_000
)


class NoCourier:
    booked_before = 0.0
    def wake(self): pass
    async def flush(self, timeout_s): return True


async def main():
    clock, table = SystemClock(), LeaseTable()
    options = SpoolOptions(ballast_bytes=0, segment_bytes=100_000)
    spool = open_spool(Path(sys.argv[1]), clock, options, sidecar="s", incarnation="i1").spool
    keeper = Keeper(
        None, table, clock, notes=spool, courier=NoCourier(), sidecar="s", incarnation="i1",
        options=KeeperOptions(mark_cover_s=0.2),
    )
    spool.attach(keeper.marks)
    keeper.marks.attach(spool)
    now = clock.monotonic()
    reading = AccountReading(BUDGET, "budget", "b", "", 10**9, 0, 10**8, 0, 0)
    for lease in table.merge("acme", [LeaseGrant(LEASE, 10**8, 10**9)], [reading], sent_at=now, now=now):
        lease.set_durable(spool.note_lease("acme", LEASE, lease.granted, 0))
    synced = spool._marks.synced

    def note_synced(until):
        print("synced", *until, flush=True)
        synced(until)

    spool._marks.synced = note_synced
    running = asyncio.create_task(spool.run())
    number = 0
    while True:
        if number % 100 == 50:
            keeper._renewal.refresh()
        taken = table.take(
            STANDING, Subject("acme"), model="m", provider="p", atoms=10, now=clock.monotonic()
        )
        if not isinstance(taken, Held):
            assert await keeper.marks.lift(keeper.marks.binds(taken), 60.0)
            continue
        call = admission(f"r{number}", 10, budgets=(LEASE,))
        spool.admit(call)
        table.settle(taken, 4)
        spool.settle(event(call, 4))
        number += 1
        print("calls", number, flush=True)
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


def last_mark(directory: Path) -> int | None:
    """The last that is found."""
    found: int | None = None
    for number in segment_numbers(directory):
        for span in scan(segment_path(directory, number).read_bytes()):
            record = None if span.payload is None else read_record(span.payload)
            if isinstance(record, Marked):
                found = dict(record.marks).get(LEASE, found)
            elif isinstance(record, Noted):
                found = record.tally.mark_atoms
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_a_process_that_spends_is_never_found_to_have_spent_less(tmp_path: Path, seed: int) -> None:
    """L46, F-31b: killed while it spends, its files cut where they were when its last sync began.

    Under another boot id than the one in their headers. The lease, of a hundred million, is closed at its mark, at
    most what it may have spent some tenths of a second later.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", BODY, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    if process.stdout is None:
        raise RuntimeError("no standard output")
    lines = [process.stdout.readline()]
    while lines[-1] != f"calls {400 + 50 * seed}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended by itself"
    time.sleep(0.01 * seed)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    said = [line.split() for line in lines if line.endswith("\n")]
    calls = max(int(words[1]) for words in said if words[0] == "calls")
    segment, size = [(int(words[1]), int(words[2])) for words in said if words[0] == "synced"][-1]
    for number in segment_numbers(tmp_path):
        if number > segment:
            segment_path(tmp_path, number).unlink()
    os.truncate(segment_path(tmp_path, segment), size)
    mark = last_mark(tmp_path)
    recovery = restarted(tmp_path)
    if mark is None:
        assert recovery.surrendered == (LEASE,)
        return
    assert recovery.spent_to_mark == (LEASE,)
    assert 4 * calls <= recovery.spool.leases[LEASE].spent_atoms < 100_000
