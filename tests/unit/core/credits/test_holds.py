"""Splitting a charge over what was held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.holds import split_charge

slices = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 50)), max_size=4, unique_by=lambda s: s[0])


@given(st.integers(0, 250), slices, st.dictionaries(st.sampled_from(["a", "b", "c", "x"]), st.integers(0, 40)))
def test_legs_and_excess_are_the_charge(atoms: int, held: list[tuple[str, int]], free: dict[str, int]) -> None:
    """L17, L23: nothing is lost or made; held first and in order, then free beside it, then excess."""
    split = split_charge(atoms, held, free)
    assert sum(paid for _, paid in split.legs) + split.excess == atoms
    room = {lease: amount + free.get(lease, 0) for lease, amount in held}
    assert all(0 < paid <= room[lease] for lease, paid in split.legs)
    if split.excess:
        assert split.legs == tuple((lease, amount) for lease, amount in room.items() if amount)


def test_legs_are_in_burn_order_though_a_slice_was_empty() -> None:
    """L12: one that nothing was held on, and that pays an overrun, keeps its place."""
    assert split_charge(9, [("c", 0), ("a", 2), ("b", 4)], {"c": 1, "a": 1}).legs == (("c", 1), ("a", 3), ("b", 4))


@given(slices)
def test_an_earlier_slice_is_used_up_before_a_later_one(held: list[tuple[str, int]]) -> None:
    """L12: of a charge that fits, no later slice pays while an earlier one has any left."""
    whole = sum(amount for _, amount in held)
    split = dict(split_charge(whole // 2, held).legs)
    left_over = False
    for lease, amount in held:
        assert not (left_over and split.get(lease))
        left_over = left_over or split.get(lease, 0) < amount


def test_a_negative_charge_is_refused() -> None:
    """A refund is an entry of its own."""
    with pytest.raises(ValueError, match="negative"):
        split_charge(-1, [("a", 1)])
