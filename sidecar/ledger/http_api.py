"""The ledger's API for people and their scripts: JSON over HTTP, below /v1.

Each route is a row of `AdminAPI.routes` with the permission it needs; one function, `answer`,
decides for all of them. It knows nothing of money: it reads a request strictly, asks the
`Administration` port, and writes what comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec
from aiohttp import web

from sidecar import errors
from sidecar.ledger.administration import (
    Act,
    Administration,
    BudgetRemoval,
    GrantVoid,
    NewBudget,
    NewGrant,
    NewKey,
    NodeAct,
    NodeMove,
)
from sidecar.ledger.http_access import Access, Call, Permission, Route, RouteTable, authenticate, path_parts
from sidecar.ledger.http_bodies import BodyFault, BodyRefused, read_body
from sidecar.ledger.http_fields import MAX_NUMBER, read_cursor, read_json, read_limit, read_number, read_query
from sidecar.ledger.http_problems import CONTENT_TYPE, RequestRefused, problem_of
from sidecar.ledger.views import ExplainView, Page
from sidecar.ports import Ids

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_REQUESTS_AT_ONCE: Final = 64
"""More are told to come again: this API serves people and scripts, not the request path."""

BODY_TIMEOUT_S: Final = 10.0
FLUSH_TIMEOUT_S: Final = 10.0
"""How long a read waits for what is still on its way to the book."""

_MAX_KEY_LENGTH: Final = 255

_log = logging.getLogger(__name__)


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
    ) -> None:
        """Make one.

        Args:
            administration: what is asked.
            accesses: the tokens that are accepted; none: nobody is let in.
            ids: names for requests, and idempotency keys for those that bring none.
            version: of the product, shown at /v1/version.
            before_read: awaited before every read, so that what was settled a moment ago is in the
                book; it may raise Unavailable, and is given FLUSH_TIMEOUT_S.
            recent: what a sidecar in this process remembers of a call that the book does not have:
                a denial, or a call still open.
        """
        self._administration = administration
        self._accesses = tuple(accesses)
        self._ids = ids
        self._version = version
        self._before_read = before_read
        self._recent = recent
        self._running = 0
        self.table = RouteTable(self._routes())

    def _routes(self) -> Iterable[Route]:
        """The one table of what is answered, and to whom."""
        read, write, page = Permission.READ, Permission.WRITE, frozenset({"cursor", "limit"})
        customer = "/v1/customers/{customer}"
        return (
            Route("GET", "/v1/health", Permission.PUBLIC, self._health),
            Route("GET", "/v1/version", read, self._show_version),
            Route("GET", "/v1/customers", read, self._customers, page),
            Route("POST", "/v1/customers", write, self._add_customer),
            Route("POST", "/v1/customers/timezone", write, self._set_timezone),
            Route("POST", "/v1/nodes", write, self._add_nodes),
            Route("POST", "/v1/nodes/freeze", write, self._freeze),
            Route("POST", "/v1/nodes/unfreeze", write, self._unfreeze),
            Route("POST", "/v1/nodes/move", write, self._move_node),
            Route("POST", "/v1/grants", write, self._add_grant),
            Route("POST", "/v1/grants/void", write, self._void_grant),
            Route("POST", "/v1/budgets", write, self._set_budget),
            Route("POST", "/v1/budgets/remove", write, self._remove_budget),
            Route("GET", f"{customer}/nodes", read, self._nodes),
            Route("GET", f"{customer}/frozen", read, self._frozen),
            Route("GET", f"{customer}/holders", read, self._holders),
            Route("GET", f"{customer}/grants", read, self._grants),
            Route("GET", f"{customer}/budgets", read, self._budgets),
            Route("GET", f"{customer}/balance", read, self._balance),
            Route("GET", f"{customer}/entries", read, self._entries, page | {"kind"}),
            Route("GET", f"{customer}/verify", read, self._verify),
            Route("GET", "/v1/usage", read, self._usage, page | {"customer", "since_ms"}),
            Route(
                "GET", "/v1/usage/sums", read, self._sums, frozenset({"by", "customer", "since_ms", "this", "cursor"})
            ),
            Route("GET", "/v1/leases/silent", read, self._silent_leases),
            Route("GET", "/v1/clock", read, self._clock),
            Route("POST", "/v1/clock/accept", write, self._accept_clock),
            Route("GET", "/v1/sidecar-tokens", read, self._sidecar_tokens),
            Route("POST", "/v1/sidecar-tokens", write, self._set_sidecar_token),
            Route("POST", "/v1/sidecar-tokens/revoke", write, self._revoke_sidecar_token),
            Route("GET", f"{customer}/keys", read, self._keys, page),
            Route("POST", "/v1/keys", write, self._add_key),
            Route("POST", "/v1/keys/revoke", write, self._revoke_key),
            Route("GET", "/v1/requests/{request_id}", read, self._explain),
        )

    # -- one request -----------------------------------------------------------------------------

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is; every refusal is a problem with a code."""
        request_id = self._ids.new("api")
        headers = {
            "Spend-Request-Id": request_id,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        self._running += 1
        try:
            if self._running > MAX_REQUESTS_AT_ONCE:
                raise RequestRefused("overloaded", f"more than {MAX_REQUESTS_AT_ONCE} requests at once")
            shown = msgspec.json.encode(await self._decide(request))
        except Exception as error:  # the last line of defence: whatever went wrong, the caller gets a problem
            problem = problem_of(error, request_id)
            if problem.status == 500:
                _log.exception("admin_request_failed", extra={"facts": {"request_id": request_id}})
            headers |= problem.headers
            return web.Response(status=problem.status, body=problem.body, content_type=CONTENT_TYPE, headers=headers)
        finally:
            self._running -= 1
        return web.Response(body=shown, content_type="application/json", headers=headers)

    async def _decide(self, request: web.BaseRequest) -> object:
        """Who asks, what for, whether they may: in this order; then the handler."""
        path, mark, raw_query = request.raw_path.partition("?")
        route = self.table.find(request.method, path)
        if route is not None and route.permission is Permission.PUBLIC:
            actor = "anybody"
        else:
            access = authenticate(request.headers.getall("Authorization", []), self._accesses)
            if access is None:
                challenge = {"WWW-Authenticate": "Bearer"}
                raise RequestRefused("unauthenticated", "send Authorization: Bearer TOKEN", headers=challenge)
            if route is None:
                raise self._no_route(request.method, path)
            if route.permission not in access.permissions:
                raise RequestRefused("forbidden", f"this token lacks the permission {route.permission.value}")
            actor = access.actor
        call = Call(
            parts=path_parts(route, path),
            query=read_query(raw_query if mark else "", route.query),
            body=await _read_body(request) if route.method == "POST" else b"",
            act=Act(actor, self._idempotency_key(request)),
        )
        if route.permission is Permission.READ and self._before_read is not None:
            await self._flush(self._before_read)
        return await route.handler(call)

    def _no_route(self, method: str, path: str) -> RequestRefused:
        methods = self.table.methods(path)
        if not methods:
            return RequestRefused("not_found", "there is nothing at this path")
        allow = ", ".join(methods)
        return RequestRefused("method_not_allowed", f"{method[:32]}: expected {allow}", headers={"Allow": allow})

    def _idempotency_key(self, request: web.BaseRequest) -> str:
        keys = request.headers.getall("Idempotency-Key", [])
        if not keys:
            return self._ids.new("key")
        key = keys[0]
        if len(keys) > 1 or not 1 <= len(key) <= _MAX_KEY_LENGTH or not all("!" <= c <= "~" for c in key):
            expected = f"expected one Idempotency-Key of 1 to {_MAX_KEY_LENGTH} printable ASCII characters"
            raise RequestRefused("invalid_idempotency_key", expected)
        return key

    @staticmethod
    async def _flush(before_read: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await before_read()
        except TimeoutError:
            raise errors.LedgerUnavailable(
                "settled calls are still on their way to the book; ask again", retry_after_s=2.0
            ) from None

    # -- handlers, in the order of the table -----------------------------------------------------

    async def _health(self, _call: Call) -> object:
        return Health()

    async def _show_version(self, _call: Call) -> object:
        return Version(self._version)

    async def _customers(self, call: Call) -> object:
        rows, cursor = await self._administration.customers(after=read_cursor(call), limit=read_limit(call))
        return Page(tuple(rows), cursor)

    async def _add_customer(self, call: Call) -> object:
        new = read_json(call.body, NewCustomer)
        return await self._administration.add_customer(new.customer, new.wallet, call.act)

    async def _set_timezone(self, call: Call) -> object:
        new = read_json(call.body, NewTimezone)
        return await self._administration.set_timezone(new.customer, new.timezone, call.act)

    async def _add_nodes(self, call: Call) -> object:
        new = read_json(call.body, NewNodes)
        return Page(tuple(await self._administration.add_nodes(new.path, call.act)))

    async def _freeze(self, call: Call) -> object:
        return await self._administration.freeze(read_json(call.body, NodeAct), call.act)

    async def _unfreeze(self, call: Call) -> object:
        return await self._administration.unfreeze(read_json(call.body, NodeAct), call.act)

    async def _move_node(self, call: Call) -> object:
        return Page(tuple(await self._administration.move_node(read_json(call.body, NodeMove), call.act)))

    async def _void_grant(self, call: Call) -> object:
        return await self._administration.void_grant(read_json(call.body, GrantVoid), call.act)

    async def _remove_budget(self, call: Call) -> object:
        return await self._administration.remove_budget(read_json(call.body, BudgetRemoval), call.act)

    async def _frozen(self, call: Call) -> object:
        return Page(tuple(await self._administration.frozen(call.parts["customer"])))

    async def _holders(self, call: Call) -> object:
        return await self._administration.holders(call.parts["customer"])

    async def _add_grant(self, call: Call) -> object:
        return await self._administration.add_grant(read_json(call.body, NewGrant), call.act)

    async def _set_budget(self, call: Call) -> object:
        return await self._administration.set_budget(read_json(call.body, NewBudget), call.act)

    async def _nodes(self, call: Call) -> object:
        return Page(tuple(await self._administration.nodes(call.parts["customer"])))

    async def _grants(self, call: Call) -> object:
        return Page(tuple(await self._administration.grants(call.parts["customer"])))

    async def _budgets(self, call: Call) -> object:
        return Page(tuple(await self._administration.budgets(call.parts["customer"])))

    async def _balance(self, call: Call) -> object:
        return await self._administration.balance(call.parts["customer"])

    async def _entries(self, call: Call) -> object:
        after = read_number(call, "cursor", default=0, least=0, most=MAX_NUMBER)
        rows, next_after = await self._administration.entries(
            call.parts["customer"], after=after, kind=call.query.get("kind", ""), limit=read_limit(call)
        )
        return Page(tuple(rows), str(next_after) if next_after else "")

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
        )
        return Page(tuple(rows), cursor)

    async def _silent_leases(self, _call: Call) -> object:
        return Page(tuple(await self._administration.silent_leases()))

    async def _clock(self, _call: Call) -> object:
        return await self._administration.clock()

    async def _accept_clock(self, call: Call) -> object:
        read_json(call.body, Nothing)
        return await self._administration.accept_clock(call.act)

    async def _sidecar_tokens(self, _call: Call) -> object:
        return Page(tuple(await self._administration.sidecar_tokens()))

    async def _set_sidecar_token(self, call: Call) -> object:
        new = read_json(call.body, NewSidecarToken)
        return await self._administration.set_sidecar_token(new.name, new.token_sha256, call.act)

    async def _revoke_sidecar_token(self, call: Call) -> object:
        return await self._administration.revoke_sidecar_token(read_json(call.body, SidecarName).name, call.act)

    async def _keys(self, call: Call) -> object:
        after = read_number(call, "cursor", default=0, least=0, most=MAX_NUMBER)
        rows, next_after = await self._administration.keys(call.parts["customer"], after=after, limit=read_limit(call))
        return Page(tuple(rows), str(next_after) if next_after else "")

    async def _add_key(self, call: Call) -> object:
        return await self._administration.add_key(read_json(call.body, NewKey), call.act)

    async def _revoke_key(self, call: Call) -> object:
        named = read_json(call.body, NamedKey)
        return await self._administration.revoke_key(named.customer, named.key_id, call.act)

    async def _explain(self, call: Call) -> object:
        """The book knows what is settled; the sidecar beside it, what it denied or has open."""
        try:
            return await self._administration.explain(call.parts["request_id"])
        except errors.NotFound:
            remembered = self._recent(call.parts["request_id"]) if self._recent is not None else None
            if remembered is None:
                raise
            return remembered


async def _read_body(request: web.BaseRequest) -> bytes:
    """The whole body, within its cap and its time; JSON, and not compressed."""
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        raise RequestRefused("unsupported_media_type", "expected Content-Type: application/json, not compressed")
    try:
        return await read_body(request, most_bytes=MAX_BODY_BYTES, timeout_s=BODY_TIMEOUT_S)
    except BodyRefused as refused:
        fault = refused.fault
    if fault is BodyFault.TOO_LARGE:
        raise RequestRefused("body_too_large", f"expected at most {MAX_BODY_BYTES} bytes")
    if fault is BodyFault.TOO_SLOW:
        raise RequestRefused("body_too_slow", f"the body did not come within {BODY_TIMEOUT_S:g} s")
    raise RequestRefused("malformed_request", "the body broke off")
