"""What people may ask of the ledger: the port that its API and, through it, the command line use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from sidecar.core.governance.rights import Role, Scope
from sidecar.ledger.conditions import UNCONDITIONAL, Condition
from sidecar.ledger.fleet_administration import FleetAdministration
from sidecar.ledger.fleet_views import LearningView, LeaseView
from sidecar.ledger.parts import WHOLE, Part
from sidecar.ledger.views import (
    ActView,
    BackupView,
    BalanceView,
    BudgetView,
    ClockView,
    CustomerView,
    EntryView,
    ExplainView,
    FrozenView,
    GrantView,
    HoldersView,
    KeyView,
    NodeView,
    RateLimitView,
    SidecarTokenView,
    SilentLeaseView,
    SumView,
    TokenView,
    UsageView,
    VerifyView,
)


class KnownToken(msgspec.Struct, frozen=True):
    """A good token of the API: its name, its role and where it reaches."""

    name: str
    role: Role
    scope: Scope


def _nothing() -> None:
    """What is done of a repetition where nobody asks."""


class Act(msgspec.Struct, frozen=True):
    """Who does something, and why, and the key that makes doing it twice the same as once (L27)."""

    actor: str
    idempotency_key: str
    reason: str = ""
    on_repeat: Callable[[], None] = _nothing
    """Called, from any thread, where the key was used before and its answer is given again."""


class NewGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A grant to issue. `amount` is a decimal in units of the currency; `expires_in_ms` a duration from now."""

    customer: str
    amount: str
    currency: str = "usd"
    category: str = "paid"
    priority: int = 0
    effective_at_ms: int | None = None
    expires_at_ms: int | None = None
    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


class NewBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A budget to set. `path` is `acme` or `acme/kind:id…` (a final `user:ID` is a user).

    Setting the same (path, match, each, per, currency, guardrail, window_s) again changes limit, hardness, clamping,
    kind and what an outage does. `clamp` false: near this limit an answer is refused, and never shortened. `anchor`:
    where its periods begin, a weekday (weeks) or a date (what is counted in months); empty: as it is, or as the
    calendar says. `kind` `allocation`: a part of the budget above (L32); empty: as it is, or `cap`. `guardrail`: a
    further budget that a member sets for itself, never above what others have set for the same (L36). `window_s`: how
    long a window is, from first use on, which only a hard budget can have. `on_outage`: `deny`, or `grace`: while the
    ledger is away, calls that no lease covers may spend `grace` beyond the limit in each period, all sidecars
    together; empty: as it is, or `deny`.
    """

    path: str
    limit: str
    per: str
    currency: str = "usd"
    match: dict[str, str] = {}
    each: str = ""
    hard: bool = True
    clamp: bool = True
    anchor: str = ""
    kind: str = ""
    guardrail: bool = False
    window_s: int = 0
    on_outage: str = ""
    grace: str = ""


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A virtual key that was made, known by the SHA-256 of its text (64 hex digits), and whom it names.

    `path` is `acme`, `acme/team:data` or `acme/user:ada`; what is left empty a request may say for itself.
    `expires_in_ms` is from now; null for never.
    """

    path: str
    sha256: str
    name: str = ""
    agent: str = ""
    session: str = ""
    feature: str = ""
    product: str = ""
    expires_in_ms: int | None = None


class NodeAct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done to `acme`, `acme/kind:id…` or `acme/user:ada`, and why."""

    path: str
    reason: str


class NodeMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node to put below another node of its customer's (or below the customer: `acme`), and why."""

    path: str
    to: str
    reason: str


class GrantVoid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant to void, and why."""

    customer: str
    grant_id: str
    reason: str


class BudgetRemoval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget to remove, and why."""

    customer: str
    budget_id: str
    reason: str


class NewRateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rate limit to set. `path` is `acme` or `acme/kind:id…` (a final `user:ID` is a user).

    `counts` is requests, tokens (both ways) or concurrent (calls under way at once, which has no window: `window_s`
    0). Setting the same (path, match, each, counts, window_s) again changes `limit`; 0 allows nothing.
    """

    path: str
    counts: str
    limit: int
    window_s: int = 60
    match: dict[str, str] = {}
    each: str = ""


class RateLimitRemoval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rate limit to remove, and why."""

    customer: str
    limit_id: str
    reason: str


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A token of the API that was made, known by the SHA-256 of its text (64 hex digits).

    `path` is what it shall reach: `` the whole ledger, `acme`, or `acme/team:data` and what is below.
    `role` is one of `core.governance.rights.Role`. `expires_in_ms` is from now; null for never.
    """

    name: str
    role: str
    token_sha256: str
    path: str = ""
    expires_in_ms: int | None = None


class LossAcceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sidecar that is not waited for any longer, or (``) all of them, and why: what it knows is given up for good."""

    reason: str
    sidecar: str = ""


class LeaseResolution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of what is out on a silent sidecar's lease, and why that is known.

    `how`: `spent`; `returned`: its holder cannot act again, and has not spent it; `unaccounted`: nobody knows.
    """

    customer: str
    lease_id: str
    how: str
    reason: str


class BackupDesk(Protocol):
    """Makes copies of the book, where it is the ledger's own file."""

    async def start(self, actor: str) -> BackupView:
        """Begin a copy; while one is being made, that one is given back."""
        ...

    def look(self, name: str) -> BackupView:
        """How far one has come.

        Raises:
            NotFound: it is not the last one.
        """
        ...


class Administration(FleetAdministration, Protocol):
    """Every method raises `errors.Rejected` (fields at fault), `errors.NotFound`, `errors.Conflict` or Unavailable."""

    async def add_customer(self, customer: str, wallet: str, act: Act) -> CustomerView:
        """Make a customer; one that exists with the same wallet is given back, with another it is a conflict."""
        ...

    async def set_timezone(self, customer: str, timezone: str, act: Act) -> CustomerView:
        """Let a customer's periods follow the clocks of a place (IANA name), each from its next one on (L37)."""
        ...

    async def customer(self, customer: str) -> CustomerView:
        """One customer."""
        ...

    async def customers(self, *, after: str, limit: int) -> tuple[list[CustomerView], str]:
        """Customers by name, and the cursor to go on with."""
        ...

    async def add_nodes(self, path: str, act: Act) -> list[NodeView]:
        """Make every node of `acme/kind:id/…` that does not exist yet."""
        ...

    async def nodes(self, customer: str, part: Part = WHOLE) -> list[NodeView]:
        """The tree, or the part of it behind a path, parents before children."""
        ...

    async def freeze(self, node: NodeAct, act: Act) -> FrozenView:
        """Let no call of a customer, node or user run; twice is once (L35)."""
        ...

    async def unfreeze(self, node: NodeAct, act: Act) -> FrozenView:
        """Let its calls run again; twice is once."""
        ...

    async def move_node(self, move: NodeMove, act: Act) -> list[NodeView]:
        """Put a node, with all below it, to another place of the tree; usage so far stays where it was (L35).

        Gives what moved, parents before children. Twice is once.
        """
        ...

    async def frozen(self, customer: str) -> list[FrozenView]:
        """All that is frozen of a customer by itself, users too."""
        ...

    async def holders(self, customer: str) -> HoldersView:
        """Which sidecars hold spending power of a customer, and how many decide by its last change."""
        ...

    async def add_grant(self, grant: NewGrant, act: Act) -> GrantView:
        """Issue a grant."""
        ...

    async def grants(self, customer: str, part: Part = WHOLE) -> list[GrantView]:
        """All grants in burn order, ended ones last; or some, behind the place that `grant_place` says of one."""
        ...

    async def set_budget(self, budget: NewBudget, act: Act, condition: Condition = UNCONDITIONAL) -> BudgetView:
        """Set a budget, if the condition holds of what is there. It counts what its period has seen (L31)."""
        ...

    async def void_grant(self, grant: GrantVoid, act: Act) -> GrantView:
        """Revoke what is left of a grant; what is lent of it, as it comes back (L15). Twice is once."""
        ...

    async def remove_budget(self, budget: BudgetRemoval, act: Act) -> BudgetView:
        """Limit by a budget no more; gives it as it stood. Twice is once."""
        ...

    async def set_rate_limit(self, limit: NewRateLimit, act: Act) -> RateLimitView:
        """Set how many requests or tokens in a window, or calls at once; the same again changes how many."""
        ...

    async def remove_rate_limit(self, limit: RateLimitRemoval, act: Act) -> RateLimitView:
        """Limit by it no more; gives it as it stood. Twice is once."""
        ...

    async def rate_limits(self, customer: str) -> list[RateLimitView]:
        """All rate limits, in the order in which they were set."""
        ...

    async def budgets(self, customer: str, part: Part = WHOLE) -> list[BudgetView]:
        """All budgets, or those behind the one of an id, outermost node first."""
        ...

    async def balance(self, customer: str) -> BalanceView:
        """What a customer has and has used."""
        ...

    async def usage(self, *, customer: str, since_ms: int, after: str, limit: int) -> tuple[list[UsageView], str]:
        """Settled calls in the order booked; `customer` `` for all."""
        ...

    async def sums(
        self, *, by: str, customer: str, since_ms: int, after: str, this: str = "", node: str = ""
    ) -> tuple[list[SumView], str]:
        """The next settled calls in the order booked, added up by group, and the cursor to go on with.

        `this`: only those of the customer's hour, day, week, month, quarter or year that runs now.
        `node`, `kind:id`: only what is at it or below, or of that user.
        """
        ...

    async def silent_leases(self, customer: str = "") -> list[SilentLeaseView]:
        """Leases in quarantine, longest silent first (L46); `customer` `` for all."""
        ...

    async def clock(self) -> ClockView:
        """The ledger's time (L38)."""
        ...

    async def accept_clock(self, act: Act) -> ClockView:
        """Believe the wall clock again after a jump, as it is now: periods begin and grants expire by it."""
        ...

    async def leases(self, customer: str = "") -> list[LeaseView]:
        """Leases whose sidecar is not heard, and what became of them, longest silent first; `customer` `` for all."""
        ...

    async def resolve_lease(self, form: LeaseResolution, act: Act) -> LeaseView:
        """Say what became of what is out on a lease whose sidecar is not heard (L46).

        If the sidecar speaks after all, its own word counts for more than `spent` and `unaccounted`.

        Raises:
            Conflict: its sidecar is heard, or nothing is out.
        """
        ...

    async def learning(self) -> LearningView:
        """Whether the book has lost something, and whom the ledger waits for before it lends again (L50a)."""
        ...

    async def accept_loss(self, loss: LossAcceptance, act: Act) -> LearningView:
        """Wait no longer for a sidecar, or for any: what they know of the lost span is given up.

        Raises:
            NotFound: that sidecar is not waited for.
        """
        ...

    async def set_sidecar_token(self, name: str, token_sha256: str, act: Act) -> SidecarTokenView:
        """Let in whoever brings the token with this SHA-256 (64 hex digits), as a sidecar; a former one is void.

        The token itself is made by who asks, and never comes here before a sidecar brings it.
        """
        ...

    async def revoke_sidecar_token(self, name: str, act: Act) -> SidecarTokenView:
        """Let in nobody by that name any more, from within a second."""
        ...

    async def sidecar_tokens(self) -> list[SidecarTokenView]:
        """The names that have a token."""
        ...

    async def add_key(self, key: NewKey, act: Act) -> KeyView:
        """Let in whoever brings this virtual key, as the subject that it names. The key itself never comes here."""
        ...

    async def revoke_key(self, customer: str, key_id: str, act: Act) -> KeyView:
        """Let in nobody by it any more, from within a second; one that is revoked stays so."""
        ...

    async def keys(self, customer: str, *, after: int, limit: int) -> tuple[list[KeyView], int]:
        """A customer's virtual keys as made, revoked ones too, and the number to go on with (0 at the end)."""
        ...

    async def make_token(self, token: NewToken, act: Act) -> TokenView:
        """Let in whoever brings the token with this SHA-256; the token itself never comes here before it is used."""
        ...

    async def revoke_token(self, customer: str, name: str, act: Act) -> TokenView:
        """Let nobody in by it any more, nor by a token that it made, from within a second.

        `customer` is `` for a token of the whole ledger. Virtual keys that it made stay; the answer counts them.
        """
        ...

    async def token(self, customer: str, name: str) -> TokenView:
        """One token."""
        ...

    async def tokens(self, customer: str, *, after: str, limit: int) -> tuple[list[TokenView], str]:
        """Tokens by name, revoked ones too, and where to go on; `customer` `` for those of the whole ledger."""
        ...

    async def find_token(self, digest: bytes) -> KnownToken | None:
        """The good token with a SHA-256; None: there is none, it was revoked, or it has expired."""
        ...

    async def cursor_secret(self) -> bytes:
        """What the cursors of this book are signed with: the same for every process on it."""
        ...

    async def explain(self, request_id: str, customer: str = "", *, evenly: bool = False) -> ExplainView:
        """One call's decision and charge, from the book; of a `customer`, or (``) whosever it is.

        Another customer's call is not looked for: that it is there takes no time that could be told (S-34).
        `evenly`: for an asker who may not see all of the customer, it takes as long where there is no such call.
        """
        ...

    async def entries(self, customer: str, *, after: int, kind: str, limit: int) -> tuple[list[EntryView], int]:
        """The journal from a sequence number on, and the number to go on with (0 at the end)."""
        ...

    async def audit(
        self, *, customer: str, actor: str, since_ms: int, until_ms: int, after: str, limit: int
    ) -> tuple[list[ActView], str]:
        """What people did, oldest first, over all customers or of one; `` of `customer` and `actor` is any."""
        ...

    async def verify(self, customer: str) -> VerifyView:
        """Check the chain, and every balance against the entries (L8, L9)."""
        ...
