from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.governance.budgets import Each
from sidecar.core.governance.rate_limits import SLICES, Counts, RateLimit, SlidingCount, rate_applies, share_of
from sidecar.core.governance.tenancy import Node, Subject

TEAM = Node("team", "data")


def test_it_applies_as_a_budget_does() -> None:
    """L30: to what is at its node or below, and matches."""
    limit = RateLimit("r", Counts.REQUESTS, 5, node=TEAM, match={"model": "gpt-*"})
    there = Subject("acme", (TEAM,))
    assert rate_applies(limit, there, model="gpt-4o", provider="openai")
    assert not rate_applies(limit, there, model="claude", provider="openai")
    assert not rate_applies(limit, Subject("acme"), model="gpt-4o", provider="openai")
    assert RateLimit("r", Counts.REQUESTS, 5, each=Each.USER).child_of(Subject("acme", user="ada")) == "ada"
    assert (limit.owner("acme"), RateLimit("r", Counts.TOKENS, 1).owner("acme")) == ("acme/team:data", "acme")


@given(limit=st.integers(0, 10_000), sidecars=st.integers(1, 300))
def test_the_shares_add_up_to_the_limit(limit: int, sidecars: int) -> None:
    """L37: nobody admits more than its share, so that all together admit no more than the limit, and no less."""
    shares = [share_of(limit, sidecars, rank) for rank in range(sidecars)]
    assert sum(shares) == limit
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("sidecars", "rank"), [(0, 0), (2, 2), (1, -1)])
def test_there_is_no_share_of_nobody(sidecars: int, rank: int) -> None:
    """A place that nobody has is a mistake of who asks, not a share."""
    with pytest.raises(ValueError, match="rank"):
        share_of(10, sidecars, rank)


@given(
    slice_ms=st.integers(1, 50),
    takes=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=60),
)
def test_no_stretch_of_a_window_holds_more_than_the_limit(slice_ms: int, takes: list[tuple[int, int]]) -> None:
    """L37: windows roll. Whatever is admitted while there is room, no stretch as long as a window holds more."""
    limit, window_ms, now = 12, SLICES * slice_ms, 1_000_000
    count, admitted = SlidingCount(), []
    for wait, amount in takes:
        now += wait
        if count.used(now // slice_ms) + amount <= limit:
            count.add(now // slice_ms, amount)
            admitted.append((now, amount))
    for start, _ in admitted:
        assert sum(amount for at, amount in admitted if start <= at < start + window_ms) <= limit


def test_room_comes_back_when_it_is_said_to() -> None:
    """The wait that a refusal tells is long enough, and a slice less is not."""
    count = SlidingCount()
    count.add(100, 5)
    count.add(103, 2)
    assert count.room_in_slices(104, 7) == 0
    wait = count.room_in_slices(104, 2)
    assert count.used(104 + wait - 1) == 7
    assert count.used(104 + wait) == 2
    assert count.room_in_slices(104 + wait, -1) == SLICES + 1


def test_a_correction_counts_where_the_call_did() -> None:
    """It never goes below nothing, and what is forgotten stays so."""
    count = SlidingCount()
    count.add(100, 50)
    count.add(100, -20)
    assert count.used(100) == 30
    count.add(100, -99)
    assert count.used(101) == 0
    assert count.used(100 + SLICES + 1) == 0
    count.add(100, -5)
    count.add(100, 5)
    assert count.used(100 + SLICES + 1) == 0


def test_a_clock_set_back_does_not_count_for_ever() -> None:
    """What was counted in a time that will not come for long is forgotten."""
    count = SlidingCount()
    count.add(10_000, 5)
    assert count.used(9_990) == 5
    assert count.used(500) == 0
