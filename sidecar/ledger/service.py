"""The ledger over a book: what sidecars ask of it, what people ask of it, and who hears of changes.

Each method is one transaction (a sync: one for each customer in it); the rules are in the
modules named for them. Nothing is kept here between calls but the listeners: what the ledger
knows, it reads from its book.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from sidecar.contract.messages import (
    MAX_EVENTS_PER_SYNC,
    MAX_LEASES_PER_SYNC,
    AnyPart,
    AnySync,
    Change,
    PartReply,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
)
from sidecar.contract.versions import check_version
from sidecar.core.credits.entries import PostingError
from sidecar.core.governance.virtual_keys import DIGEST_BYTES
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import Unavailable, WireFormatError
from sidecar.ledger import rate_acts, virtual_keys
from sidecar.ledger.acts import Acts
from sidecar.ledger.administration import (
    Act,
    BudgetRemoval,
    GrantVoid,
    NewBudget,
    NewGrant,
    NewKey,
    NewRateLimit,
    NodeAct,
    NodeMove,
    RateLimitRemoval,
)
from sidecar.ledger.auditing import acts
from sidecar.ledger.conditions import UNCONDITIONAL, Condition
from sidecar.ledger.doing import Done
from sidecar.ledger.holders import holders
from sidecar.ledger.learning import Claim, LossProven
from sidecar.ledger.lease_desk import LeaseDesk
from sidecar.ledger.ledger_clock import LedgerClock
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.parts import WHOLE, Part
from sidecar.ledger.portions import Crowd, Portions, cut
from sidecar.ledger.reading import Reader
from sidecar.ledger.recalls import Recalls
from sidecar.ledger.reconcile import Applied, apply_part
from sidecar.ledger.resolving import Answer, resolve
from sidecar.ledger.sharing import Sharing
from sidecar.ledger.showing import Shower
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.summing import sum_usage
from sidecar.ledger.tree_acts import TreeActs
from sidecar.ledger.verifying import verify
from sidecar.ledger.views import (
    ActView,
    BalanceView,
    BudgetView,
    CustomerView,
    EntryView,
    ExplainView,
    FrozenView,
    GrantView,
    HoldersView,
    KeyView,
    NodeView,
    RateLimitView,
    SumView,
    UsageView,
    VerifyView,
)
from sidecar.ledger.watching import BookWatch
from sidecar.ports import Book, Clock, Ids, Transaction

MAX_LISTENERS = 4096
"""Who hears of changes, at most: one for each sidecar connected here."""

PARTS_AT_ONCE = 64
"""Parts of one sync that are in the book's queue at a time: enough to share commits."""


class LedgerService(LeaseDesk):
    """`ports.Ledger` and `administration.Administration` over a book."""

    def __init__(self, book: Book, clock: Clock, ids: Ids, rates: RateBook, options: LedgerOptions) -> None:
        super().__init__(book, LedgerClock(clock), ids, Shower(rates), options)
        self._acts = Acts(ids, rates, options)
        self._tree = TreeActs(rates)
        self._reader = Reader(rates, options.currency)
        self._recalls = Recalls()
        self._listeners: dict[object, Callable[[Change], None]] = {}
        self._crowd = Crowd()
        self._portions = Portions(self._crowd)
        self._resolves: Sharing[ResolveRequest, ResolveReply] = Sharing(self._resolve, self._crowd)

    # As a sidecar sees it.

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """Say who this is and what limits them, and lend enough for the call; see `ports.Ledger`.

        Raises:
            StaleIncarnation: something is to be lent, and the asker is not registered or has ended.
            LedgerUnavailable: nothing is lent now, because the book has lost something (L50a).
            WireFormatError: another version of the contract, or an amount below zero.
        """
        check_version(request.version, peer="sidecar")
        if min(request.need_atoms, request.demand_atoms) < 0:
            raise WireFormatError("sidecar", "a need below zero")
        try:
            return await self._resolves.ask(request.subject.customer, request)
        except LossProven as proven:
            await self._lost(Claim(request.sidecar, request.history_id, request.heard), str(proven))
            raise

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """Whom a virtual key names, as the book has it now.

        Raises:
            WireFormatError: another version of the contract, or no SHA-256.
        """
        check_version(request.version, peer="sidecar")
        if len(request.sha256) != DIGEST_BYTES:
            raise WireFormatError("sidecar", f"a key's digest is {DIGEST_BYTES} bytes")
        return await virtual_keys.resolve_key(self._book, request.sha256, self._clock.now_ms())

    async def sync(self, request: AnySync) -> SyncReply:
        """Apply each customer's part in a transaction of its own, or in several; one that fails loses no other.

        Raises:
            WireFormatError: another version of the contract, or more than a message may hold.
        """
        check_version(request.version, peer="sidecar")
        if sum(len(part.events) for part in request.parts) > MAX_EVENTS_PER_SYNC:
            raise WireFormatError("sidecar", f"a sync has at most {MAX_EVENTS_PER_SYNC} events")
        if sum(len(part.leases) for part in request.parts) > MAX_LEASES_PER_SYNC:
            raise WireFormatError("sidecar", f"a sync has at most {MAX_LEASES_PER_SYNC} leases")
        if await self._is_other_history(request):
            return await self._tell_history(request)
        starts = range(0, len(request.parts), PARTS_AT_ONCE)
        chunks = [request.parts[start : start + PARTS_AT_ONCE] for start in starts]
        together = chunks.pop() if chunks and not request.ended else ()
        in_portions = self._portions.are_needed(request.parts)
        applied: list[Applied] = []
        for some in chunks:
            applied += await asyncio.gather(*(self._apply(request, part, in_portions) for part in some))

        async def last_parts() -> list[Applied]:
            return await asyncio.gather(*(self._apply(request, part, in_portions) for part in together))

        # What was heard must not be committed before what it brought (L50a), and what ends an incarnation comes
        # after all of it. Where the book keeps the order of its queue, and all is in it, both can share a commit.
        if self._book.in_order and not in_portions:
            last, (reply, left) = await asyncio.gather(last_parts(), self._hear_sync(request))
        else:
            last = await last_parts()
            reply, left = await self._hear_sync(request)
        applied += last
        loss = next((one.loss for one in applied if one.loss), "")
        if loss and request.history_id == reply.history_id:
            history = await self._lost(Claim(request.sidecar, request.history_id, request.heard), loss)
            reply = msgspec.structs.replace(reply, history_id=history)
        for part in left:
            await self._apply(request, part, in_portions)
        return msgspec.structs.replace(reply, parts=tuple(one.reply for one in applied))

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Hear of changes until the function given back is called.

        Raises:
            Unavailable: MAX_LISTENERS are listening already.
        """
        if len(self._listeners) >= MAX_LISTENERS:
            raise Unavailable(f"{MAX_LISTENERS} listeners are connected already")
        token = object()
        self._listeners[token] = listener

        def stop() -> None:
            self._listeners.pop(token, None)

        return stop

    async def revisions(self, customers: Sequence[str]) -> dict[str, int]:
        """The revision of each of some customers, as the book has it; those it does not know are left out."""
        sql = "SELECT customer, revision FROM customers WHERE customer IN ({})"
        rows = await self._book.read_everyone(lambda tx: fetch_in(tx, sql, (), customers))
        return {row["customer"]: row["revision"] for row in rows}

    def watch(self, monotonic: Callable[[], float]) -> BookWatch:
        """For a book that other processes write to as well: while its `run` runs, their changes are heard here."""

        async def look() -> dict[str, int]:
            rows = await self._book.read_everyone(lambda tx: tx.fetch("SELECT customer, revision FROM customers"))
            await self.history()
            return {row["customer"]: row["revision"] for row in rows}

        return BookWatch(look, self._tell, monotonic)

    async def _resolve(self, customer: str, requests: Sequence[ResolveRequest]) -> Sequence[Answer]:
        recalls: dict[str, set[str]] = {}
        answers = await self._book.transact(
            customer, lambda tx: resolve(tx, requests, self._clock.now_ms(), self._options, recalls)
        )
        for account in self._recalls.due(customer, recalls, self._clock.now_ms()):
            self._tell(Change(customer, 0, recall=account, by=min(recalls[account])))
        return answers

    async def _apply(self, request: AnySync, part: AnyPart, in_portions: bool) -> Applied:
        """Apply a part; `in_portions`: one after another, as far as one is in the book, each when it may (S-35)."""
        self._crowd.come(part.customer)
        try:
            if not in_portions:
                return await self._apply_portion(request, part, waits=False)
            *before, last = cut(part)
            loss, problems = "", list[str]()
            for portion in before:
                found = await self._apply_portion(request, portion, is_last=False, loss=loss, waits=True)
                if not found.reply.booked:
                    return found
                loss = found.loss
                problems.append(found.reply.error)
            found = await self._apply_portion(request, last, loss=loss, waits=True)
            error = "; ".join(one for one in (*problems, found.reply.error) if one)
            return Applied(msgspec.structs.replace(found.reply, error=error), found.loss)
        finally:
            self._crowd.go(part.customer)

    async def _apply_portion(
        self, request: AnySync, part: AnyPart, *, waits: bool, is_last: bool = True, loss: str = ""
    ) -> Applied:
        options = self._options
        await self._portions.enter(part.customer, len(part.events), waits=waits)
        try:
            return await self._book.transact(
                part.customer,
                lambda tx: apply_part(tx, request, part, self._clock.now_ms(), options, is_last=is_last, loss=loss),
            )
        except (PostingError, WireFormatError) as problem:
            return Applied(PartReply(part.customer, error=str(problem)))
        finally:
            self._portions.leave(part.customer, len(part.events))

    # As people see it; each method is described in `administration.Administration`.

    async def add_customer(self, customer: str, wallet: str, act: Act) -> CustomerView:
        """Make a customer."""
        view: CustomerView = await self._act(
            customer, lambda tx, now: self._acts.add_customer(tx, now, customer, wallet, act)
        )
        return view

    async def set_timezone(self, customer: str, timezone: str, act: Act) -> CustomerView:
        """Let a customer's periods follow the clocks of a place."""
        view: CustomerView = await self._act(
            customer, lambda tx, now: self._acts.set_timezone(tx, now, customer, timezone, act)
        )
        return view

    async def add_nodes(self, path: str, act: Act) -> list[NodeView]:
        """Make every node of a path."""
        customer = path.partition("/")[0]
        views: list[NodeView] = await self._act(customer, lambda tx, now: self._acts.add_nodes(tx, now, path, act))
        return views

    async def freeze(self, node: NodeAct, act: Act) -> FrozenView:
        """Let no call of it run."""
        customer = node.path.partition("/")[0]
        view: FrozenView = await self._act(customer, lambda tx, now: self._tree.freeze(tx, now, node, act))
        return view

    async def unfreeze(self, node: NodeAct, act: Act) -> FrozenView:
        """Let its calls run again."""
        customer = node.path.partition("/")[0]
        view: FrozenView = await self._act(customer, lambda tx, now: self._tree.unfreeze(tx, now, node, act))
        return view

    async def move_node(self, move: NodeMove, act: Act) -> list[NodeView]:
        """Put a node to another place of the tree."""
        customer = move.path.partition("/")[0]
        views: list[NodeView] = await self._act(customer, lambda tx, now: self._tree.move_node(tx, now, move, act))
        return views

    async def void_grant(self, grant: GrantVoid, act: Act) -> GrantView:
        """Revoke what is left of a grant."""
        view: GrantView = await self._act(grant.customer, lambda tx, now: self._tree.void_grant(tx, now, grant, act))
        return view

    async def remove_budget(self, budget: BudgetRemoval, act: Act) -> BudgetView:
        """Limit by a budget no more."""
        view: BudgetView = await self._act(
            budget.customer, lambda tx, now: self._tree.remove_budget(tx, now, budget, act)
        )
        return view

    async def set_rate_limit(self, limit: NewRateLimit, act: Act) -> RateLimitView:
        """Set a rate limit."""
        customer = limit.path.partition("/")[0]
        view: RateLimitView = await self._act(
            customer, lambda tx, now: rate_acts.set_rate_limit(tx, now, limit, act, self._ids)
        )
        return view

    async def remove_rate_limit(self, limit: RateLimitRemoval, act: Act) -> RateLimitView:
        """Limit by one no more."""
        view: RateLimitView = await self._act(
            limit.customer, lambda tx, now: rate_acts.remove_rate_limit(tx, now, limit, act)
        )
        return view

    async def rate_limits(self, customer: str) -> list[RateLimitView]:
        """All rate limits."""
        return await self._book.read(customer, lambda tx: self._reader.rate_limits(tx, customer))

    async def frozen(self, customer: str) -> list[FrozenView]:
        """All that is frozen."""
        return await self._book.read(customer, lambda tx: self._reader.frozen(tx, customer))

    async def holders(self, customer: str) -> HoldersView:
        """How far the last change has come."""
        return await self._book.read(customer, lambda tx: holders(tx, customer, self._clock.now_ms()))

    async def add_grant(self, grant: NewGrant, act: Act) -> GrantView:
        """Issue a grant."""
        view: GrantView = await self._act(grant.customer, lambda tx, now: self._acts.add_grant(tx, now, grant, act))
        return view

    async def set_budget(self, budget: NewBudget, act: Act, condition: Condition = UNCONDITIONAL) -> BudgetView:
        """Set a budget."""
        customer = budget.path.partition("/")[0]
        view: BudgetView = await self._act(
            customer, lambda tx, now: self._acts.set_budget(tx, now, budget, act, condition)
        )
        return view

    async def add_key(self, key: NewKey, act: Act) -> KeyView:
        """Take a virtual key."""
        customer = key.path.partition("/")[0]
        view: KeyView = await self._act(customer, lambda tx, now: self._acts.add_key(tx, now, key, act))
        return view

    async def revoke_key(self, customer: str, key_id: str, act: Act) -> KeyView:
        """Revoke one."""
        view: KeyView = await self._act(customer, lambda tx, now: self._acts.revoke_key(tx, now, customer, key_id, act))
        return view

    async def keys(self, customer: str, *, after: int, limit: int) -> tuple[list[KeyView], int]:
        """Virtual keys."""
        return await self._book.read(customer, lambda tx: virtual_keys.keys(tx, customer, after, limit))

    async def customer(self, customer: str) -> CustomerView:
        """One customer."""
        return await self._book.read(customer, lambda tx: self._reader.customer(tx, customer))

    async def customers(self, *, after: str, limit: int) -> tuple[list[CustomerView], str]:
        """Customers by name."""
        return await self._book.read_everyone(lambda tx: self._reader.customers(tx, after, limit))

    async def nodes(self, customer: str, part: Part = WHOLE) -> list[NodeView]:
        """The tree."""
        return await self._book.read(customer, lambda tx: self._reader.nodes(tx, customer, part))

    async def grants(self, customer: str, part: Part = WHOLE) -> list[GrantView]:
        """All grants."""
        now_ms = self._clock.now_ms()
        return await self._book.read(customer, lambda tx: self._reader.grants(tx, customer, now_ms, part))

    async def budgets(self, customer: str, part: Part = WHOLE) -> list[BudgetView]:
        """All budgets."""
        now_ms = self._clock.now_ms()
        return await self._book.read(customer, lambda tx: self._reader.budgets(tx, customer, now_ms, part))

    async def balance(self, customer: str) -> BalanceView:
        """What a customer has and has used."""
        return await self._book.read(customer, lambda tx: self._reader.balance(tx, customer, self._clock.now_ms()))

    async def usage(self, *, customer: str, since_ms: int, after: str, limit: int) -> tuple[list[UsageView], str]:
        """Settled calls."""
        return await self._look(customer, lambda tx: self._reader.usage(tx, customer, since_ms, after, limit))

    async def sums(
        self, *, by: str, customer: str, since_ms: int, after: str, this: str = "", node: str = ""
    ) -> tuple[list[SumView], str]:
        """Settled calls, added up."""
        return await self._look(
            customer,
            lambda tx: sum_usage(
                tx,
                self._show,
                by=by,
                customer=customer,
                since_ms=since_ms,
                after=after,
                this=this,
                node=node,
                wall_ms=self._clock.now_ms(),
            ),
        )

    async def explain(self, request_id: str, customer: str = "", *, evenly: bool = False) -> ExplainView:
        """One call's story."""
        return await self._look(customer, lambda tx: self._reader.explain(tx, request_id, customer, evenly=evenly))

    async def entries(self, customer: str, *, after: int, kind: str, limit: int) -> tuple[list[EntryView], int]:
        """The journal."""
        return await self._book.read(customer, lambda tx: self._reader.entries(tx, customer, after, kind, limit))

    async def audit(
        self, *, customer: str, actor: str, since_ms: int, until_ms: int, after: str, limit: int
    ) -> tuple[list[ActView], str]:
        """Who did what."""
        return await self._look(
            customer,
            lambda tx: acts(
                tx, customer=customer, actor=actor, since_ms=since_ms, until_ms=until_ms, after=after, limit=limit
            ),
        )

    async def verify(self, customer: str) -> VerifyView:
        """Check the chain and the balances."""
        return await self._book.read(customer, lambda tx: verify(tx, customer))

    async def _act(self, customer: str, work: Callable[[Transaction, int], Awaitable[Done]]) -> Any:
        """Commit an act; then tell who listens, before the act's caller hears of it."""
        done = await self._book.transact(customer, lambda tx: work(tx, self._clock.now_ms()))
        if done.revision is not None:
            self._tell(Change(customer, done.revision))
        return done.answer

    def _tell(self, change: Change) -> None:
        for listener in list(self._listeners.values()):
            listener(change)
