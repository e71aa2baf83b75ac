"""Budgets: which apply to a request, and which account each of them counts on.

A budget is (node, match over dimensions, optional `each`, currency, period, hard or soft) (L30).
All budgets on the subject's path whose match covers the request apply at once. The sidecar
and the ledger use these same functions, so that they cannot disagree about which.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sidecar.core.credits.scopes import fits
from sidecar.core.governance.limits import Cadence, Period
from sidecar.core.governance.periods import Calendar, Zones
from sidecar.core.governance.tenancy import Node, Subject

DIMENSIONS = ("agent", "session", "feature", "product", "model", "provider")
"""What a budget can match on."""


class Each(StrEnum):
    """Give every child its own budget of this size."""

    NONE = ""
    USER = "user"
    AGENT = "agent"
    SESSION = "session"


class OnOutage(StrEnum):
    """What becomes of calls that no lease covers while the ledger is away (L47)."""

    DENY = "deny"
    GRACE = "grace"


class Kind(StrEnum):
    """What a budget's limit promises (`allocations`)."""

    CAP = "cap"
    ALLOCATION = "allocation"


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """One budget as the ledger compiled it.

    `node` None is the customer itself; kind `user` is a user. `match` maps a dimension to a
    pattern (`*` stands for any run of characters). `thresholds_percent` are the fractions of a
    limit whose crossing is an entry (L53); `version` counts the edits. `clamp`: near this limit a call's output
    limit may be lowered so that it fits; false where an answer must not be shortened. `anchor` says where its
    periods begin, as in `periods.Calendar`. `guardrail`: a member set it for itself, beside what others set
    and never above that (L36); it bounds, but is not what a customer without a wallet must be bounded by.
    `window_ms`: how long a window is; 0 for every other cadence. `grace_atoms`: with `on_outage: grace`, how much
    may be spent beyond the limit, in each period, while the ledger is away (`overdrafts`).
    """

    budget_id: str
    currency: str
    limit_atoms: int
    cadence: Cadence
    node: Node | None = None
    match: dict[str, str] = {}
    each: Each = Each.NONE
    hard: bool = True
    on_outage: OnOutage = OnOutage.DENY
    thresholds_percent: tuple[int, ...] = (100,)
    version: int = 1
    clamp: bool = True
    anchor: str = ""
    kind: Kind = Kind.CAP
    guardrail: bool = False
    window_ms: int = 0
    grace_atoms: int = 0

    def owner(self, customer: str) -> str:
        """The node as people write it: `acme`, `acme/team:data`."""
        return customer if self.node is None else f"{customer}/{self.node}"

    def calendar(self, zones: Zones) -> Calendar:
        """What tells its periods, by its customer's time zones."""
        return Calendar(self.cadence, self.anchor, zones)

    def child_of(self, subject: Subject) -> str:
        """Which child's account a request counts on; those that name none share one, ``."""
        return "" if self.each is Each.NONE else str(getattr(subject, self.each.value))


def budget_account(budget_id: str, child: str, period: Period) -> str:
    """The account of a budget's child in a period: `budget:ID:2026-11:CHILD`; of a window, `budget:ID:w:CHILD/START`.

    A child's windows stand side by side, and in order: which one runs is looked up there, and nowhere else.
    """
    if period.cadence is Cadence.WINDOW:
        return f"{window_accounts(budget_id, child)}{period.starts_at_ms:013}"
    return f"budget:{budget_id}:{period.key}:{child}"


def budget_id_of(account: str) -> str:
    """The budget that one of the accounts above is of."""
    return account.split(":", 2)[1]


def window_accounts(budget_id: str, child: str) -> str:
    """What the accounts of a child's windows begin with; the rest is when each starts. No id has a `/` in it."""
    return f"budget:{budget_id}:w:{child}/"


def grant_account(grant_id: str) -> str:
    """The account of a grant: `grant:ID`."""
    return f"grant:{grant_id}"


def covers(match: Mapping[str, str], subject: Subject, *, model: str, provider: str) -> bool:
    """Whether a match covers a request: every dimension it names fits its pattern."""
    for dimension, pattern in match.items():
        if dimension == "model":
            value = model
        elif dimension == "provider":
            value = provider
        else:
            value = str(getattr(subject, dimension))
        if not fits(pattern, value):
            return False
    return True


def is_on_path(node: Node | None, subject: Subject) -> bool:
    """Whether a budget's node is on the subject's path: the customer, a path node, or the user."""
    if node is None:
        return True
    if node.kind == "user":
        return node.id == subject.user
    return node in subject.path


def applies(budget: Budget, subject: Subject, *, model: str, provider: str) -> bool:
    """Whether a budget must have room for (or, soft, counts) a request."""
    return is_on_path(budget.node, subject) and covers(budget.match, subject, model=model, provider=provider)
