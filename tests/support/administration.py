"""An `Administration` in memory, for tests of what stands in front of the ledger."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from sidecar import errors
from sidecar.core.credits.amounts import AmountError, Currency, parse_amount
from sidecar.core.governance.rights import Role, read_scope
from sidecar.core.governance.tenancy import is_id, parse_path
from sidecar.core.governance.virtual_keys import fingerprint
from sidecar.ledger import api_tokens, forms
from sidecar.ledger.administration import (
    Act,
    BudgetRemoval,
    GrantVoid,
    KnownToken,
    LeaseResolution,
    LossAcceptance,
    NewBudget,
    NewGrant,
    NewKey,
    NewRateLimit,
    NewToken,
    NodeAct,
    NodeMove,
    RateLimitRemoval,
)
from sidecar.ledger.conditions import UNCONDITIONAL, Condition
from sidecar.ledger.fleet_views import ExposureView, LearningView, LeaseView, SidecarView
from sidecar.ledger.parts import WHOLE, Part, grant_place
from sidecar.ledger.views import (
    ActView,
    BackupView,
    BalanceView,
    BudgetChildView,
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
    money,
)

USD = Currency("usd", 9)
NOTHING = money(0, USD)


def usage_view(number: int, **changes: Any) -> UsageView:
    """A settled call."""
    facts: dict[str, Any] = {
        "request_id": f"req_{number}",
        "sequence": number,
        "recorded_at_ms": 1_795_000_000_000 + number,
        "occurred_at_ms": 1_795_000_000_000,
        "customer": "acme",
        "path": "team:data",
        "user": "ada",
        "agent": "pipeline",
        "session": "s1",
        "feature": "",
        "product": "",
        "provider": "openai",
        "protocol": "openai_chat",
        "model": "gpt-4o-mini",
        "state": "final",
        "status": 200,
        "ending": "complete",
        "usage": {"input_tokens": 10, "output_tokens": 5},
        "charge": money(4500, USD),
        "flags": (),
    }
    return UsageView(**facts | changes)


class FakeAdministration:
    """Remembers what it is told. `failure`, where set, is raised by every method; `acts` are all acts it saw."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.acts: list[Act] = []
        self.sidecars: dict[str, str] = {}
        self.api_tokens: dict[str, TokenView] = {}
        self.found = 0  # how often a token was looked for
        self.virtual: dict[str, KeyView] = {}
        self.digests: list[str] = []
        self.made: dict[str, CustomerView] = {}
        self.tree: list[NodeView] = []
        self.cold: dict[str, FrozenView] = {}
        self.held = [HoldersView("acme", 1, 2, 2)]
        self.lots: list[GrantView] = []
        self.limits: dict[str, BudgetView] = {}
        self.rates: dict[str, RateLimitView] = {}
        self.named = 0
        self.calls: list[UsageView] = []
        self.summed: list[list[SumView]] = []  # pages
        self.unheard: list[LeaseView] = []
        self.out: list[ExposureView] = []
        self.fleet: list[SidecarView] = []
        self.learns = LearningView("history_1")
        self.silent: list[SilentLeaseView] = []
        self.asked_by: list[str] = []
        self.explained: dict[str, ExplainView] = {}
        self.journal: list[EntryView] = []
        self.problems: tuple[str, ...] = ()
        self.time = ClockView(1_795_000_000_000, 0)

    def _known(self, customer: str) -> None:
        if self.failure is not None:
            raise self.failure
        if customer not in self.made:
            raise errors.NotFound("customer", customer)

    async def add_customer(self, customer: str, wallet: str, act: Act) -> CustomerView:
        """Make one."""
        if self.failure is not None:
            raise self.failure
        if not is_id(customer):
            raise errors.Rejected("invalid_customer", {"customer": "expected an id"})
        self.acts.append(act)
        view = self.made.setdefault(customer, CustomerView(customer, wallet or "required", 1_795_000_000_000, 1))
        if wallet and view.wallet != wallet:
            raise errors.IdempotencyConflict(f"{customer} exists with another wallet", field="wallet")
        return view

    async def set_timezone(self, customer: str, timezone: str, act: Act) -> CustomerView:
        """Of one that is there."""
        self._known(customer)
        self.acts.append(act)
        self.made[customer] = msgspec.structs.replace(self.made[customer], timezone=timezone)
        return self.made[customer]

    async def customer(self, customer: str) -> CustomerView:
        """One."""
        self._known(customer)
        return self.made[customer]

    async def customers(self, *, after: str, limit: int) -> tuple[list[CustomerView], str]:
        """By name."""
        if self.failure is not None:
            raise self.failure
        rows = sorted((row for name, row in self.made.items() if name > after), key=lambda row: row.customer)
        return rows[:limit], rows[limit - 1].customer if len(rows) > limit else ""

    async def add_nodes(self, path: str, act: Act) -> list[NodeView]:
        """Every node of a path."""
        customer, _, rest = path.partition("/")
        self._known(customer)
        self.acts.append(act)
        made, at = [], customer
        for node in parse_path(rest):
            at = f"{at}/{node}"
            made.append(NodeView(customer, at, node.kind, node.id, 1_795_000_000_000))
        self.tree += made
        return made

    async def nodes(self, customer: str, part: Part = WHOLE) -> list[NodeView]:
        """The tree."""
        self._known(customer)
        found = [node for node in self.tree if node.customer == customer and node.path > part.after]
        return found[: part.limit]

    async def freeze(self, node: NodeAct, act: Act) -> FrozenView:
        """As told."""
        return self._freeze(node, act, frozen=True)

    async def unfreeze(self, node: NodeAct, act: Act) -> FrozenView:
        """As told."""
        return self._freeze(node, act, frozen=False)

    def _freeze(self, node: NodeAct, act: Act, *, frozen: bool) -> FrozenView:
        customer = node.path.partition("/")[0]
        self._known(customer)
        self.acts.append(act)
        self.cold.pop(node.path, None)
        if not frozen:
            return FrozenView(customer, node.path, frozen=False)
        view = FrozenView(customer, node.path, True, 1_795_000_000_000, act.actor, node.reason)
        self.cold[node.path] = view
        self.tree = [msgspec.structs.replace(one, frozen=one.path in self.cold) for one in self.tree]
        return view

    async def move_node(self, move: NodeMove, act: Act) -> list[NodeView]:
        """It and all below it."""
        self._known(move.path.partition("/")[0])
        self.acts.append(act)
        new = f"{move.to}/{move.path.rpartition('/')[2]}"
        moved = [one for one in self.tree if f"{one.path}/".startswith(f"{move.path}/")]
        self.tree = [one for one in self.tree if one not in moved]
        placed = [msgspec.structs.replace(one, path=new + one.path.removeprefix(move.path)) for one in moved]
        self.tree += placed
        return placed

    async def void_grant(self, grant: GrantVoid, act: Act) -> GrantView:
        """All of it."""
        self._known(grant.customer)
        for position, lot in enumerate(self.lots):
            if (lot.customer, lot.grant_id) == (grant.customer, grant.grant_id):
                self.acts.append(act)
                view = msgspec.structs.replace(lot, available=NOTHING, revoked=lot.issued, live=False, voided=True)
                self.lots[position] = view
                return view
        raise errors.NotFound("grant", grant.grant_id)

    async def remove_budget(self, budget: BudgetRemoval, act: Act) -> BudgetView:
        """That one."""
        self._known(budget.customer)
        if budget.budget_id not in self.limits:
            raise errors.NotFound("budget", budget.budget_id)
        self.acts.append(act)
        return self.limits.pop(budget.budget_id)

    async def set_rate_limit(self, limit: NewRateLimit, act: Act) -> RateLimitView:
        """Set a new one, whatever is there."""
        customer = limit.path.partition("/")[0]
        self._known(customer)
        self.acts.append(act)
        self.named += 1
        view = RateLimitView(
            customer, f"rate_{self.named}", limit.path, limit.counts, limit.limit, limit.window_s, limit.match,
            limit.each, 1,
        )  # fmt: skip
        self.rates[view.limit_id] = view
        return view

    async def remove_rate_limit(self, limit: RateLimitRemoval, act: Act) -> RateLimitView:
        """That one."""
        self._known(limit.customer)
        if limit.limit_id not in self.rates:
            raise errors.NotFound("rate limit", limit.limit_id)
        self.acts.append(act)
        return self.rates.pop(limit.limit_id)

    async def rate_limits(self, customer: str) -> list[RateLimitView]:
        """All."""
        self._known(customer)
        return [limit for limit in self.rates.values() if limit.customer == customer]

    async def frozen(self, customer: str) -> list[FrozenView]:
        """All."""
        self._known(customer)
        return list(self.cold.values())

    async def holders(self, customer: str) -> HoldersView:
        """The next that a test has set, of which the last stays."""
        self._known(customer)
        return self.held.pop(0) if len(self.held) > 1 else self.held[0]

    async def add_grant(self, grant: NewGrant, act: Act) -> GrantView:
        """Issue."""
        self._known(grant.customer)
        self.acts.append(act)
        issued = money(parse_amount(grant.amount, USD), USD)
        view = GrantView(
            grant.customer,
            f"grant_{len(self.lots) + 1}",
            grant.category,
            grant.priority,
            issued,
            issued,
            NOTHING,
            NOTHING,
            NOTHING,
            NOTHING,
            NOTHING,
            NOTHING,
            effective_at_ms=grant.effective_at_ms or 1_795_000_000_000,
            expires_at_ms=grant.expires_at_ms,
            models=grant.models,
            features=grant.features,
            live=True,
        )
        self.lots.append(view)
        return view

    async def grants(self, customer: str, part: Part = WHOLE) -> list[GrantView]:
        """All."""
        self._known(customer)
        found = [lot for lot in self.lots if lot.customer == customer]
        first = [grant_place(lot) for lot in found].index(part.after) + 1 if part.after else 0
        return found[first : first + part.limit]

    async def set_budget(self, budget: NewBudget, act: Act, condition: Condition = UNCONDITIONAL) -> BudgetView:
        """Set a new one, whatever is there."""
        condition.check("this budget", None, changes=False)
        customer = budget.path.partition("/")[0]
        self._known(customer)
        self.acts.append(act)
        try:
            limit = money(parse_amount(budget.limit, USD), USD)
        except AmountError as error:
            raise errors.Rejected("invalid_amount", {"limit": str(error)}) from None
        child = BudgetChildView("", NOTHING, NOTHING, limit, "2026-11", 1_795_900_000_000)
        self.named += 1
        name = f"budget_{self.named}"
        view = BudgetView(
            customer, name, budget.path, limit, budget.per, budget.match, budget.each, budget.hard, 1, (child,),
            clamp=budget.clamp, anchor=budget.anchor, kind=budget.kind or "cap", guardrail=budget.guardrail,
            window_s=budget.window_s,
        )  # fmt: skip
        self.limits[name] = view
        return view

    async def budgets(self, customer: str, part: Part = WHOLE) -> list[BudgetView]:
        """All."""
        self._known(customer)
        found = [budget for budget in self.limits.values() if budget.customer == customer]
        ids = [budget.budget_id for budget in found]
        if part.after and part.after not in ids:
            raise errors.Rejected("invalid_cursor", {"cursor": "the list has changed; begin it again"})
        first = ids.index(part.after) + 1 if part.after else 0
        return found[first : first + part.limit]

    async def balance(self, customer: str) -> BalanceView:
        """All of it."""
        self._known(customer)
        lots = tuple(await self.grants(customer))
        available = (money(sum(lot.available.atoms for lot in lots), USD),)
        limits = tuple(await self.budgets(customer))
        wallet = self.made[customer].wallet
        return BalanceView(customer, wallet, available, (NOTHING,), (NOTHING,), (NOTHING,), lots, limits)

    async def usage(self, *, customer: str, since_ms: int, after: str, limit: int) -> tuple[list[UsageView], str]:
        """In order."""
        if self.failure is not None:
            raise self.failure
        rows = [
            row
            for row in self.calls
            if row.sequence > int(after or 0)
            and (not customer or row.customer == customer)
            and row.recorded_at_ms >= since_ms
        ]
        return rows[:limit], str(rows[limit - 1].sequence) if len(rows) > limit else ""

    async def sums(
        self, *, by: str, customer: str, since_ms: int, after: str, this: str = "", node: str = ""
    ) -> tuple[list[SumView], str]:
        """The pages that a test has set, whatever is asked."""
        if self.failure is not None:
            raise self.failure
        if customer:
            self._known(customer)
        self.asked_by.append(f"{by} this {this}" if this else by)
        at = int(after or 0)
        more = at + 1 < len(self.summed)
        return (self.summed[at] if self.summed else []), str(at + 1) if more else ""

    async def list_sidecars(self) -> list[SidecarView]:
        return self.fleet

    async def exposure(
        self, customer: str, *, node: str = "", evenly: bool = False, after: str = "", limit: int = 100
    ) -> list[ExposureView]:
        del evenly
        found = [one for one in self.out if one.customer == customer and one.account > after]
        return [one for one in found if not node or node in one.path.split("/")][:limit]

    async def silent_leases(self, customer: str = "") -> list[SilentLeaseView]:
        """As set."""
        return [lease for lease in self.silent if customer in ("", lease.customer)]

    async def leases(self, customer: str = "") -> list[LeaseView]:
        """As set."""
        return [lease for lease in self.unheard if customer in ("", lease.customer)]

    async def resolve_lease(self, form: LeaseResolution, act: Act) -> LeaseView:
        """Say so."""
        self._known(form.customer)
        for place, lease in enumerate(self.unheard):
            if lease.lease_id == form.lease_id:
                self.acts.append(act)
                self.unheard[place] = msgspec.structs.replace(lease, state=form.how)
                return self.unheard[place]
        raise errors.NotFound("lease", form.lease_id)

    async def learning(self) -> LearningView:
        """As set."""
        return self.learns

    async def accept_loss(self, loss: LossAcceptance, act: Act) -> LearningView:
        """No longer wait for it, by the same rules as the book."""
        forms.reason(loss.reason)
        if loss.sidecar and loss.sidecar not in [one.sidecar for one in self.learns.awaited]:
            raise errors.NotFound("sidecar that is waited for", loss.sidecar)
        self.acts.append(act)
        left = tuple(one for one in self.learns.awaited if loss.sidecar not in ("", one.sidecar))
        self.learns = msgspec.structs.replace(self.learns, awaited=left)
        if not left:
            self.learns = LearningView(self.learns.history_id)
        return self.learns

    async def set_sidecar_token(self, name: str, token_sha256: str, act: Act) -> SidecarTokenView:
        """Let in."""
        self.acts.append(act)
        self.sidecars[name] = token_sha256
        return SidecarTokenView(name)

    async def revoke_sidecar_token(self, name: str, act: Act) -> SidecarTokenView:
        """No more."""
        if name not in self.sidecars:
            raise errors.NotFound("sidecar token", name)
        self.acts.append(act)
        del self.sidecars[name]
        return SidecarTokenView(name)

    async def sidecar_tokens(self) -> list[SidecarTokenView]:
        """Who is let in."""
        return [SidecarTokenView(name) for name in sorted(self.sidecars)]

    async def add_key(self, key: NewKey, act: Act) -> KeyView:
        """Make one."""
        customer = key.path.partition("/")[0]
        self._known(customer)
        self.acts.append(act)
        self.digests.append(key.sha256)
        said = (key.agent, key.session, key.feature, key.product)
        view = KeyView(
            customer, f"key_{len(self.virtual) + 1}", key.name, fingerprint(key.sha256), key.path, *said,
            created_at_ms=1_795_000_000_000, created_by=act.actor, revoked_at_ms=None, revoked_by="",
        )  # fmt: skip
        self.virtual[view.key_id] = view
        return view

    async def revoke_key(self, customer: str, key_id: str, act: Act) -> KeyView:
        """End one."""
        self._known(customer)
        if key_id not in self.virtual:
            raise errors.NotFound("key", key_id)
        self.acts.append(act)
        changed = msgspec.structs.replace(self.virtual[key_id], revoked_at_ms=1_795_000_001_000, revoked_by=act.actor)
        self.virtual[key_id] = changed
        return changed

    async def keys(self, customer: str, *, after: int, limit: int) -> tuple[list[KeyView], int]:
        """All."""
        self._known(customer)
        rows = [key for key in self.virtual.values() if key.customer == customer][after:]
        return rows[:limit], after + limit if len(rows) > limit else 0

    async def clock(self) -> ClockView:
        """As it is set."""
        return self.time

    async def accept_clock(self, act: Act) -> ClockView:
        """Believe it."""
        self.acts.append(act)
        self.time = ClockView(self.time.now_ms + self.time.jump_ms, 0)
        return self.time

    async def make_token(self, token: NewToken, act: Act) -> TokenView:
        """Let in, by the same rules as the book."""
        scope = api_tokens.check(token)
        self.acts.append(act)
        view = TokenView(scope.customer, token.name, token.role, token.path, 1, act.actor, None, None, "")
        self.api_tokens[token.token_sha256] = view
        return view

    async def token(self, customer: str, name: str) -> TokenView:
        """One of them."""
        for view in self.api_tokens.values():
            if (view.customer, view.name) == (customer, name):
                return view
        raise errors.NotFound("token", name)

    async def revoke_token(self, customer: str, name: str, act: Act) -> TokenView:
        """No more."""
        view = await self.token(customer, name)
        self.acts.append(act)
        self.api_tokens = {key: one for key, one in self.api_tokens.items() if one is not view}
        return view

    async def tokens(self, customer: str, *, after: str, limit: int) -> tuple[list[TokenView], str]:
        """By name."""
        rows = sorted(
            (one for one in self.api_tokens.values() if one.customer == customer and one.name > after),
            key=lambda one: one.name,
        )
        return rows[:limit], rows[limit - 1].name if len(rows) > limit else ""

    async def find_token(self, digest: bytes) -> KnownToken | None:
        """By its digest."""
        self.found += 1
        view = self.api_tokens.get(digest.hex())
        return None if view is None else KnownToken(view.name, Role(view.role), read_scope(view.path))

    async def cursor_secret(self) -> bytes:
        """Always the same."""
        return b"secret"

    async def explain(self, request_id: str, customer: str = "", *, evenly: bool = False) -> ExplainView:
        """From the book."""
        if self.failure is not None:
            raise self.failure
        if request_id not in self.explained:
            raise errors.NotFound("request", request_id)
        return self.explained[request_id]

    async def entries(self, customer: str, *, after: int, kind: str, limit: int) -> tuple[list[EntryView], int]:
        """The journal."""
        self._known(customer)
        rows = [row for row in self.journal if row.sequence > after and kind in ("", row.kind)]
        return rows[:limit], rows[limit - 1].sequence if len(rows) > limit else 0

    async def audit(
        self, *, customer: str, actor: str, since_ms: int, until_ms: int, after: str, limit: int
    ) -> tuple[list[ActView], str]:
        """The acts that were asked for here, one a row; of a customer, all of them."""
        views = [
            ActView(customer or "acme", number, "did", "", act.actor, act.reason, number, {"n": number}, "00")
            for number, act in enumerate(self.acts, start=1)
            if actor in ("", act.actor) and since_ms <= number < until_ms and number > int(after or 0)
        ]
        return views[:limit], str(views[limit - 1].sequence) if len(views) > limit else ""

    async def verify(self, customer: str) -> VerifyView:
        """As told."""
        self._known(customer)
        return VerifyView(customer, len(self.journal), "ab" * 32, self.problems)


class FakeBackups:
    """Has always just made one."""

    async def start(self, actor: str) -> BackupView:
        """One that is made."""
        return self.look(f"backup-by-{actor}")

    def look(self, name: str) -> BackupView:
        """Whichever is asked for."""
        return BackupView(name, "made", "/nowhere/copy.sqlite")


class NumberedIds:
    """`ports.Ids` that counts."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, prefix: str) -> str:
        """The next."""
        self._last += 1
        return f"{prefix}_{self._last}"


@contextmanager
def in_thread(start: Callable[[], Awaitable[tuple[str, Callable[[], Awaitable[None]]]]]) -> Iterator[str]:
    """Run a server in a thread of its own until the block ends; gives its address.

    `start` is an async function that gives an address and what ends the server.
    """
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found: list[str] = []
    stopping = asyncio.Event()

    async def serve() -> None:
        address, close = await start()
        found.append(address)
        ready.set()
        await stopping.wait()
        await close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the server did not start")
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)
        loop.close()
