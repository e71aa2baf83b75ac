"""Durable marks from the spender's side: when a lease is marked, and that a mark only ever makes a call wait (L46)."""

from __future__ import annotations

import pytest

from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.standing import Wallet
from sidecar.leases.accounts import NO_MARK, Lease
from sidecar.leases.marks import Marks
from sidecar.leases.table import Covered, Held, LeaseTable, Short, Uncovered
from tests.support.clock import FakeClock
from tests.unit.leases.test_keeper import House, limited
from tests.unit.leases.test_table import budget, grant, held, lend, standing, take

BUDGET = "budget:b:lifetime:"


class Disk:
    """Brings marks to the disk at once, when it is asked to, or fails to."""

    def __init__(self) -> None:
        self.marks: Marks | None = None
        self.fails = False
        self.syncs = self.woken = 0

    def keep(self, marks: Marks) -> None:
        self.marks = marks
        marks.attach(self)

    def mark_soon(self) -> None:
        self.woken += 1

    async def sync(self) -> bool:
        self.syncs += 1
        if self.marks is None or self.fails:
            return False
        for lease_id, mark in self.marks.due():
            self.marks.bounded(lease_id, mark)
        return True


def marked(house: House) -> Disk:
    disk = Disk()
    disk.keep(house.keeper.marks)
    return disk


class TestWhichLeases:
    async def test_one_that_is_much_larger_than_the_next_while_needs(self) -> None:
        """L46: 1,000 lent, 10 held at once of late: 13 stay open instead of nearly all, and the rest is safe."""
        table, clock, disk = LeaseTable(), FakeClock(), Disk()
        disk.keep(marks := Marks(table, clock.monotonic, 2.0))
        who = standing(budget("b"))
        lend(table, BUDGET, 1000)
        table.settle(held(table, who, 10), 4)
        (lease,) = table.leases()
        lease.rated_at, lease.rated_spent = clock.monotonic(), lease.spent
        marks.look(lease)
        assert lease.cap == 1000
        assert await disk.sync()
        assert (lease.durable, lease.cap, lease.free, lease.room) == (4 + 12, 16, 996, 12)

    async def test_none_of_which_most_is_needed_or_that_nobody_calls_on(self) -> None:
        """L40: a mark would keep the next call waiting, for little."""
        table, clock, disk = LeaseTable(), FakeClock(), Disk()
        disk.keep(marks := Marks(table, clock.monotonic, 2.0))
        lend(table, BUDGET, 100)
        (lease,) = table.leases()
        lease.rated_at = clock.monotonic()
        marks.look(lease)
        held(table, standing(budget("b")), 60)
        marks.look(lease)
        assert disk.woken == 0

    async def test_a_mark_runs_ahead(self) -> None:
        """L40, L46: at half of what it leaves the next is asked for, while calls go on below it."""
        house = House(limited(100_000))
        disk = marked(house)
        for number in range(20):
            house.settle(await house.hold(10), 10, f"r{number}")
        await house.tick(5.0)
        lease = house.lease(BUDGET)
        await disk.sync()
        mark = lease.durable
        assert lease.is_marked
        syncs, number = disk.syncs, 20
        while lease.low_durable != NO_MARK:
            house.settle(await house.hold(10), 10, f"r{number}")
            number += 1
        assert disk.syncs == syncs  # nobody waited
        await disk.sync()
        assert lease.durable > mark


class TestInTheWay:
    async def test_a_call_waits_for_one_sync(self) -> None:
        """L46: what was lent covers it and its mark does not: the ledger is not asked."""
        house = House(limited(1000))
        disk = marked(house)
        house.settle(await house.hold(400), 1, "r1")
        lease = house.lease(BUDGET)
        lease.set_durable(5)
        asked = len(house.ledger.resolves)
        assert isinstance(await house.cover(100), Covered)
        assert (disk.syncs, len(house.ledger.resolves)) == (1, asked)
        assert lease.durable == NO_MARK

    async def test_a_failing_disk_refuses(self) -> None:
        """L46, F-41: what cannot be marked may not be spent, and the lease is not at fault."""
        house = House(limited(1000))
        disk = marked(house)
        house.settle(await house.hold(400), 1, "r1")
        house.lease(BUDGET).set_durable(5)
        disk.fails = True
        refused = await house.cover(100)
        assert isinstance(refused, Uncovered)
        assert refused.reason is Reason.OUTBOX_FULL

    async def test_a_denial_is_not_made_by_a_mark(self) -> None:
        """L34, L46: what a budget has left does not depend on what is marked."""
        house = House(limited(1000))
        marked(house)
        house.settle(await house.hold(1000), 200, "r1")
        house.lease(BUDGET).set_durable(300)
        refused = await house.cover(900)
        assert isinstance(refused, Uncovered)
        assert refused.affordable_atoms == 800

    @pytest.mark.parametrize("ask_first", [True, False])
    def test_a_mark_makes_no_later_grant_pay(self, ask_first: bool) -> None:
        """L12, L46: the earlier grant's mark is moved first."""
        table = LeaseTable()
        who = standing(grants=(grant("g1", 1), grant("g2", 2)), wallet=Wallet.REQUIRED)
        lend(table, "grant:g1", 100)
        lend(table, "grant:g2", 100)
        first = table.lease("i/grant:g1")
        assert isinstance(first, Lease)
        first.set_durable(30)
        short = take(table, who, 50, ask_first=ask_first)
        assert isinstance(short, Short)
        assert Marks(table, lambda: 0.0, 1.0).binds(short) == [first]
        assert short.at_hand == 30
        assert isinstance(take(table, who, 30, ask_first=ask_first), Held)

    def test_what_goes_back_is_not_what_a_mark_leaves(self) -> None:
        """L42, L46: all that is free can be returned, and the cap follows."""
        table = LeaseTable()
        lend(table, BUDGET, 100)
        (lease,) = table.leases()
        lease.set_durable(30)
        table.give_back(lease, 60)
        assert (lease.cap, lease.room, lease.is_marked) == (30, 30, True)
        table.give_back(lease, 20)
        assert (lease.cap, lease.room, lease.is_marked) == (20, 20, False)
