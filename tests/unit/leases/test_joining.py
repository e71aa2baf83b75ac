"""A hold that grows: on the same leases, in burn order, settled once."""

from __future__ import annotations

from sidecar.core.governance.standing import Wallet
from sidecar.leases.joining import join
from sidecar.leases.table import LeaseTable
from tests.unit.leases.test_table import budget, grant, held, lend, standing, state


def test_two_holds_become_one_that_is_settled_once() -> None:
    """L20, L22: charged and freed as if it had been one from the beginning."""
    table, who = LeaseTable(), standing(budget("a"))
    lend(table, "budget:a:lifetime:", 100)
    first, more = held(table, who, 30), held(table, who, 20)
    assert table.open_holds == 2
    assert join(table, first, more)
    assert (first.atoms, more.resolved, table.open_holds) == (50, True, 1)
    assert state(table, "budget:a:lifetime:") == (100, 0, 0, 50)
    table.settle(first, 45)
    assert state(table, "budget:a:lifetime:") == (100, 0, 45, 0)
    assert table.open_holds == 0


def test_slices_stay_in_burn_order_and_are_told_once_each() -> None:
    """L12, L16: what a grant gives later stands with what it gave before; a later grant behind."""
    table = LeaseTable()
    who = standing(grants=(grant("g1", 1), grant("g2", 2)), wallet=Wallet.REQUIRED)
    lend(table, "grant:g1", 10)
    lend(table, "grant:g2", 100)
    first = held(table, who, 15)
    assert first.slices == (("i/grant:g1", 10), ("i/grant:g2", 5))
    lend(table, "grant:g1", 30, sent_at=2.0)
    more = held(table, who, 25, now=2.5)
    assert more.slices == (("i/grant:g1", 20), ("i/grant:g2", 5))
    assert join(table, first, more)
    assert first.slices == (("i/grant:g1", 30), ("i/grant:g2", 10))
    assert table.settle(first, 35).legs == (("i/grant:g1", 30), ("i/grant:g2", 5))
    assert state(table, "grant:g2") == (100, 0, 5, 0)


def test_what_stands_elsewhere_is_not_joined() -> None:
    """L21, L22: another lease is another period, or another budget: nothing is changed, and it can be released."""
    table, one, both = LeaseTable(), standing(budget("a")), standing(budget("a"), budget("b"))
    for name in ("a", "b"):
        lend(table, f"budget:{name}:lifetime:", 100)
    first, more = held(table, one, 30), held(table, both, 20)
    assert not join(table, first, more)
    assert not join(table, first, first)
    table.release(more)
    assert state(table, "budget:a:lifetime:") == (100, 0, 0, 30)
    later = held(table, one, 5)
    table.settle(first, 1)
    assert not join(table, first, later), "a call that is over needs no more"
    table.release(later)
    assert table.open_holds == 0


def test_a_hold_does_not_grow_into_the_next_period() -> None:
    """L21, L22: its period was fixed when it opened; the next one's lease is not its own."""
    table, who = LeaseTable(), standing(budget("a"))
    lend(table, "budget:a:day1:", 100)
    first = held(table, who, 30)
    lend(table, "budget:a:day2:", 100, sent_at=5.0)
    more = held(table, who, 20, now=6.0)
    assert not join(table, first, more)
    table.release(more)
    assert state(table, "budget:a:day1:") == (100, 0, 0, 30)
    assert state(table, "budget:a:day2:") == (100, 0, 0, 0)
