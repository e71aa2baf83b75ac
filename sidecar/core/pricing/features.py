"""What is priced by the piece and is not a model call: agent steps, compute minutes, calls of other APIs.

A feature's price is whole atoms for each unit, so a charge is a product and nothing is rounded.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.credits.amounts import MAX_ATOMS

MAX_QUANTITY: Final = 10**12
"""Units that one report or check may name."""


class FeaturePrice(msgspec.Struct, frozen=True):
    """One priced feature. `unit` names what is counted; `unit_atoms` is 0 only for what is free on purpose."""

    name: str
    unit: str
    currency: str
    unit_atoms: int


def price_feature(feature: FeaturePrice, quantity: int) -> int | None:
    """What so many units cost, in atoms; None: more than an amount can be.

    Raises:
        ValueError: a quantity that is not 1 … MAX_QUANTITY.
    """
    if not 1 <= quantity <= MAX_QUANTITY:
        raise ValueError(f"a quantity is 1 to {MAX_QUANTITY}, not {quantity}")
    atoms = feature.unit_atoms * quantity
    return atoms if atoms <= MAX_ATOMS else None
