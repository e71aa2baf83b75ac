"""Grants: lots of credit with a kind, a scope and a validity (L10, L12)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sidecar.core.credits.scopes import fits


class Category(StrEnum):
    """Whether somebody paid for it."""

    PAID = "paid"
    PROMOTIONAL = "promotional"


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """One lot of credit as it was issued; what is left of it is its account's balance.

    It pays in `[effective_at_ms, expires_at_ms)`; None never expires. `models` and `features`
    are patterns (`*` stands for any run of characters), empty for all. `sequence` is the
    number of the entry that issued it: the last word in the burn order.
    """

    grant_id: str
    currency: str
    issued_atoms: int
    effective_at_ms: int
    sequence: int
    expires_at_ms: int | None = None
    category: Category = Category.PAID
    priority: int = 0
    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def is_live(self, at_ms: int) -> bool:
        """Whether it pays at an instant; one that expires just then does not (L10)."""
        return self.effective_at_ms <= at_ms and (self.expires_at_ms is None or at_ms < self.expires_at_ms)

    def covers(self, *, model: str, feature: str) -> bool:
        """Whether its scope covers a call."""
        return _any(self.models, model) and _any(self.features, feature)


def _any(patterns: tuple[str, ...], value: str) -> bool:
    return not patterns or any(fits(pattern, value) for pattern in patterns)
