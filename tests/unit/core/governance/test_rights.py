"""Roles and how far a token reaches."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.governance.rights import REACHES, RIGHTS, Right, Role, Scope, may_make, read_scope
from sidecar.core.governance.tenancy import Node


@given(st.lists(st.sampled_from(Role), min_size=2, max_size=6))
def test_no_chain_of_makers_ends_with_more_than_it_began(roles: list[Role]) -> None:
    """S-30: however tokens make tokens, the last may do nothing that the first could not."""
    if all(may_make(maker, made) for maker, made in itertools.pairwise(roles)):
        assert RIGHTS[roles[-1]] <= RIGHTS[roles[0]]


def test_every_role_has_a_row_and_a_reach() -> None:
    """And none but the platform's admin makes customers, changes prices, or reaches everything with a pen."""
    assert set(RIGHTS) == set(REACHES) == set(Role)
    for role in Role:
        writes = RIGHTS[role] & {Right.PLATFORM, Right.CATALOG}
        assert bool(writes) == (role is Role.PLATFORM_ADMIN)


@pytest.mark.parametrize(
    ("scope", "customer", "nodes", "held"),
    [
        ("", "acme", (), True),
        ("acme", "acme", ("team:a",), True),
        ("acme", "acme2", (), False),
        ("acme/team:a", "acme", ("department:x", "team:a", "user:ada"), True),
        ("acme/team:a", "acme", ("department:x",), False),
        ("acme/team:a", "acme", ("team:ab",), False),
        ("acme/team:a", "other", ("team:a",), False),
        ("acme/department:x/user:ada", "acme", ("user:ada",), True),
    ],
)
def test_a_scope_holds_what_is_at_it_or_below(scope: str, customer: str, nodes: tuple[str, ...], held: bool) -> None:
    """By whole names, never by their beginnings."""
    assert read_scope(scope).holds(customer, nodes) is held


def test_a_scope_is_a_path() -> None:
    """Its last node counts; what is no path is none."""
    assert read_scope("acme/department:x/team:a") == Scope("acme", Node("team", "a"))
    for text in ("/team:a", "_system", "acme/team", "a b"):
        with pytest.raises(ValueError, match="expected"):
            read_scope(text)
