"""A call's moves do what `entries.Moves` and `entries.post` do, and leave nothing behind where they are refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits import entries
from sidecar.core.credits.entries import MAX_BUCKET, Balance, Bucket, Moves, PostingError
from sidecar.ledger.posting import CallMoves, Legs, post_legs

NAMES = ("budget:b:lifetime:", "budget:c:lifetime:", "grant:g", "grant:h", "counted:usd")
AMOUNTS = st.sampled_from([0, 1, 7, 100, MAX_BUCKET])
MOVED = st.lists(st.tuples(st.sampled_from(NAMES), AMOUNTS, AMOUNTS), max_size=8)


def start() -> dict[str, Balance]:
    """Two budgets and a grant; the other accounts are not open yet."""
    return {
        NAMES[0]: Balance("usd", source=-100, available=50, leased=50),
        NAMES[1]: Balance("usd", source=-100, available=100),
        NAMES[2]: Balance("usd", source=-107, available=7, leased=100),
    }


def outcome(balances: dict[str, Balance], legs: Legs) -> str:
    """What posting them fast comes to."""
    try:
        post_legs(balances, set(NAMES), legs)
    except PostingError:
        return "refused"
    return "posted"


@given(MOVED)
def test_it_posts_what_the_reference_posts(moved: list[tuple[str, int, int]]) -> None:
    """L6, L17: the same legs in the same order, the same balances, the same refusals, and those change nothing."""
    moves, reference = CallMoves(), Moves()
    for account, leased, available in moved:
        moves.consume(account, "usd", leased, available)
        reference.move(account, "usd", Bucket.LEASED, Bucket.CONSUMED, leased)
        reference.move(account, "usd", Bucket.AVAILABLE, Bucket.CONSUMED, available)
    legs = reference.legs()
    assert moves.rows() == [msgspec.structs.astuple(leg) for leg in legs]
    ours, theirs = start(), start()
    try:
        entries.post(theirs, legs)
        expected = "posted"
    except PostingError:
        expected = "refused"
    assert outcome(ours, moves.rows()) == expected
    assert ours == theirs


@pytest.mark.parametrize(
    "leg",
    [("grant:unread", "consumed", "usd", 1), (NAMES[0], "consumed", "points", 1), (NAMES[0], "source", "usd", 999)],
)
def test_a_refusal_takes_back_what_came_before_it(leg: tuple[str, str, str, int]) -> None:
    """An account that was not read, another currency, a source above zero: also a new account is gone again."""
    balances = start()
    assert outcome(balances, [(NAMES[1], "available", "usd", -9), (NAMES[4], "consumed", "usd", 9), leg]) == "refused"
    assert balances == start()


def test_nothing_is_charged_backwards() -> None:
    """A charge below zero is a mistake, whichever part of it."""
    for leased, available in ((-1, 0), (0, -1)):
        with pytest.raises(PostingError):
            CallMoves().consume(NAMES[0], "usd", leased, available)
