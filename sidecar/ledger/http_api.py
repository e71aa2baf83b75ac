"""The ledger's API for people and their scripts: JSON over HTTP, below /v1.

Each route is a row of `AdminAPI._routes`: the right that it needs, how far a token must reach, what it
takes and gives. `http_gate` decides by the row before a handler is called. A handler knows nothing of
money nor of access: it asks the `Administration` port, and gives back what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter

import msgspec
from aiohttp import web

from sidecar import errors
from sidecar.core.governance.rights import Reach, Right, Role, may_make
from sidecar.ledger import http_budgets, http_fleet
from sidecar.ledger.administration import (
    Administration,
    BackupDesk,
    BudgetRemoval,
    GrantVoid,
    NewBudget,
    NewGrant,
    NewKey,
    NewToken,
    NodeAct,
    NodeMove,
)
from sidecar.ledger.http_access import Access, Door
from sidecar.ledger.http_fields import MAX_NUMBER, next_page, page_of, read_cursor, read_limit, read_number
from sidecar.ledger.http_gate import Gate
from sidecar.ledger.http_limits import SUMS_COST, VERIFY_COST
from sidecar.ledger.http_openapi import openapi
from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_rates import rate_routes
from sidecar.ledger.http_routes import PAGE, Call, Route, RouteTable, get, post
from sidecar.ledger.parts import grant_place
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
    Page,
    ShownDecision,
    SidecarTokenView,
    SumView,
    TokenView,
    UsageView,
    VerifyView,
)
from sidecar.ports import Ids


class NewCustomer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer to make; an empty wallet is `required`, or what an existing customer's is."""

    customer: str
    wallet: str = ""


class NewTimezone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose periods follow the clocks of which place: an IANA name."""

    customer: str
    timezone: str


class NewNodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes to make: every one of `acme/kind:id/…` that does not exist yet."""

    path: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An act that needs no word."""


class NewSidecarToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name, and the SHA-256 of its token in hex."""

    name: str
    token_sha256: str


class SidecarName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose token."""

    name: str


class NamedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which virtual key of whose."""

    customer: str
    key_id: str


class Health(msgspec.Struct, frozen=True):
    """That the API answers."""

    status: str = "ok"


class Version(msgspec.Struct, frozen=True):
    """What answers."""

    version: str


class NamedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which token of the API, and of whose: `path` is ``, `acme`, or a node that the token is of or below."""

    path: str
    name: str


class AdminAPI:
    """The API over an `Administration`. Use it from one event loop."""

    def __init__(
        self,
        administration: Administration,
        accesses: Sequence[Access],
        ids: Ids,
        *,
        version: str,
        before_read: Callable[[], Awaitable[None]] | None = None,
        recent: Callable[[str], ExplainView | None] | None = None,
        monotonic: Callable[[], float] | None = None,
        backups: BackupDesk | None = None,
    ) -> None:
        """Make one.

        Args:
            administration: what is asked.
            accesses: the tokens that are known without the book, which knows all others.
            ids: names for requests, and idempotency keys for those that bring none.
            version: of the product, shown at /v1/version.
            before_read: awaited before every read, so that what was settled a moment ago is in the
                book; it may raise Unavailable, and is given FLUSH_TIMEOUT_S.
            recent: what a sidecar in this process remembers of a call that the book does not have:
                a denial, or a call still open.
            monotonic: seconds; by default the event loop's.
            backups: makes copies of the book; None where it is not the ledger's own file.
        """
        self._administration = administration
        self._version = version
        self._recent = recent
        self._backups = backups
        self.table = RouteTable(self._routes())
        self._document = openapi(version, self.table.routes)
        clock = monotonic or (lambda: asyncio.get_running_loop().time())
        self.gate = Gate(
            self.table,
            Door(accesses, administration.find_token, clock),
            ids,
            clock,
            nodes=administration.nodes,
            cursor_secret=administration.cursor_secret,
            before_read=before_read,
        )

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is; every refusal is a problem with a code."""
        return await self.gate.answer(request)

    def _routes(self) -> Iterable[Route]:
        """The one table of what is answered, and to whom; see `http_routes.Route` for what a row says."""
        customer = "/v1/customers/{customer}"
        theirs, below = Reach.CUSTOMER, Reach.NODE
        platform, usage, journal = Right.PLATFORM, Right.USAGE, Right.JOURNAL
        since = frozenset({"customer", "since_ms"})
        return (
            get("/v1/health", Right.PUBLIC, self._health, Health, summary="Does it answer?"),
            get("/v1/version", Right.ANY, self._show_version, Version),
            get("/v1/openapi.json", Right.ANY, self._openapi, dict, summary="This document."),
            get("/v1/customers", usage, self._customers, CustomerView, query=PAGE, listing=True, reach=theirs),
            post("/v1/customers", platform, self._add_customer, NewCustomer, CustomerView),
            post("/v1/customers/timezone", Right.LIMITS, self._set_timezone, NewTimezone, CustomerView, reach=theirs),
            get(customer, usage, self._customer, CustomerView, reach=theirs),
            post("/v1/nodes", Right.MEMBERS, self._add_nodes, NewNodes, NodeView, listing=True, reach=below),
            post("/v1/nodes/freeze", Right.LIMITS, self._freeze, NodeAct, FrozenView, reach=below),
            post("/v1/nodes/unfreeze", Right.LIMITS, self._unfreeze, NodeAct, FrozenView, reach=below),
            post("/v1/nodes/move", Right.MEMBERS, self._move_node, NodeMove, NodeView, listing=True, reach=theirs),
            post("/v1/grants", Right.CREDIT, self._add_grant, NewGrant, GrantView, reach=theirs),
            post("/v1/grants/void", Right.CREDIT, self._void_grant, GrantVoid, GrantView, reach=theirs),
            post("/v1/budgets", Right.LIMITS, self._set_budget, NewBudget, BudgetView, reach=below, conditional=True),
            post("/v1/guardrails", Right.GUARDRAIL, self._set_guardrail, NewBudget, BudgetView, reach=below),
            post("/v1/budgets/remove", Right.LIMITS, self._remove_budget, BudgetRemoval, BudgetView, reach=theirs),
            *rate_routes(self._administration),
            get(f"{customer}/nodes", usage, self._nodes, NodeView, query=PAGE, listing=True, reach=below),
            get(f"{customer}/frozen", usage, self._frozen, FrozenView, query=PAGE, listing=True, reach=below),
            get(f"{customer}/holders", usage, self._holders, HoldersView, reach=theirs),
            get(f"{customer}/grants", usage, self._grants, GrantView, query=PAGE, listing=True, reach=theirs),
            get(f"{customer}/budgets", usage, self._budgets, BudgetView, query=PAGE, listing=True, reach=below),
            get(f"{customer}/budgets/{{budget_id}}", usage, self._budget, BudgetView, reach=below),
            get(f"{customer}/balance", usage, self._balance, BalanceView, reach=below),
            get(
                f"{customer}/entries", journal, self._entries, EntryView,
                query=PAGE | {"kind"}, listing=True, reach=theirs,
            ),
            get(f"{customer}/verify", journal, self._verify, VerifyView, reach=theirs, cost=VERIFY_COST),
            get("/v1/usage", usage, self._usage, UsageView, query=PAGE | since, listing=True, reach=below),
            get(
                "/v1/usage/sums", usage, self._sums, SumView,
                query=since | {"by", "this", "cursor"}, listing=True, reach=below, cost=SUMS_COST,
            ),
            *http_fleet.routes(self._administration),
            get("/v1/clock", Right.ANY, self._clock, ClockView),
            post("/v1/clock/accept", platform, self._accept_clock, Nothing, ClockView),
            get("/v1/sidecar-tokens", platform, self._sidecar_tokens, SidecarTokenView, query=PAGE, listing=True),
            post("/v1/sidecar-tokens", platform, self._set_sidecar_token, NewSidecarToken, SidecarTokenView),
            post("/v1/sidecar-tokens/revoke", platform, self._revoke_sidecar_token, SidecarName, SidecarTokenView),
            get(f"{customer}/keys", Right.TOKENS, self._keys, KeyView, query=PAGE, listing=True, reach=below),
            post("/v1/keys", Right.TOKENS, self._add_key, NewKey, KeyView, reach=below),
            post("/v1/keys/revoke", Right.TOKENS, self._revoke_key, NamedKey, KeyView, reach=theirs),
            get(
                "/v1/tokens", Right.TOKENS, self._tokens, TokenView,
                query=PAGE | {"customer"}, listing=True, reach=below,
            ),
            post("/v1/tokens", Right.TOKENS, self._make_token, NewToken, TokenView, reach=below),
            post("/v1/tokens/revoke", Right.TOKENS, self._revoke_token, NamedToken, TokenView, reach=below),
            get(
                "/v1/audit", Right.AUDIT, self._acts, ActView,
                query=PAGE | since | {"actor", "until_ms"}, listing=True, reach=theirs,
            ),
            post("/v1/backups", platform, self._start_backup, Nothing, BackupView),
            get("/v1/backups/{name}", platform, self._look_at_backup, BackupView),
            get("/v1/requests/{request_id}", usage, self._explain, ShownDecision, reach=below),
        )  # fmt: skip

    # -- handlers, in the order of the table -----------------------------------------------------

    async def _health(self, _call: Call) -> object:
        return Health()

    async def _show_version(self, _call: Call) -> object:
        return Version(self._version)

    async def _openapi(self, _call: Call) -> object:
        return self._document

    async def _customer(self, call: Call) -> object:
        return await self._administration.customer(call.parts["customer"])

    async def _customers(self, call: Call) -> object:
        if call.scope.customer:
            return Page((await self._administration.customer(call.scope.customer),))
        rows, cursor = await self._administration.customers(after=read_cursor(call), limit=read_limit(call))
        return Page(tuple(rows), cursor)

    async def _add_customer(self, call: Call) -> object:
        new = call.read(NewCustomer)
        return await self._administration.add_customer(new.customer, new.wallet, call.act)

    async def _set_timezone(self, call: Call) -> object:
        new = call.read(NewTimezone)
        return await self._administration.set_timezone(new.customer, new.timezone, call.act)

    async def _add_nodes(self, call: Call) -> object:
        new = call.read(NewNodes)
        return Page(tuple(await self._administration.add_nodes(new.path, call.act)))

    async def _freeze(self, call: Call) -> object:
        return await self._administration.freeze(call.read(NodeAct), call.act)

    async def _unfreeze(self, call: Call) -> object:
        form = call.read(NodeAct)
        if call.scope.node is not None and form.path.rpartition("/")[2] == str(call.scope.node):
            raise RequestRefused("forbidden", f"{call.scope.node} itself is thawed by who is above it")
        return await self._administration.unfreeze(form, call.act)

    async def _move_node(self, call: Call) -> object:
        return Page(tuple(await self._administration.move_node(call.read(NodeMove), call.act)))

    async def _void_grant(self, call: Call) -> object:
        return await self._administration.void_grant(call.read(GrantVoid), call.act)

    async def _remove_budget(self, call: Call) -> object:
        return await self._administration.remove_budget(call.read(BudgetRemoval), call.act)

    async def _frozen(self, call: Call) -> object:
        return page_of(await self._administration.frozen(call.parts["customer"]), "path", call)

    async def _holders(self, call: Call) -> object:
        return await self._administration.holders(call.parts["customer"])

    async def _add_grant(self, call: Call) -> object:
        return await self._administration.add_grant(call.read(NewGrant), call.act)

    async def _set_budget(self, call: Call) -> object:
        return await http_budgets.set_budget(self._administration, call)

    async def _set_guardrail(self, call: Call) -> object:
        return await http_budgets.set_guardrail(self._administration, call)

    async def _nodes(self, call: Call) -> object:
        return await next_page(partial(self._administration.nodes, call.parts["customer"]), attrgetter("path"), call)

    async def _grants(self, call: Call) -> object:
        return await next_page(partial(self._administration.grants, call.parts["customer"]), grant_place, call)

    async def _budgets(self, call: Call) -> object:
        ask = partial(self._administration.budgets, call.parts["customer"])
        return await next_page(ask, attrgetter("budget_id"), call)

    async def _budget(self, call: Call) -> object:
        return await http_budgets.budget(self._administration, call)

    async def _balance(self, call: Call) -> object:
        return await self._administration.balance(call.parts["customer"])

    async def _entries(self, call: Call) -> object:
        after = int(read_cursor(call) or 0)
        rows, next_after = await self._administration.entries(
            call.parts["customer"], after=after, kind=call.query.get("kind", ""), limit=read_limit(call)
        )
        return Page(tuple(rows), str(next_after) if next_after else "")

    async def _acts(self, call: Call) -> object:
        rows, cursor = await self._administration.audit(
            customer=call.query.get("customer", ""),
            actor=call.query.get("actor", ""),
            since_ms=read_number(call, "since_ms", default=0, least=0, most=MAX_NUMBER),
            until_ms=read_number(call, "until_ms", default=MAX_NUMBER, least=0, most=MAX_NUMBER),
            after=read_cursor(call),
            limit=read_limit(call),
        )
        return Page(tuple(rows), cursor)

    async def _start_backup(self, call: Call) -> object:
        return await self._backup_desk().start(call.act.actor)

    async def _look_at_backup(self, call: Call) -> object:
        return self._backup_desk().look(call.parts["name"])

    def _backup_desk(self) -> BackupDesk:
        if self._backups is None:
            raise errors.Conflict("the book is in a database: `spend ledger backup` copies it where its URL is set")
        return self._backups

    async def _verify(self, call: Call) -> object:
        return await self._administration.verify(call.parts["customer"])

    async def _usage(self, call: Call) -> object:
        rows, cursor = await self._administration.usage(
            customer=call.query.get("customer", ""),
            since_ms=read_number(call, "since_ms", default=0, least=0, most=MAX_NUMBER),
            after=read_cursor(call),
            limit=read_limit(call),
        )
        return Page(tuple(rows), cursor)

    async def _sums(self, call: Call) -> object:
        rows, cursor = await self._administration.sums(
            by=call.query.get("by", "day"),
            this=call.query.get("this", ""),
            customer=call.query.get("customer", ""),
            since_ms=read_number(call, "since_ms", default=0, least=0, most=MAX_NUMBER),
            after=read_cursor(call),
            node=str(call.scope.node or ""),
        )
        return Page(tuple(rows), cursor)

    async def _clock(self, _call: Call) -> object:
        return await self._administration.clock()

    async def _accept_clock(self, call: Call) -> object:
        return await self._administration.accept_clock(call.act)

    async def _sidecar_tokens(self, call: Call) -> object:
        return page_of(await self._administration.sidecar_tokens(), "name", call)

    async def _set_sidecar_token(self, call: Call) -> object:
        new = call.read(NewSidecarToken)
        return await self._administration.set_sidecar_token(new.name, new.token_sha256, call.act)

    async def _revoke_sidecar_token(self, call: Call) -> object:
        return await self._administration.revoke_sidecar_token(call.read(SidecarName).name, call.act)

    async def _keys(self, call: Call) -> object:
        after = int(read_cursor(call) or 0)
        rows, next_after = await self._administration.keys(call.parts["customer"], after=after, limit=read_limit(call))
        return Page(tuple(rows), str(next_after) if next_after else "")

    async def _add_key(self, call: Call) -> object:
        return await self._administration.add_key(call.read(NewKey), call.act)

    async def _revoke_key(self, call: Call) -> object:
        named = call.read(NamedKey)
        return await self._administration.revoke_key(named.customer, named.key_id, call.act)

    async def _tokens(self, call: Call) -> object:
        rows, cursor = await self._administration.tokens(
            call.query.get("customer", ""), after=read_cursor(call), limit=read_limit(call)
        )
        return Page(tuple(rows), cursor)

    async def _make_token(self, call: Call) -> object:
        form = call.read(NewToken)
        if form.role in set(Role) and not may_make(call.role, Role(form.role)):
            raise RequestRefused("forbidden", f"a {call.role.value} cannot make a {form.role}: it may do more")
        return await self._administration.make_token(form, call.act)

    async def _revoke_token(self, call: Call) -> object:
        named = call.read(NamedToken)
        customer = named.path.partition("/")[0]
        view = await self._administration.token(customer, named.name)
        if not call.scope.holds(view.customer, tuple(view.path.split("/")[1:])):
            raise errors.NotFound("token", named.name)
        if not may_make(call.role, Role(view.role)):
            raise RequestRefused("forbidden", f"a {call.role.value} cannot revoke a {view.role}: it may do more")
        return await self._administration.revoke_token(customer, named.name, call.act)

    async def _explain(self, call: Call) -> object:
        """The book knows what is settled; the sidecar beside it, what it denied or has open."""
        try:
            evenly = call.scope.node is not None
            return await self._administration.explain(call.parts["request_id"], call.scope.customer, evenly=evenly)
        except errors.NotFound:
            remembered = self._recent(call.parts["request_id"]) if self._recent is not None else None
            if remembered is None:
                raise
            return remembered
