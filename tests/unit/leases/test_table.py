"""The lease table: what may be held, by whom it is paid, what goes back."""

from __future__ import annotations

import pytest

from sidecar.contract.messages import AccountReading, LeaseGrant
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget, Each
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.errors import HoldAlreadyResolved
from sidecar.leases.table import NO_LIMIT, Held, LeaseTable, Short

SUBJECT = Subject("acme", (), "ada", agent="writer")


def budget(name: str, **more: object) -> Budget:
    return Budget(name, "usd", 1000, Cadence.LIFETIME, **more)  # type: ignore[arg-type]


def grant(name: str, sequence: int) -> Grant:
    return Grant(name, "usd", 1000, 0, sequence)


def standing(*budgets: Budget, grants: tuple[Grant, ...] = (), wallet: Wallet = Wallet.NONE) -> Standing:
    return Standing("acme", (), "ada", wallet, "usd", budgets, grants, "p@1", 1, 60_000)


def lend(
    table: LeaseTable, account: str, granted: int, *, sent_at: float = 0.0, now: float | None = None, more: int = 0,
    pays_for_ms: int = 60_000, starts_in_ms: int = 0, escrow: int | None = None, returned: int = 0, ahead: bool = False,
) -> None:  # fmt: skip
    """Let the ledger say that a lease stands at `granted`, and how much more there is."""
    kind, name, *rest = account.split(":", 3)
    child = rest[1] if len(rest) == 2 else ""
    lent = LeaseGrant(
        f"i/{account}", granted, pays_for_ms, starts_in_ms=starts_in_ms, has_more=more > 0, returned_atoms=returned
    )
    reading = AccountReading(account, kind, name, child, 1000, 0, granted if escrow is None else escrow, 0, more)
    at = sent_at if now is None else now
    table.merge("acme", [lent], [reading], sent_at=sent_at, now=at, ahead=ahead)


def take(table: LeaseTable, who: Standing, atoms: int, *, now: float = 1.0, ask_first: bool = True) -> object:
    return table.take(who, SUBJECT, model="m", provider="p", atoms=atoms, now=now, ask_first=ask_first)


def held(table: LeaseTable, who: Standing, atoms: int, **more: float) -> Held:
    found = take(table, who, atoms, **more)  # type: ignore[arg-type]
    if not isinstance(found, Held):
        raise AssertionError(found)
    return found


def state(table: LeaseTable, account: str) -> tuple[int, int, int, int]:
    """Granted, returned, spent, held."""
    lease = table.lease(f"i/{account}")
    if lease is None:
        raise AssertionError(account)
    return lease.granted, lease.returned, lease.spent, lease.held


class TestTaking:
    def test_every_budget_bears_the_whole(self) -> None:
        """L40: all budgets that apply are held in one step, each for all atoms."""
        table, who = LeaseTable(), standing(budget("a"), budget("b"))
        lend(table, "budget:a:lifetime:", 100)
        lend(table, "budget:b:lifetime:", 50)
        hold = held(table, who, 50)
        assert hold.budget_leases == ("i/budget:a:lifetime:", "i/budget:b:lifetime:")
        assert hold.slices == ()
        assert state(table, "budget:a:lifetime:") == (100, 0, 0, 50)
        assert state(table, "budget:b:lifetime:") == (50, 0, 0, 50)

    def test_one_short_account_takes_nothing_from_the_others(self) -> None:
        """L21: a refusal leaves every lease as it was."""
        table, who = LeaseTable(), standing(budget("a"), budget("b"))
        lend(table, "budget:a:lifetime:", 100)
        lend(table, "budget:b:lifetime:", 49)
        short = take(table, who, 50)
        assert isinstance(short, Short)
        assert [(account.id, lacks) for account, lacks in short.budgets] == [("b", 1)]
        assert [(holding.lease_id, holding.left_atoms) for holding in short.holdings()] == [
            ("i/budget:a:lifetime:", 100),
            ("i/budget:b:lifetime:", 49),
        ]
        assert state(table, "budget:a:lifetime:") == (100, 0, 0, 0)
        assert table.open_holds == 0

    def test_missing_credit_takes_nothing_from_the_budgets(self) -> None:
        """L21: the wallet is one more account of the same step."""
        table = LeaseTable()
        who = standing(budget("a"), grants=(grant("g", 1),), wallet=Wallet.REQUIRED)
        lend(table, "budget:a:lifetime:", 100)
        lend(table, "grant:g", 40)
        short = take(table, who, 50)
        assert isinstance(short, Short)
        assert short.lacking_credit == 10
        assert state(table, "budget:a:lifetime:") == (100, 0, 0, 0)

    def test_soft_budgets_need_no_lease(self) -> None:
        """L36a."""
        table, who = LeaseTable(), standing(budget("a", hard=False), budget("b"))
        lend(table, "budget:b:lifetime:", 50)
        assert held(table, who, 50).budget_leases == ("i/budget:b:lifetime:",)

    def test_nothing_that_bounds_it_is_said(self) -> None:
        """L16a: no wallet and only soft budgets, or none."""
        assert take(LeaseTable(), standing(budget("a", hard=False)), 1) is NO_LIMIT
        assert take(LeaseTable(), standing(), 1) is NO_LIMIT
        assert take(LeaseTable(), standing(budget("own", guardrail=True)), 1) is NO_LIMIT  # L36: nor by its member

    def test_each_child_has_its_own_account(self) -> None:
        """L33: what one agent's budget has lent is not another's."""
        table, who = LeaseTable(), standing(budget("a", each=Each.AGENT))
        lend(table, "budget:a:lifetime:writer", 10)
        assert isinstance(take(table, who, 10), Held)
        other = table.take(who, Subject("acme", (), "ada", agent="critic"), model="m", provider="p", atoms=1, now=1.0)
        assert isinstance(other, Short)

    def test_the_canonical_path_decides(self) -> None:
        """L30: the application named the team alone; the department above it has a budget too."""
        path = (Node("department", "d"), Node("team", "t"))
        who = Standing(
            "acme", path, "", Wallet.NONE, "usd", (budget("a", node=path[0]),), (), "p@1", 1, 60_000
        )  # fmt: skip
        table = LeaseTable()
        lend(table, "budget:a:lifetime:", 10)
        taken = table.take(who, Subject("acme", (path[1],)), model="m", provider="p", atoms=10, now=1.0)
        assert isinstance(taken, Held)

    def test_a_new_standing_is_obeyed_at_once(self) -> None:
        """L35: what was worked out for the old one is not used again."""
        table = LeaseTable()
        lend(table, "budget:a:lifetime:", 100)
        held(table, standing(budget("a")), 1)
        assert isinstance(take(table, standing(budget("a"), budget("b")), 1), Short)

    def test_a_negative_need_is_refused(self) -> None:
        """L1."""
        with pytest.raises(ValueError, match="negative"):
            take(LeaseTable(), standing(budget("a")), -1)


class TestTime:
    def test_a_lease_ends_when_it_ends(self) -> None:
        """L41: life counts from the sending of the request; at its end nothing is admitted."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100, sent_at=5.0, now=9.0, pays_for_ms=60_000)
        assert isinstance(take(table, who, 1, now=64.9), Held)
        assert isinstance(take(table, who, 1, now=65.0), Short)

    def test_the_next_period_does_not_begin_sooner_by_the_way_of_a_message(self) -> None:
        """L37, L41: a life counts from when it was asked for, its beginning from when that was answered."""
        table = LeaseTable()
        who = standing(budget("a"))
        lend(table, "budget:a:2026-11-25:", 7, now=0.5, pays_for_ms=90_000, starts_in_ms=30_000, ahead=True)
        assert isinstance(take(table, who, 1, now=30.4), Short)
        assert isinstance(take(table, who, 1, now=30.5), Held)

    def test_the_next_period_takes_over_when_it_begins(self) -> None:
        """L41, L37: fetched ahead, usable not before its start; the old one takes no more."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:2026-11-24:", 100, sent_at=0.0, pays_for_ms=30_000)
        lend(table, "budget:a:2026-11-25:", 7, sent_at=0.0, pays_for_ms=90_000, starts_in_ms=30_000, ahead=True)
        assert held(table, who, 5, now=29.9).budget_leases == ("i/budget:a:2026-11-24:",)
        assert isinstance(take(table, who, 8, now=30.0), Short)
        assert held(table, who, 7, now=30.0).budget_leases == ("i/budget:a:2026-11-25:",)

    def test_a_late_answer_about_the_old_period_changes_nothing(self) -> None:
        """L42: it is taken in, but the current period's lease stays the current one."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:2026-11-25:", 7, sent_at=31.0, pays_for_ms=60_000)
        lend(table, "budget:a:2026-11-24:", 100, sent_at=1.0, now=32.0, pays_for_ms=29_000)
        assert held(table, who, 7, now=33.0).budget_leases == ("i/budget:a:2026-11-25:",)

    def test_a_shorter_life_is_obeyed(self) -> None:
        """L35: the ledger may cut a lease's life; an older answer does not lengthen it again."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100, sent_at=0.0)
        lend(table, "budget:a:lifetime:", 100, sent_at=5.0, pays_for_ms=0)
        lend(table, "budget:a:lifetime:", 100, sent_at=1.0, pays_for_ms=60_000)
        assert isinstance(take(table, who, 1, now=6.0), Short)


class TestBurnOrder:
    def two_grants(self, first: int, second: int, more: int = 0) -> tuple[LeaseTable, Standing]:
        table = LeaseTable()
        lend(table, "grant:g1", first, more=more)
        lend(table, "grant:g2", second)
        return table, standing(grants=(grant("g1", 1), grant("g2", 2)), wallet=Wallet.REQUIRED)

    def test_the_first_pays_until_it_is_empty(self) -> None:
        """L12: one slice per grant, none before an earlier one is used up."""
        table, who = self.two_grants(30, 100)
        assert held(table, who, 50).slices == (("i/grant:g1", 30), ("i/grant:g2", 20))
        assert held(table, who, 50).slices == (("i/grant:g2", 50),)

    def test_an_earlier_grant_with_more_is_asked_first(self) -> None:
        """L16: the later grant is not drawn on while the ledger could lend more of the earlier."""
        table, who = self.two_grants(30, 100, more=500)
        assert isinstance(take(table, who, 50), Short)
        assert state(table, "grant:g1") == (30, 0, 0, 0)
        assert held(table, who, 30).slices == (("i/grant:g1", 30),)

    def test_an_earlier_grant_never_heard_of_is_asked_first(self) -> None:
        """L16: without a lease on it, it may have more."""
        table, who = LeaseTable(), standing(grants=(grant("g1", 1), grant("g2", 2)), wallet=Wallet.REQUIRED)
        lend(table, "grant:g2", 100)
        assert isinstance(take(table, who, 50), Short)

    def test_with_nobody_to_ask_it_goes_on_in_order(self) -> None:
        """L47: while the ledger is away, live leases serve as far as they reach."""
        table, who = self.two_grants(30, 100, more=500)
        hold = take(table, who, 50, ask_first=False)
        assert isinstance(hold, Held)
        assert hold.slices == (("i/grant:g1", 30), ("i/grant:g2", 20))

    def test_a_charge_burns_the_slices_in_order(self) -> None:
        """L12, L23: what is left of the later slice is free again."""
        table, who = self.two_grants(30, 100)
        split = table.settle(held(table, who, 50), 40)
        assert split.legs == (("i/grant:g1", 30), ("i/grant:g2", 10))
        assert state(table, "grant:g1") == (30, 0, 30, 0)
        assert state(table, "grant:g2") == (100, 0, 10, 0)

    def test_an_overrun_takes_what_is_free_beside_it(self) -> None:
        """L17: first from the same leases; what they do not have is an excess."""
        table, who = self.two_grants(30, 60)
        other = held(table, who, 30)
        hold = held(table, who, 50)
        split = table.settle(hold, 75)
        assert split.legs == (("i/grant:g2", 60),)
        assert split.excess == 15
        assert state(table, "grant:g2") == (60, 0, 60, 0)
        table.release(other)
        assert state(table, "grant:g1") == (30, 0, 0, 0)

    def test_an_overrun_never_takes_what_another_call_holds(self) -> None:
        """L17: held is not free."""
        table, who = self.two_grants(0, 60)
        lend(table, "grant:g1", 0)
        held(table, who, 25)
        assert table.settle(held(table, who, 25), 50).legs == (("i/grant:g2", 35),)
        assert state(table, "grant:g2") == (60, 0, 35, 25)


class TestSettling:
    def test_less_than_held_frees_the_rest(self) -> None:
        """L23."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        freed: list[str] = []
        table.on_free = freed.append
        table.settle(held(table, who, 60), 10)
        assert state(table, "budget:a:lifetime:") == (100, 0, 10, 0)
        assert freed == ["acme"]

    def test_more_than_held_stops_admissions(self) -> None:
        """L39, F-29: an overrun counts whole on the budget's lease; nothing is admitted on what is not there."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        table.settle(held(table, who, 100), 130)
        assert state(table, "budget:a:lifetime:") == (100, 0, 130, 0)
        assert isinstance(take(table, who, 1), Short)

    def test_a_hold_ends_once(self) -> None:
        """L20."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        hold = held(table, who, 60)
        table.settle(hold, 60)
        with pytest.raises(HoldAlreadyResolved):
            table.settle(hold, 60)
        with pytest.raises(HoldAlreadyResolved):
            table.release(hold)
        assert state(table, "budget:a:lifetime:") == (100, 0, 60, 0)
        assert table.open_holds == 0

    def test_no_price_charges_nothing(self) -> None:
        """L5: an unpriced call frees its hold."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        assert table.settle(held(table, who, 60), None).legs == ()
        assert state(table, "budget:a:lifetime:") == (100, 0, 0, 0)

    def test_a_refused_charge_leaves_the_hold(self) -> None:
        """L1: a negative charge changes nothing."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        hold = held(table, who, 60)
        with pytest.raises(ValueError, match="negative"):
            table.settle(hold, -1)
        table.settle(hold, 1)


class TestTotals:
    def test_granted_is_merged_by_maximum(self) -> None:
        """L42: a repeated, late or lost message changes nothing."""
        table = LeaseTable()
        for granted in (100, 150, 100, 150):
            lend(table, "budget:a:lifetime:", granted)
        assert state(table, "budget:a:lifetime:") == (150, 0, 0, 0)

    def test_a_return_never_includes_a_held_part(self) -> None:
        """L42."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        hold = held(table, who, 60)
        lease = hold.leases[0]
        with pytest.raises(ValueError, match="40 are free"):
            table.give_back(lease, 41)
        table.give_back(lease, 40)
        assert isinstance(take(table, who, 1), Short)
        with pytest.raises(ValueError, match="open hold"):
            table.close(lease)
        table.settle(hold, 10)
        table.close(lease)
        assert state(table, "budget:a:lifetime:") == (100, 90, 10, 0)

    def test_nothing_is_admitted_on_a_closed_lease(self) -> None:
        """L42: not even when a late message lends more on it."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 100)
        lease = table.lease("i/budget:a:lifetime:")
        if lease is None:
            raise AssertionError
        table.close(lease)
        lend(table, "budget:a:lifetime:", 300, sent_at=2.0)
        assert isinstance(take(table, who, 1, now=3.0), Short)

    def test_a_forgotten_lease_begins_where_the_ledger_says(self) -> None:
        """L42: of 300 lent in all, 120 came back and 80 were posted: 100 may be spent, no more."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 300, escrow=100, returned=120)
        assert state(table, "budget:a:lifetime:") == (300, 120, 80, 0)
        assert isinstance(take(table, who, 101), Short)
        assert isinstance(take(table, who, 100), Held)

    def test_an_unknown_lease_without_a_reading_is_not_spent_from(self) -> None:
        """L42: nothing says how much of it is left."""
        table, who = LeaseTable(), standing(budget("a"))
        table.merge("acme", [LeaseGrant("i/budget:a:lifetime:", 100, 60_000)], sent_at=0.0, now=0.0)
        assert isinstance(take(table, who, 1), Short)

    def test_low_water_is_told_once(self) -> None:
        """L44: at half, if there is more to be had."""
        table, who = LeaseTable(), standing(budget("a"))
        low: list[str] = []
        table.on_low = lambda lease: low.append(lease.lease_id)
        lend(table, "budget:a:lifetime:", 100, more=1)
        held(table, who, 50)
        assert low == []
        held(table, who, 1)
        held(table, who, 1)
        assert low == ["i/budget:a:lifetime:"]


class TestForgetting:
    def test_only_what_is_at_rest_is_forgotten(self) -> None:
        """A lease with something free, held or unreported stays."""
        table, who = LeaseTable(), standing(budget("a"), budget("b"))
        lend(table, "budget:a:lifetime:", 100)
        lend(table, "budget:b:lifetime:", 100)
        hold = held(table, who, 60)
        a, b = hold.leases
        table.give_back(a, 40)
        table.give_back(b, 40)
        assert not table.rest(a)
        table.settle(hold, 60)
        assert not table.rest(a)
        a.reported = b.reported = 40
        assert table.rest(a)
        assert table.rest(b)
        table.forget(keep=1, unused_since=0.5)
        assert len(table) == 2, "used since"
        table.forget(keep=1, unused_since=1.0)
        assert len(table) == 1
        assert table.lease(a.lease_id) is None
        assert isinstance(take(table, who, 1), Short)

    def test_a_new_grant_wakes_it(self) -> None:
        """What was at rest can be spent from again."""
        table, who = LeaseTable(), standing(budget("a"))
        lend(table, "budget:a:lifetime:", 10)
        hold = held(table, who, 10)
        table.settle(hold, 10)
        assert table.rest(hold.leases[0])
        assert table.leases() == []
        lend(table, "budget:a:lifetime:", 15, sent_at=2.0)
        assert [lease.free for lease in table.leases()] == [5]
        assert isinstance(take(table, who, 5, now=3.0), Held)
