"""Features priced by the piece: exact products, and nothing beyond an amount."""

from __future__ import annotations

import pytest

from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.pricing.features import MAX_QUANTITY, FeaturePrice, price_feature


def test_a_charge_is_a_product() -> None:
    """L4: nothing is rounded; what is free costs nothing; more than an amount can be has no price."""
    assert price_feature(FeaturePrice("step", "steps", "usd", 3), 7) == 21
    assert price_feature(FeaturePrice("view", "views", "usd", 0), MAX_QUANTITY) == 0
    assert price_feature(FeaturePrice("dear", "steps", "usd", MAX_ATOMS), 1) == MAX_ATOMS
    assert price_feature(FeaturePrice("dear", "steps", "usd", MAX_ATOMS), 2) is None


@pytest.mark.parametrize("quantity", [0, -1, MAX_QUANTITY + 1])
def test_a_quantity_has_bounds(quantity: int) -> None:
    """L1: outside of them it is refused."""
    with pytest.raises(ValueError, match="a quantity is 1 to"):
        price_feature(FeaturePrice("step", "steps", "usd", 1), quantity)
