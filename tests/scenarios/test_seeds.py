"""Histories from seeds: whatever goes wrong, the laws hold, and all is well again once it has healed."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.scenarios.coverage import OF, missing
from tests.scenarios.history import loses_book, loses_disk_too, mix_of, run

SEEDS = 500
A_TIME = 10
SOAKED = int(os.environ.get("SEEDS", "5000"))


def failures(seeds: range) -> list[str]:
    found = []
    for seed in seeds:
        broken = run(seed).broken
        if broken is not None:
            found.append(f"python -m tests.scenarios.run --seed {seed}: {broken}")
    return found


@pytest.mark.parametrize("first", range(0, SEEDS, A_TIME))
def test_the_laws_hold(first: int) -> None:
    """L0, L6, L9, L21, L29, L36a, L37, L39, L42, L47, L48, L49, L51, the book is the
    provider's truth, and all is well in the end.

    What goes wrong meanwhile: F-01, F-02, F-03, F-08, F-09, F-10, F-14, F-16, F-18, F-31, F-31b, F-32, F-33, F-35,
    F-36, F-37, F-40, F-41, F-42, F-43, F-44, F-45, F-46, F-60, F-61, F-62.
    """
    assert failures(range(first, first + A_TIME)) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", [200])
def test_the_laws_hold_where_each_fault_meets_something(first: int) -> None:
    """The same laws where faults are made to bite; and each that is counted did, often enough (`coverage`)."""
    happened = Counter[str]()
    for seed in range(first, first + OF):
        outcome = run(seed, mix_of(seed, bites=True))
        assert outcome.broken is None, f"python -m tests.scenarios.run --bites --seed {seed}: {outcome.broken}"
        happened.update(outcome.history.world.happened)
    assert missing(happened) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_book_and_a_disk_are_lost_in_one_history(seed: int) -> None:
    """L50a, F-18, F-32: nothing is lent until a person gives up what only the lost disk knew; then all goes on."""
    mix = mix_of(seed)
    loses_book(mix)
    loses_disk_too(mix)
    assert run(seed, mix).broken is None


@pytest.mark.parametrize("seed", [131, 360])
def test_a_lost_book_forgets_no_period_that_is_over(seed: int) -> None:
    """L48, L50a: the lease of a call is lost, its hour over, and its sidecar's clock set before it is told again."""
    mix = mix_of(seed)
    loses_book(mix)
    assert run(seed, mix).broken is None


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("half", [0, 1])
def test_the_laws_hold_for_long(half: int) -> None:
    """As many more as `SEEDS` says."""
    assert failures(range(SEEDS + half, SEEDS + SOAKED, 2)) == []
