"""Durable marks: whatever of the unsynced end a power loss leaves, a lease is found no less spent than it was (L46)."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.contract.messages import AccountReading, LeaseGrant
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.marks import Marks
from sidecar.leases.table import Held, LeaseTable
from sidecar.outbox.local_disk import LocalDisk
from sidecar.outbox.marks import Bounds
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.segments import segment_numbers, segment_path
from sidecar.outbox.spool import Spool, SpoolOptions
from tests.support.calls import admission, event
from tests.support.clock import FakeClock

WRITE = st.tuples(st.just("write"), st.one_of(st.none(), st.integers(0, 50)))
STEPS = st.lists(st.one_of(WRITE, WRITE, st.tuples(st.sampled_from(["begin", "done", "fail"]), st.none())), max_size=40)


@settings(max_examples=500, deadline=None)
@given(steps=STEPS)
def test_a_bound_is_never_above_a_mark_that_could_be_found(steps: list[tuple[str, int | None]]) -> None:
    """L46: of every part of the files that may survive, at every step, the last mark is at least the bound."""
    bounds = Bounds()
    files: list[int | None] = [None]  # a lease begins without a mark
    certain = syncing = 0  # what surely survives: up to this record
    for step, mark in steps:
        if step == "write":
            bounds.said("a", mark)
            files.append(mark)
        elif step == "begin":
            bounds.begin_sync()
            syncing = len(files) - 1
        elif step == "done":
            for _, bound in bounds.synced():
                assert bound == bounds.of("a")
            certain = max(certain, syncing)
        else:
            # Whatever was not certain may be gone, or stand there; nothing of it is made certain by a later sync.
            bounds.failed()
            syncing = certain
        bound = bounds.of("a")
        for found in files[certain:]:
            assert found is None or (bound is not None and bound <= found), (steps, files, certain)


@given(marks=st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1))
def test_a_bound_is_the_mark_that_is_on_the_disk(marks: list[int | None]) -> None:
    """L46: once all is synced nothing is kept back for marks that were overruled."""
    bounds = Bounds()
    for mark in marks:
        bounds.said("a", mark)
    bounds.begin_sync()
    bounds.synced()
    assert bounds.of("a") == marks[-1]


LEASE = "i1/budget:b:lifetime:"
SUBJECT = Subject("acme")
BUDGET = Budget("b", "usd", 10**6, Cadence.LIFETIME)
STANDING = Standing("acme", (), "", Wallet.NONE, "usd", (BUDGET,), (), "p@1", 1, 60_000)
OPTIONS = SpoolOptions(ballast_bytes=0, segment_bytes=3000)


class SlowDisk(LocalDisk):
    """This machine's disk; what of a file was there when its sync began is safe once that ends, if it does."""

    def __init__(self) -> None:
        self.boot = "one"
        self.safe: dict[str, int] = {}
        self.named: set[str] = set()
        self.fails = False
        self.entered = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def boot_id(self) -> str:
        return self.boot

    @staticmethod
    def identity(_found: os.stat_result) -> tuple[int, int]:
        """As if the copy were the volume itself."""
        return 1, 1

    def sync(self, descriptor: int) -> None:  # type: ignore[override]
        name, size = Path(f"/proc/self/fd/{descriptor}").resolve().name, os.fstat(descriptor).st_size
        self.entered.set()
        self.may_end.wait()
        if self.fails:
            raise OSError(5, "Input/output error")
        self.safe[name] = max(self.safe.get(name, 0), size)

    def sync_names(self, directory: Path) -> None:
        self.named |= {path.name for path in directory.glob("*.seg")}


class Machine:
    """One sidecar's outbox and table on a disk that may lose what was not synced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.disk = SlowDisk()
        self.spool: Spool = open_spool(
            folder / "outbox", self.clock, OPTIONS, sidecar="s", incarnation="i1", disk=self.disk
        ).spool
        self.table = LeaseTable()
        self.marks = Marks(self.table, self.clock.monotonic, 1.0)
        self.marks.attach(self.spool)
        self.spool.attach(self.marks)
        self.table.on_low = self.marks.passed  # type: ignore[assignment]
        self.open: list[Held] = []
        self.granted = self.calls = self.losses = 0
        self.sync: asyncio.Task[bool] | None = None

    def lend(self, atoms: int) -> None:
        self.granted += atoms
        now = self.clock.monotonic()
        lease = self.table.lease(LEASE)
        escrow = self.granted - (0 if lease is None else lease.spent)
        reading = AccountReading("budget:b:lifetime:", "budget", "b", "", 10**6, 0, escrow, 0, 0)
        grown = self.table.merge("acme", [LeaseGrant(LEASE, self.granted, 10**9)], [reading], sent_at=now, now=now)
        for lease in grown:
            lease.set_durable(self.spool.note_lease("acme", LEASE, lease.granted, lease.spent))

    def take(self, atoms: int) -> None:
        now = self.clock.monotonic()
        held = self.table.take(STANDING, SUBJECT, model="m", provider="p", atoms=atoms, now=now)
        if isinstance(held, Held):
            self.calls += 1
            self.spool.admit(admission(f"r{self.calls}", atoms, budgets=(LEASE,)))
            self.open.append(held)

    def settle(self, share: int) -> None:
        if self.open:
            held = self.open.pop(0)
            charge = held.atoms * share // 100
            self.table.settle(held, charge)
            self.spool.settle(event(admission(f"r{self.calls - len(self.open)}", held.atoms, budgets=(LEASE,)), charge))

    def look(self) -> None:
        self.clock.advance(5.0)
        lease = self.table.lease(LEASE)
        if lease is not None:
            elapsed = self.clock.monotonic() - lease.rated_at
            lease.rate, lease.rated_at = (lease.spent - lease.rated_spent) / elapsed, self.clock.monotonic()
            lease.rated_spent = lease.spent
            self.marks.look(lease)
            lease.peak, lease.peak_before = lease.held, lease.peak

    async def begin_sync(self) -> None:
        if self.sync is None:
            self.disk.entered.clear()
            self.disk.may_end.clear()
            self.sync = asyncio.create_task(self.spool.sync())
            await asyncio.to_thread(self.disk.entered.wait)

    async def end_sync(self, fails: bool) -> None:
        if self.sync is None:
            return
        self.disk.fails = fails
        self.disk.may_end.set()
        await self.sync
        self.disk.fails, self.sync = False, None
        if self.spool.fault:
            self.spool.probe()

    def lose_power(self, part: int) -> None:
        """Look at what the next start would find, had the power been lost just now."""
        self.losses += 1
        copy = self.folder / f"loss{self.losses}"
        shutil.copytree(self.folder / "outbox", copy)
        for number in segment_numbers(copy):
            path = segment_path(copy, number)
            size, safe = path.stat().st_size, self.disk.safe.get(path.name, 0)
            if path.name not in self.disk.named and part % 3 == 0:
                path.unlink()
            else:
                os.truncate(path, safe + (size - safe) * part // 100)
        after = SlowDisk()
        after.boot = "two"
        found = open_spool(copy, self.clock, OPTIONS, sidecar="s", incarnation="i2", disk=after)
        lease = self.table.lease(LEASE)
        if found.spent_to_mark and lease is not None:
            tally = found.spool.leases[LEASE].spent_atoms
            assert lease.spent + lease.held <= tally
        else:
            assert LEASE not in found.spool.leases  # all of it stays out
        found.spool.close()
        shutil.rmtree(copy)


ACTS = st.one_of(
    st.tuples(st.just("lend"), st.integers(50, 2000)),
    st.tuples(st.just("take"), st.integers(1, 30)),
    st.tuples(st.just("take"), st.integers(1, 30)),
    st.tuples(st.just("take"), st.integers(1, 30)),
    st.tuples(st.just("settle"), st.integers(0, 100)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("begin"), st.just(0)),
    st.tuples(st.just("end"), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("loss"), st.integers(0, 100)),
)


async def live(folder: Path, acts: list[tuple[str, int]]) -> None:
    machine = Machine(folder)
    try:
        await play(machine, acts)
    finally:
        machine.disk.may_end.set()


async def play(machine: Machine, acts: list[tuple[str, int]]) -> None:
    machine.lend(2000)
    machine.take(20)
    machine.settle(50)
    machine.look()
    await machine.begin_sync()
    await machine.end_sync(fails=False)
    lease = machine.table.lease(LEASE)
    assert lease is not None
    assert lease.is_marked
    for act, number in acts:
        if act == "lend":
            machine.lend(number)
        elif act == "take":
            machine.take(number)
        elif act == "settle":
            machine.settle(number)
        elif act == "look":
            machine.look()
        elif act == "begin":
            await machine.begin_sync()
        elif act == "end":
            await machine.end_sync(bool(number))
        else:
            machine.lose_power(number)
    machine.lose_power(0)
    machine.lose_power(50)
    machine.lose_power(100)
    await machine.end_sync(fails=False)
    machine.spool.close()


@settings(max_examples=200, deadline=None)
@given(acts=st.lists(ACTS, max_size=40))
def test_a_power_loss_at_any_moment_finds_no_less_than_was_spent(acts: list[tuple[str, int]]) -> None:
    """L46, F-31b: real files, cut anywhere behind what was synced, also while a sync runs or after one failed."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder), acts))
