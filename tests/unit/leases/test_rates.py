from __future__ import annotations

import msgspec
import pytest

from sidecar.core.governance.budgets import Each
from sidecar.core.governance.rate_limits import Counts, NoRoom, RateLimit
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases import rates
from sidecar.leases.rates import RateKeeper, Taken, Window
from tests.support.clock import FakeClock

ACME = Subject("acme", user="ada")
REQUESTS = RateLimit("rr", Counts.REQUESTS, 10)
TOKENS = RateLimit("tt", Counts.TOKENS, 1000)
AT_ONCE = RateLimit("cc", Counts.CONCURRENT, 3, window_ms=0)


def standing(*limits: RateLimit) -> Standing:
    return Standing("acme", (), "ada", Wallet.NONE, "usd", (), (), "default@1", 1, 60_000, limits)


def plan(keeper: RateKeeper, *limits: RateLimit, subject: Subject = ACME) -> tuple[Window, ...]:
    found = keeper.plan(standing(*limits), subject, model="gpt-4o", provider="openai")
    assert found is not None
    return found


def taken(found: Taken | NoRoom) -> Taken:
    assert isinstance(found, Taken)
    return found


def refused(found: Taken | NoRoom) -> NoRoom:
    assert isinstance(found, NoRoom)
    return found


def test_all_windows_or_none() -> None:
    """L21: what one window has no room for takes nothing of the others."""
    keeper = RateKeeper(FakeClock())
    windows = plan(keeper, REQUESTS, TOKENS, AT_ONCE)
    taken(keeper.take_here(windows, 900))
    no = refused(keeper.take_here(windows, 200))
    assert (no.limit, no.used, no.remaining) == (TOKENS, 900, 100)
    assert [keeper.used(window, keeper.now_ms()) for window in windows] == [1, 900, 1]
    taken(keeper.take_here(windows, 100))


def test_what_was_used_takes_the_place_of_what_was_thought() -> None:
    """Cost-aware: a call counts with the most it may use until it ends, then with what it used; its slot is free."""
    keeper = RateKeeper(FakeClock())
    windows = plan(keeper, REQUESTS, TOKENS, AT_ONCE)
    first = taken(keeper.take_here(windows, 900))
    first.settle(30)
    first.settle(0)
    assert [keeper.used(window, keeper.now_ms()) for window in windows] == [1, 30, 0]
    unknown = taken(keeper.take_here(windows, 500))
    unknown.settle(None)
    assert [keeper.used(window, keeper.now_ms()) for window in windows] == [2, 530, 0]
    gone = taken(keeper.take_here(windows, 100))
    gone.give_back()
    assert [keeper.used(window, keeper.now_ms()) for window in windows] == [2, 530, 0]


def test_a_window_rolls() -> None:
    """L37: room comes back when the window has passed, as the refusal said."""
    clock = FakeClock()
    keeper = RateKeeper(clock)
    windows = plan(keeper, REQUESTS)
    for _ in range(10):
        taken(keeper.take_here(windows, 1))
    no = refused(keeper.take_here(windows, 1))
    assert no.wait_ms is not None
    assert 60_000 <= no.wait_ms <= 65_000
    clock.advance((no.wait_ms - 1) / 1000)
    refused(keeper.take_here(windows, 1))
    clock.advance(0.001)
    taken(keeper.take_here(windows, 1))


def test_a_sidecar_admits_its_share() -> None:
    """Without a place to count together three sidecars admit the limit between them, and not one call more."""
    keepers = [RateKeeper(FakeClock()) for _ in range(3)]
    for rank, keeper in enumerate(keepers):
        keeper.share(3, rank)
        keeper.share(0, 0)  # nonsense is passed over
    admitted = [
        sum(isinstance(keeper.take_here(plan(keeper, REQUESTS), 1), Taken) for _ in range(20)) for keeper in keepers
    ]
    assert admitted == [4, 3, 3]


def test_each_child_has_its_own_window() -> None:
    """L33: one user's calls leave the others theirs; a changed limit acts on what is counted already."""
    keeper = RateKeeper(FakeClock())
    each = msgspec.structs.replace(AT_ONCE, each=Each.USER)
    ada, bob = (plan(keeper, each, subject=Subject("acme", user=user)) for user in ("ada", "bob"))
    assert [isinstance(keeper.take_here(ada, 1), Taken) for _ in range(4)] == [True, True, True, False]
    assert refused(keeper.take_here(ada, 1)).child == "ada"
    taken(keeper.take_here(bob, 1))
    wider = msgspec.structs.replace(each, limit=4, version=2)
    taken(keeper.take_here(plan(keeper, wider), 1))


def test_windows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of children are the application's word: what counts nothing is forgotten, and then calls are refused."""
    monkeypatch.setattr(rates, "MAX_WINDOWS", 3)
    clock = FakeClock()
    keeper = RateKeeper(clock)
    each = msgspec.structs.replace(REQUESTS, each=Each.USER)

    def found(user: str) -> tuple[Window, ...] | None:
        return keeper.plan(standing(each), Subject("acme", user=user), model="m", provider="p")

    for user in ("a", "b", "c"):
        keeper.take_here(found(user) or (), 1)
    assert found("d") is None
    clock.advance(70)
    assert found("d") is not None
    assert len(keeper) == 1
