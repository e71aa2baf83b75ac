"""Patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.scopes import fits, is_pattern


@given(st.text("ab*", max_size=10), st.text("ab", max_size=12))
def test_fits_as_the_regular_expression_would(pattern: str, value: str) -> None:
    """A `*` is any run of characters; all else is itself; the whole value must fit."""
    reference = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value)
    assert fits(pattern, value) == (reference is not None)


@pytest.mark.timeout(20)
def test_a_hostile_value_ends() -> None:
    """Thirty stars against a long value that nearly fits: a regular expression would never come back."""
    assert not fits("*".join("a" * 30) + "*b", "a" * 20_000)


@pytest.mark.parametrize("text", ["", "a b", "ü", "a" * 129, "a\n", "a,b"])
def test_what_is_no_pattern(text: str) -> None:
    """Only the characters that ids have, and the star."""
    assert not is_pattern(text)
