"""What the ledger shows of itself: the answers of its API, as types.

Amounts stand as whole atoms beside their currency and scale, and as decimal text for people.
Instants are Unix milliseconds in fields that end in `_at_ms`.
"""

from __future__ import annotations

import msgspec

from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.decisions import Consulted, Decision
from sidecar.core.pricing.usage import Usage


class Money(msgspec.Struct, frozen=True):
    """An amount as the API shows it: `atoms` is exact, `text` is for people."""

    currency: str
    atoms: int
    scale: int
    text: str


def money(atoms: int, currency: Currency) -> Money:
    """An amount of a currency, for showing."""
    return Money(currency.code, atoms, currency.scale, format_amount(atoms, currency))


class CustomerView(msgspec.Struct, frozen=True):
    """One customer. `timezone` is the one set last, which acts on a budget from its next period on."""

    customer: str
    wallet: str
    created_at_ms: int
    entries: int
    timezone: str = "UTC"
    timezone_set_at_ms: int = 0


class NodeView(msgspec.Struct, frozen=True):
    """One node of a customer's tree; `path` is its whole canonical path, `acme/department:a/team:b`."""

    customer: str
    path: str
    kind: str
    id: str
    created_at_ms: int
    frozen: bool = False


class FrozenView(msgspec.Struct, frozen=True):
    """Whether something is frozen by itself; `path` is the customer, or its node or user as people write it."""

    customer: str
    path: str
    frozen: bool
    frozen_at_ms: int | None = None
    actor: str = ""
    reason: str = ""


class HoldersView(msgspec.Struct, frozen=True):
    """How far a customer's last change has come (L35).

    `holders` sidecars have spending power of it, `acknowledged` of them decide by `revision` already, and
    `waiting` names the first hundred of the others: they may go by the former policies until they hear of it, at the
    latest until their leases end.
    """

    customer: str
    revision: int
    holders: int
    acknowledged: int
    waiting: tuple[str, ...] = ()


class GrantView(msgspec.Struct, frozen=True):
    """One grant and where its credit stands: the parts add up to `issued` (L6)."""

    customer: str
    grant_id: str
    category: str
    priority: int
    issued: Money
    available: Money
    held: Money
    leased: Money
    consumed: Money
    expired: Money
    revoked: Money
    unaccounted: Money
    effective_at_ms: int
    expires_at_ms: int | None
    models: tuple[str, ...]
    features: tuple[str, ...]
    live: bool
    voided: bool = False


class RateLimitView(msgspec.Struct, frozen=True):
    """One rate limit: at most `limit` of what it counts (requests, tokens, concurrent) in any `window_s` seconds."""

    customer: str
    limit_id: str
    path: str
    counts: str
    limit: int
    window_s: int
    match: dict[str, str]
    each: str
    version: int


class BudgetChildView(msgspec.Struct, frozen=True):
    """One budget's account in the current period; `child` is `` unless the budget is for each of something."""

    child: str
    used: Money
    leased: Money
    remaining: Money
    period: str
    resets_at_ms: int | None
    starts_at_ms: int = 0


class BudgetView(msgspec.Struct, frozen=True):
    """One budget as it was set, and the accounts it has in the current period (at most 100 shown).

    `grace` is what may be spent beyond the limit in this period while the ledger is away, all sidecars together; of
    it `grace_used` was, `grace_leased` is with sidecars, and `grace_remaining` with none.
    None where `on_outage` is `deny`.
    """

    customer: str
    budget_id: str
    path: str
    limit: Money
    per: str
    match: dict[str, str]
    each: str
    hard: bool
    version: int
    children: tuple[BudgetChildView, ...]
    more_children: bool = False
    clamp: bool = True
    anchor: str = ""
    kind: str = "cap"
    guardrail: bool = False
    window_s: int = 0
    on_outage: str = "deny"
    grace: Money | None = None
    grace_used: Money | None = None
    grace_leased: Money | None = None
    grace_remaining: Money | None = None


class BalanceView(msgspec.Struct, frozen=True):
    """What a customer has, per currency, with its grants in burn order and its budgets."""

    customer: str
    wallet: str
    available: tuple[Money, ...]
    leased: tuple[Money, ...]
    consumed: tuple[Money, ...]
    debt: tuple[Money, ...]
    grants: tuple[GrantView, ...]
    budgets: tuple[BudgetView, ...]


class UsageView(msgspec.Struct, frozen=True):
    """One settled call. `usage` holds the token counters and `units`; `charge` is null where no price is known."""

    request_id: str
    sequence: int
    recorded_at_ms: int
    occurred_at_ms: int
    customer: str
    path: str
    user: str
    agent: str
    session: str
    feature: str
    product: str
    provider: str
    protocol: str
    model: str
    state: str
    status: int
    ending: str
    usage: dict[str, object]
    charge: Money | None
    flags: tuple[str, ...]


class SumView(msgspec.Struct, frozen=True):
    """Settled calls added up: one group, in one currency.

    `group` is null for the calls that have no such thing (no user, no team …). `charge` is null for
    the calls without a known price, which are a group of their own. `estimated_calls` are those
    whose charge is not the provider's own figure. A counter is null where none of the calls said it.
    """

    by: str
    group: str | None
    calls: int
    estimated_calls: int
    usage: dict[str, int | None]
    charge: Money | None


class ClockView(msgspec.Struct, frozen=True):
    """The time by which the ledger decides, and how far the wall clock has jumped from it; 0 while it is believed."""

    now_ms: int
    jump_ms: int


class SidecarTokenView(msgspec.Struct, frozen=True):
    """A name that has a token to speak to the ledger as a sidecar."""

    name: str


class KeyView(msgspec.Struct, frozen=True):
    """One virtual key. `path` is whom it names, as people write it: `acme/team:data/user:ada`.

    `fingerprint` is the beginning of its SHA-256. `revoked_at_ms` is null while it is good, `expires_at_ms` for ever.
    `last_used_on` is the last day (UTC) on which a sidecar asked for it, `` where none has.
    """

    customer: str
    key_id: str
    name: str
    fingerprint: str
    path: str
    agent: str
    session: str
    feature: str
    product: str
    created_at_ms: int
    created_by: str
    revoked_at_ms: int | None
    revoked_by: str
    expires_at_ms: int | None = None
    last_used_on: str = ""


class TokenView(msgspec.Struct, frozen=True):
    """One token of the API. `path` is what it reaches: `` the whole ledger, `acme`, or `acme/team:data` and below.

    `expires_at_ms` is null for never, `revoked_at_ms` while it is good. In the answer to its revocation `also_ended`
    are tokens that it had made, which end with it, and `keys_left` counts the virtual keys it made that are still good.
    """

    customer: str
    name: str
    role: str
    path: str
    created_at_ms: int
    created_by: str
    expires_at_ms: int | None
    revoked_at_ms: int | None
    revoked_by: str
    also_ended: tuple[str, ...] = ()
    keys_left: int = 0


class SilentLeaseView(msgspec.Struct, frozen=True):
    """A lease in quarantine: what it holds is reserved until its holder is heard again."""

    customer: str
    lease_id: str
    account: str
    sidecar: str
    silent_since_ms: int
    held: Money


class Leg(msgspec.Struct, frozen=True):
    """One movement of a posting: `atoms` into (or, negative, out of) a bucket of an account."""

    account: str
    bucket: str
    currency: str
    atoms: int


class EntryView(msgspec.Struct, frozen=True):
    """One line of the journal. `hash` chains it to the entry before (L8)."""

    customer: str
    sequence: int
    kind: str
    key: str
    actor: str
    recorded_at_ms: int
    occurred_at_ms: int
    legs: tuple[Leg, ...]
    facts: dict[str, object]
    hash: str


class ExplainView(msgspec.Struct, frozen=True):
    """Why a call was admitted or denied, and what came of it.

    `outcome` is settled, open (admitted, not yet settled) or denied. A denial is known to the
    sidecar that made it, for as long as it remembers; then `reason` and `detail` are set.
    `consulted` are the budgets and grants that were asked, also of a denial, which has no decision.
    `legs` are what this call moved; `entry` is the one that books it, with others of its batch or alone.
    `expected` is what 95 of 100 of the latest calls of its model by its `protocol` cost at most, as the sidecar that
    is asked has learned it by now; null elsewhere, and before there were enough of them.
    """

    request_id: str
    outcome: str
    customer: str
    subject: dict[str, str]
    provider: str
    model: str
    ceiling: Money | None
    held: Money | None
    charge: Money | None
    decision: Decision | None
    usage: Usage | None = None
    reason: str = ""
    detail: str = ""
    flags: tuple[str, ...] = ()
    consulted: tuple[Consulted, ...] = ()
    legs: tuple[Leg, ...] = ()
    entry: EntryView | None = None
    expected: Money | None = None
    protocol: str = ""


class ToldDecision(Decision, frozen=True, omit_defaults=True):
    """A decision as it is shown (`Decision.told`): its figures stand in `consulted`, and none packed."""

    figures: tuple[int | None, ...] = ()  # type: ignore[assignment]  # for the document, which knows no packed ones


class ShownDecision(ExplainView, frozen=True):
    """What an explained call is shown as, for the documents of both APIs."""

    decision: ToldDecision | None = None


class ActView(msgspec.Struct, frozen=True):
    """What a person did: an entry of the journal, its actor and reason first. `_system` is what is of no customer."""

    customer: str
    sequence: int
    kind: str
    key: str
    actor: str
    reason: str
    recorded_at_ms: int
    facts: dict[str, object]
    hash: str


class BackupView(msgspec.Struct, frozen=True):
    """A copy of the embedded book. `state`: none, making, made or failed (`problem` says why).

    Once it is made it stands at `path`, on the ledger's machine, until another one is begun or the ledger starts anew.
    """

    name: str
    state: str
    path: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    problem: str = ""


class VerifyView(msgspec.Struct, frozen=True):
    """What checking a customer's chain and balances found; `problems` is empty when all is well.

    `signed` counts the signed heads that agree with the book; `lost` are the last entries that a restore took
    away, as far as a checkpoint knows of them, and 0 where none did.
    """

    customer: str
    entries: int
    head: str
    problems: tuple[str, ...]
    signed: int = 0
    lost: int = 0


class Page(msgspec.Struct, frozen=True):
    """Some rows and where to go on; `next_cursor` is `` at the end."""

    rows: tuple[object, ...]
    next_cursor: str = ""
