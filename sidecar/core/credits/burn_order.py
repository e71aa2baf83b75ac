"""Which grants pay for a charge, and how much of each (L11, L12).

Credit that is about to vanish is worth least to its holder, so the grant that expires soonest
burns first and one that never expires burns last. A plan may overrule the calendar with
`priority`; between two alike, what was given away burns before what was paid for. The
sequence settles what is still a tie: the sidecar and the ledger, given the same grants, must
draw in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from sidecar.core.credits.grants import Category, Grant

BURN_ORDER = "priority-expiry-promotional-effective-sequence/1"
"""Name and version of the comparator, as it stands on entries."""

NEVER_MS = 2**63 - 1
"""When a grant that never expires does, for sorting."""


class Coverage(msgspec.Struct, frozen=True):
    """How far the grants reach: (grant id, atoms) in the order taken, and what nobody could pay."""

    draws: tuple[tuple[str, int], ...]
    shortfall: int


def burn_key(grant: Grant) -> tuple[int, int, bool, int, int]:
    """Sorts grants into burn order: a total order within a customer."""
    expires = NEVER_MS if grant.expires_at_ms is None else grant.expires_at_ms
    return grant.priority, expires, grant.category is not Category.PROMOTIONAL, grant.effective_at_ms, grant.sequence


def cover(atoms: int, grants: Iterable[Grant], available: Mapping[str, int], *, at_ms: int) -> Coverage:
    """Split a charge over the live grants, in burn order.

    A shortfall is an answer, not an error: only the caller knows what follows from it.

    Args:
        atoms: what must be paid; zero or more.
        grants: eligible grants of the charge's own currency, in any order.
        available: grant id to the atoms still free on it; a grant not named has none.
        at_ms: the instant of the charge; a grant expiring just then is dead.

    Returns:
        Draws and shortfall; together they equal `atoms`.

    Raises:
        ValueError: a negative charge (a refund is something else).
    """
    if atoms < 0:
        raise ValueError(f"a charge cannot be negative: {atoms}")
    draws: list[tuple[str, int]] = []
    owed = atoms
    for grant in sorted(grants, key=burn_key):
        if not owed:
            break
        taken = min(owed, available.get(grant.grant_id, 0)) if grant.is_live(at_ms) else 0
        if taken > 0:
            draws.append((grant.grant_id, taken))
            owed -= taken
    return Coverage(tuple(draws), owed)
