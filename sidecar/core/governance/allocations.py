"""Budgets that are parts of one above them, and how much of it is given away (L32).

A *cap* bounds its node and promises nothing: children's caps may sum above their parent's. An
*allocation* is a part of the budget above it: the nearest on the way up that counts the same calls in the
same periods. Together the allocations from one budget never exceed its limit, so that each of them can be
used to its end. A member's own guardrail gives and takes no part: it only tightens.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sidecar.core.governance.budgets import Budget, Each, Kind
from sidecar.core.governance.tenancy import Node

Path = tuple[Node, ...]


class Placed(msgspec.Struct, frozen=True):
    """A budget, and the whole path of its node: every node above it, then itself."""

    budget: Budget
    path: Path


class Overdrawn(msgspec.Struct, frozen=True):
    """An allocation that cannot be: of nothing (`parent` None), or more is allocated of its parent than that has.

    `allocated_atoms` is what all of the parent's allocations sum to.
    """

    child: Placed
    parent: Placed | None
    allocated_atoms: int = 0


def overdrawn(budgets: Iterable[Placed]) -> Overdrawn | None:
    """The first allocation that cannot be, or None: all stand.

    Args:
        budgets: all of a customer that may have to do with one another.
    """
    known = [one for one in budgets if not one.budget.guardrail and one.budget.each is Each.NONE]
    places = {_place(one.budget, one.path): one for one in known}
    parents: list[tuple[Placed, Placed]] = []
    sums: dict[str, int] = {}
    for child in known:
        if child.budget.kind is not Kind.ALLOCATION:
            continue
        parent = _parent_of(child, places)
        if parent is None:
            return Overdrawn(child, None)
        parents.append((child, parent))
        sums[parent.budget.budget_id] = sums.get(parent.budget.budget_id, 0) + child.budget.limit_atoms
    for child, parent in parents:
        allocated = sums[parent.budget.budget_id]
        if allocated > parent.budget.limit_atoms:
            return Overdrawn(child, parent, allocated)
    return None


_Place = tuple[str, str, str, int, tuple[tuple[str, str], ...], Path]
"""Which calls a budget counts in which periods, and where; no two budgets have it in common."""


def _place(budget: Budget, path: Path) -> _Place:
    return (
        budget.currency,
        budget.cadence.value,
        budget.anchor,
        budget.window_ms,
        tuple(sorted(budget.match.items())),
        path,
    )


def _parent_of(child: Placed, places: dict[_Place, Placed]) -> Placed | None:
    """The nearest budget above an allocation that counts the same calls in the same periods."""
    for depth in range(len(child.path) - 1, -1, -1):
        found = places.get(_place(child.budget, child.path[:depth]))
        if found is not None:
            return found
    return None
