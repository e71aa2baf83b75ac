"""Who may do what over the ledger: rights, the roles that have them, and how far a token reaches.

One table says which role has which right; a route of the API names the right that it needs, and
nothing else decides. A role is never more than its row: who has a token cannot make one that may
do what it may not itself, or that reaches further.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from sidecar.core.governance.tenancy import Node, is_id, parse_path


class Right(StrEnum):
    """What a route needs. `public` needs no token, `any` any that is good: both tell nothing of a customer."""

    PUBLIC = "public"
    ANY = "any"
    PLATFORM = "platform"
    """Make customers and the platform's own keys; look after the ledger itself."""
    CATALOG = "catalog"
    """Edit plans and prices."""
    CREDIT = "credit"
    """Grant and refund credit."""
    LIMITS = "limits"
    """Set limits, hard and soft, and what alerts."""
    GUARDRAIL = "guardrail"
    """Set a further limit of one's own, never above what others have set (L36)."""
    USAGE = "usage"
    """See usage and balances."""
    JOURNAL = "journal"
    """See and export the journal."""
    AUDIT = "audit"
    """See who did what."""
    MEMBERS = "members"
    """Make and move the nodes below, and say who is in them."""
    TOKENS = "tokens"
    """Make and revoke tokens and virtual keys."""


class Role(StrEnum):
    """Who somebody is."""

    PLATFORM_ADMIN = "platform_admin"
    ORG_OWNER = "org_owner"
    FINANCE = "finance"
    TEAM_MANAGER = "team_manager"
    MEMBER = "member"
    AUDITOR = "auditor"
    APP = "app"


class Reach(StrEnum):
    """How far a token reaches: over the whole ledger, a customer, or a node and what is below it."""

    LEDGER = "ledger"
    CUSTOMER = "customer"
    NODE = "node"


_ALL: Final = frozenset(Right)
_SEES: Final = frozenset({Right.PUBLIC, Right.ANY, Right.USAGE})
_SPENDS: Final = _SEES | {Right.GUARDRAIL}

RIGHTS: Final[dict[Role, frozenset[Right]]] = {
    Role.PLATFORM_ADMIN: _ALL,
    Role.ORG_OWNER: _SPENDS | {Right.LIMITS, Right.JOURNAL, Right.AUDIT, Right.MEMBERS, Right.TOKENS},
    Role.FINANCE: _SPENDS | {Right.CREDIT, Right.LIMITS, Right.JOURNAL},
    Role.TEAM_MANAGER: _SPENDS | {Right.LIMITS, Right.MEMBERS, Right.TOKENS},
    Role.MEMBER: _SPENDS,
    Role.AUDITOR: _SEES | {Right.JOURNAL, Right.AUDIT},
    Role.APP: _SEES,
}
"""The table."""

REACHES: Final[dict[Role, frozenset[Reach]]] = {
    Role.PLATFORM_ADMIN: frozenset({Reach.LEDGER}),
    Role.ORG_OWNER: frozenset({Reach.CUSTOMER}),
    Role.FINANCE: frozenset({Reach.LEDGER, Reach.CUSTOMER}),
    Role.TEAM_MANAGER: frozenset({Reach.NODE}),
    Role.MEMBER: frozenset({Reach.NODE}),
    Role.AUDITOR: frozenset({Reach.LEDGER, Reach.CUSTOMER}),
    Role.APP: frozenset({Reach.CUSTOMER, Reach.NODE}),
}
"""What a token of a role may be made for."""


class Scope(msgspec.Struct, frozen=True):
    """Where a token reaches: `customer` `` is the whole ledger, `node` None the whole customer."""

    customer: str = ""
    node: Node | None = None

    @property
    def reach(self) -> Reach:
        """How far that is."""
        if not self.customer:
            return Reach.LEDGER
        return Reach.CUSTOMER if self.node is None else Reach.NODE

    def holds(self, customer: str, nodes: tuple[str, ...] = ()) -> bool:
        """Whether it reaches what is at a place.

        Args:
            customer: whose it is.
            nodes: every node that it is of or below, each `kind:id`, its user too.
        """
        if not self.customer:
            return True
        return customer == self.customer and (self.node is None or str(self.node) in nodes)


def read_scope(path: str) -> Scope:
    """The scope of `` (the whole ledger), `acme`, or `acme/kind:id…` (its last node counts).

    Raises:
        ValueError: it is no path.
    """
    if not path:
        return Scope()
    customer, _, rest = path.partition("/")
    if not is_id(customer) or customer.startswith("_"):
        raise ValueError("expected acme or acme/kind:id")
    nodes = parse_path(rest)
    return Scope(customer, nodes[-1] if nodes else None)


def may_make(maker: Role, made: Role) -> bool:
    """Whether who has one role may make, or revoke, a token with another: never with a right it lacks itself."""
    return Right.TOKENS in RIGHTS[maker] and RIGHTS[made] <= RIGHTS[maker]
