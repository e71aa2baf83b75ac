"""What the ledger tells a sidecar about one subject: its policies, never its spending power.

A standing is compiled for (customer, path, user) and serves every request of theirs, whatever
its agent, session or model: which budgets match is decided per request, by the same functions
on both sides. Spending power comes apart from it, as leases.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget, applies
from sidecar.core.governance.rate_limits import RateLimit
from sidecar.core.governance.tenancy import Node, Subject


class Wallet(StrEnum):
    """How a customer's calls are covered: stated, never inferred from grants existing (L16a)."""

    REQUIRED = "required"  # slices of grants must exist
    NONE = "none"  # counted only; then at least one hard budget must apply


class Standing(msgspec.Struct, frozen=True):
    """Everything that decides about a subject but the money itself.

    `path` is the canonical one, with every ancestor. `budgets` are all on the path, hard and
    soft, outermost node first; `grants` all that may pay now, in burn order. `plan` names the
    plan version; `revision` the last entry it was compiled from. After `fresh_for_ms` (from the
    moment it was asked for) it is asked for again. `rate_limits` are all on the path, outermost first.
    """

    customer: str
    path: tuple[Node, ...]
    user: str
    wallet: Wallet
    currency: str
    budgets: tuple[Budget, ...]
    grants: tuple[Grant, ...]
    plan: str
    revision: int
    fresh_for_ms: int
    rate_limits: tuple[RateLimit, ...] = ()

    def budgets_for(self, subject: Subject, *, model: str, provider: str) -> tuple[Budget, ...]:
        """The budgets that apply to a request, outermost node first (L30)."""
        return tuple(b for b in self.budgets if applies(b, subject, model=model, provider=provider))

    def grants_for(self, subject: Subject, *, model: str) -> tuple[Grant, ...]:
        """The grants whose scope covers a request, in burn order (L12)."""
        return tuple(g for g in self.grants if g.covers(model=model, feature=subject.feature))
