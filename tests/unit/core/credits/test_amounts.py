"""Amounts: whole atoms, read and written exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.amounts import MAX_ATOMS, AmountError, Currency, checked_atoms, format_amount, parse_amount

USD = Currency("usd", 9)


@given(st.integers(0, MAX_ATOMS), st.integers(0, 12))
def test_what_is_written_is_read_back(atoms: int, scale: int) -> None:
    """L1: no digit is lost or made, at any scale."""
    currency = Currency("c", scale)
    assert parse_amount(format_amount(atoms, currency), currency) == atoms


@pytest.mark.parametrize(
    ("text", "atoms"), [("0", 0), ("1", 10**9), ("0.1", 10**8), ("12.500000000", 125 * 10**8), ("0.000000001", 1)]
)
def test_decimals(text: str, atoms: int) -> None:
    """A tenth is a tenth."""
    assert parse_amount(text, USD) == atoms


@pytest.mark.parametrize(
    "text",
    ["", ".5", "5.", "-1", "+1", "1e3", "1,000", "1 000", " 1", "1\n", "0x1", "NaN", "inf", "1.0000000001", "٣",
     "9" * 30, "4611686019"],
)  # fmt: skip
def test_what_is_no_amount(text: str) -> None:
    """L1, B-C07: refused, and never rounded or guessed."""
    with pytest.raises(AmountError):
        parse_amount(text, USD)


@pytest.mark.parametrize("value", [1.0, True, "1", None, -1, MAX_ATOMS + 1, float("nan")])
def test_what_is_no_count_of_atoms(value: object) -> None:
    """L1: a float, a bool, a negative or an overflowing amount."""
    with pytest.raises(AmountError):
        checked_atoms(value)


def test_a_debt_is_written_with_its_sign() -> None:
    """And at least cents for people."""
    assert format_amount(-1_500_000_000, USD) == "-1.50"
    assert format_amount(7, Currency("credits", 0)) == "7"
    assert format_amount(15, Currency("c", 1)) == "1.5"
