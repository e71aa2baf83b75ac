"""What happens to every request of the ledger's API before and after its handler.

One function decides for all routes: who asks, what for, whether they may, how often they have, whether
what they name is theirs; then the handler; then what of the answer is theirs to see. It knows nothing
of money, and no route has a way around it (S-16, S-17).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from msgspec.structs import replace

from sidecar import errors
from sidecar.core.governance.rights import RIGHTS, Right, Role
from sidecar.ledger import http_scopes as scopes
from sidecar.ledger.administration import Act
from sidecar.ledger.forms import MAX_REASON
from sidecar.ledger.http_access import Access, Door
from sidecar.ledger.http_bodies import BodyFault, BodyRefused, read_body
from sidecar.ledger.http_cursors import Cursors
from sidecar.ledger.http_fields import read_json, read_query
from sidecar.ledger.http_limits import Buckets
from sidecar.ledger.http_problems import CONTENT_TYPE, RequestRefused, problem_of, wait_for
from sidecar.ledger.http_routes import Answer, Call, Route, RouteTable, path_parts
from sidecar.ledger.views import Page
from sidecar.ports import Ids

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_REQUESTS_AT_ONCE: Final = 64
"""More are told to come again: this API serves people and scripts, not the request path."""

MAX_OF_ONE_TOKEN: Final = 32
"""Of those at once: one whose requests all wait for their bodies does not keep the others out."""

REQUESTS_PER_S: Final = 250.0
REQUESTS_AT_ONCE: Final = 1000
"""Of one token: so many in a second for long, and so many at once after a while of silence."""

BODY_TIMEOUT_S: Final = 10.0
FLUSH_TIMEOUT_S: Final = 10.0
"""How long a read waits for what is still on its way to the book."""

REASON: Final = "Spend-Reason"

CONDITIONS: Final = ("If-Match", "If-None-Match")
MAX_CONDITION_LENGTH: Final = 64

_MAX_KEY_LENGTH: Final = 255
_NOBODY: Final = Access(b"", "anybody", Role.MEMBER)

_log = logging.getLogger(__name__)


class Gate:
    """The way to a table's handlers. Use it from one event loop."""

    def __init__(
        self,
        table: RouteTable,
        door: Door,
        ids: Ids,
        monotonic: Callable[[], float],
        *,
        nodes: scopes.Nodes,
        cursor_secret: Callable[[], Awaitable[bytes]],
        before_read: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make one.

        Args:
            table: what there is.
            door: who is let in.
            ids: names for requests, and idempotency keys for those that bring none.
            monotonic: seconds.
            nodes: all nodes of a customer, to place what a token of a node names.
            cursor_secret: what cursors are signed with.
            before_read: awaited before every read; it may raise Unavailable, and is given FLUSH_TIMEOUT_S.
        """
        self.table = table
        self.before_read = before_read
        self._door = door
        self._ids = ids
        self._nodes = nodes
        self._cursor_secret = cursor_secret
        self._secret = b""
        self._rates = Buckets(REQUESTS_PER_S, REQUESTS_AT_ONCE, monotonic)
        self._running = 0
        self._running_of: Counter[bytes] = Counter()

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
            answer = await self._decide(request)
            shown = msgspec.json.encode(answer.body)
        except Exception as error:  # the last line of defence: whatever went wrong, the caller gets a problem
            problem = problem_of(error, request_id)
            if problem.status == 500:
                _log.exception("admin_request_failed", extra={"facts": {"request_id": request_id}})
            headers |= problem.headers
            return web.Response(status=problem.status, body=problem.body, content_type=CONTENT_TYPE, headers=headers)
        finally:
            self._running -= 1
        headers |= answer.headers
        return web.Response(body=shown, content_type="application/json", headers=headers)

    async def _decide(self, request: web.BaseRequest) -> Answer:
        """Who asks, what for, whether they may: in this order; then the handler."""
        path, mark, raw_query = request.raw_path.partition("?")
        route = self.table.find(request.method, path)
        if route is not None and route.right is Right.PUBLIC:
            access = _NOBODY
        else:
            access = await self._door.open(request.headers.getall("Authorization", []), request.remote or "")
            if route is None:
                raise self._no_route(request.method, path)
            self._check(route, access)
        asker = access.token_sha256
        if self._running_of[asker] >= MAX_OF_ONE_TOKEN:
            raise wait_for(1.0, f"more than {MAX_OF_ONE_TOKEN} requests at once with this token")
        self._running_of[asker] += 1
        try:
            return await self._carry_out(request, route, access, path, raw_query if mark else "")
        finally:
            self._running_of[asker] -= 1
            if not self._running_of[asker]:
                del self._running_of[asker]

    async def _carry_out(
        self, request: web.BaseRequest, route: Route, access: Access, path: str, raw_query: str
    ) -> Answer:
        """What somebody who may ask it asks for."""
        repeated: list[bool] = []
        parts = path_parts(route, path)
        query = read_query(raw_query, route.query)
        form, body = await _read_form(request, route)
        call = Call(
            parts=parts,
            query=query,
            body=body,
            act=Act(
                access.actor, self._idempotency_key(request), _reason(request), on_repeat=lambda: repeated.append(True)
            ),
            form=form,
            scope=access.scope,
            role=access.role,
            headers=_conditions(request, route),
        )
        if route.method == "GET" and route.right is not Right.PUBLIC and self.before_read is not None:
            await self._flush(self.before_read)
        answer = await self._run(route, call)
        if repeated:
            answer = Answer(answer.body, {**answer.headers, "Idempotency-Hit": "true"})
        return answer

    def _check(self, route: Route, access: Access) -> None:
        """Whether a token may ask for this, and has not asked too often."""
        if route.right not in RIGHTS[access.role]:
            raise RequestRefused("forbidden", f"a {access.role.value} lacks the right {route.right.value!r}")
        scopes.check_reach(route, access.scope)
        wait_s = self._rates.take(access.token_sha256, route.cost)
        if wait_s:
            raise wait_for(wait_s, f"more than {REQUESTS_PER_S:g} requests a second with this token")

    async def _run(self, route: Route, call: Call) -> Answer:
        """The handler, between what it may be asked for and what may be seen of its answer."""
        guarded = route.right not in (Right.PUBLIC, Right.ANY)
        if guarded:
            form = call.form if isinstance(call.form, msgspec.Struct) else None
            query = scopes.own_query(route, dict(call.query), call.scope)
            await scopes.check_named(call.scope, dict(call.parts), query, form, self._nodes)
            call = replace(call, query=query)
        cursors: Cursors | None = None
        if "cursor" in route.query:
            cursors = Cursors(await self._cursor_key(), route.pattern, call.parts, call.query, call.scope)
            call = replace(call, query={**call.query, "cursor": cursors.open(call.query.get("cursor", ""))})
        given = await route.handler(call)
        answer = given if isinstance(given, Answer) else Answer(given, {})
        body = scopes.within(answer.body, call.scope, call.role) if guarded else answer.body
        if cursors is not None and isinstance(body, Page):
            body = Page(body.rows, cursors.seal(body.next_cursor))
        return Answer(body, answer.headers)

    async def _cursor_key(self) -> bytes:
        if not self._secret:
            self._secret = await self._cursor_secret()
        return self._secret

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


def _reason(request: web.BaseRequest) -> str:
    """Why somebody does something, in their own words; `` where they do not say.

    Raises:
        RequestRefused: it stands twice, is too long, or is no text.
    """
    values = request.headers.getall(REASON, [])
    if len(values) > 1 or (values and not (values[0].isprintable() and 0 < len(values[0]) <= MAX_REASON)):
        expected = f"expected once, 1 to {MAX_REASON} printable characters in UTF-8"
        raise RequestRefused("invalid_parameter", f"{REASON}: {expected}", problems={REASON: expected})
    return values[0] if values else ""


def _conditions(request: web.BaseRequest, route: Route) -> dict[str, str]:
    """The headers that make a write conditional, by their names in small letters.

    Raises:
        RequestRefused: one stands twice or is too long, or this route knows none.
    """
    found: dict[str, str] = {}
    for name in CONDITIONS:
        values = request.headers.getall(name, [])
        if not values or route.method == "GET":
            continue
        if not route.conditional:
            raise RequestRefused("invalid_parameter", f"{name} is not for this path", problems={name: "not taken here"})
        if len(values) > 1 or len(values[0]) > MAX_CONDITION_LENGTH:
            raise RequestRefused("invalid_parameter", f"{name}: expected one ETag", problems={name: "one ETag, or *"})
        found[name.lower()] = values[0].strip()
    return found


async def _read_form(request: web.BaseRequest, route: Route) -> tuple[object, bytes]:
    """The body as what the route takes; of a route that takes none, nothing is read."""
    if route.takes is None:
        return None, b""
    body = await _read_body(request)
    return read_json(body, route.takes), body


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
