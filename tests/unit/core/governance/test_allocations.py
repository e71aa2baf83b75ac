"""Parts of a budget never sum above it."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.governance.allocations import Overdrawn, Path, Placed, overdrawn
from sidecar.core.governance.budgets import Budget, Each, Kind
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.tenancy import parse_path

A, AB, AC, ABX = "department:a", "department:a/team:b", "department:a/team:c", "department:a/team:b/project:x"


def placed(path: str, limit: int, kind: Kind = Kind.ALLOCATION, **more: object) -> Placed:
    nodes = parse_path(path)
    base = Budget(f"b{path}{limit}{kind}", "usd", limit, Cadence.MONTH, node=nodes[-1] if nodes else None, kind=kind)
    return Placed(msgspec.structs.replace(base, **more), nodes)


CAP = placed("", 100, Kind.CAP)


def test_parts_may_be_all_of_it_and_no_more() -> None:
    """L32: to the atom; which parent was asked too much, and how much, is said."""
    assert overdrawn([CAP, placed(A, 60), placed("team:z", 40)]) is None
    found = overdrawn([CAP, placed(A, 60), placed("team:z", 41)])
    assert found == Overdrawn(placed(A, 60), CAP, 101)


def test_caps_may_sum_above_their_parent() -> None:
    """L32: a cap promises nothing; beside allocations it takes no part of what they divide."""
    assert overdrawn([CAP, placed(A, 90, Kind.CAP), placed("team:z", 100)]) is None


def test_a_part_is_of_the_nearest_above() -> None:
    """L32: over nodes without a budget; a team's is of its department's, which is of the customer's."""
    assert overdrawn([CAP, placed(ABX, 100)]) is None
    tree = [CAP, placed(A, 50), placed(AB, 30), placed(AC, 20)]
    assert overdrawn(tree) is None
    assert overdrawn([*tree, placed(ABX, 30)]) is None
    found = overdrawn([CAP, placed(A, 50), placed(AB, 31), placed(AC, 20)])
    assert found is not None
    assert (found.parent, found.allocated_atoms) == (placed(A, 50), 51)


def test_only_what_counts_the_same_in_the_same_periods_is_a_parent() -> None:
    """L32: of a budget per day, for an agent, for each user, in another currency or a guardrail there is no part."""
    alone = placed(A, 1)
    others = (
        {"cadence": Cadence.DAY},
        {"match": {"agent": "x"}},
        {"each": Each.USER},
        {"currency": "eur"},
        {"anchor": "2026-01-15"},
        {"guardrail": True},
    )
    for other in others:
        assert overdrawn([placed("", 100, Kind.CAP, **other), alone]) == Overdrawn(alone, None)
    matched = {"match": {"agent": "x", "model": "y"}}
    assert overdrawn([placed("", 1, Kind.CAP, **matched), placed(A, 1, match={"model": "y", "agent": "x"})]) is None


paths = st.sampled_from(["", A, AB, AC, ABX, "department:d", "department:d/team:e"])


def reference(budgets: list[Placed]) -> bool:
    """Whether all stand: for each budget its parts, found by looking at every pair."""

    def above(one: Path, other: Path) -> bool:
        return len(one) < len(other) and other[: len(one)] == one

    for child in budgets:
        if child.budget.kind is Kind.ALLOCATION and not any(above(one.path, child.path) for one in budgets):
            return False
    for parent in budgets:
        parts = [
            child.budget.limit_atoms
            for child in budgets
            if child.budget.kind is Kind.ALLOCATION
            and above(parent.path, child.path)
            and not any(above(parent.path, one.path) and above(one.path, child.path) for one in budgets)
        ]
        if parts and sum(parts) > parent.budget.limit_atoms:
            return False
    return True


@given(st.lists(st.builds(placed, paths, st.integers(0, 30), st.sampled_from(Kind)), unique_by=lambda one: one.path))
def test_what_stands_is_what_a_look_at_every_pair_finds(budgets: list[Placed]) -> None:
    """L32: over any tree."""
    assert (overdrawn(budgets) is None) is reference(budgets)
