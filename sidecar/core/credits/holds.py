"""Splitting a charge over what was held for it (L12, L17, L23).

A hold's slices are (lease id, atoms) in burn order, fixed when it opened. A charge burns
them in that order; what is left of the later ones is free again. What a charge exceeds its
hold by is first taken from what is still free on the same leases, and only the rest is an
excess that the ledger must find elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Split(msgspec.Struct, frozen=True):
    """Which slice pays what, in burn order, and what none of them could pay."""

    legs: tuple[tuple[str, int], ...]
    excess: int


def split_charge(atoms: int, slices: Sequence[tuple[str, int]], free: Mapping[str, int] | None = None) -> Split:
    """Burn a charge's atoms from its slices in order, then from what is free beside them.

    `free` names, per lease, the atoms that no hold stands on; it is asked only for an overrun.
    Legs and excess together equal the charge; a slice that pays nothing has no leg.

    Raises:
        ValueError: a negative charge or slice.
    """
    if atoms < 0 or any(held < 0 for _, held in slices):
        raise ValueError("a charge and its slices cannot be negative")
    paid: dict[str, int] = {}
    owed = atoms
    for lease_id, held in slices:
        taken = min(owed, held)
        if taken:
            paid[lease_id] = paid.get(lease_id, 0) + taken
            owed -= taken
    if owed and free:
        order = dict.fromkeys(lease_id for lease_id, _ in slices)
        for lease_id in order:
            taken = min(owed, max(0, free.get(lease_id, 0)))
            if taken:
                paid[lease_id] = paid.get(lease_id, 0) + taken
                owed -= taken
        paid = {lease_id: paid[lease_id] for lease_id in order if lease_id in paid}
    return Split(tuple(paid.items()), owed)
