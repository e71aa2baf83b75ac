"""The one table of what the ledger's API answers, and to whom.

Everything is refused that is not in the table. A row says which right it needs and how far a token
must reach for it, what it takes and what it gives: access, validation and the OpenAPI document all
follow from the row, so none of them can be forgotten. The match is on the raw path, segment by
segment: nothing is decoded before the decision, so no two readers of a path can disagree about
which route it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import msgspec

from sidecar.core.governance.rights import Reach, Right, Role, Scope
from sidecar.core.governance.tenancy import is_id
from sidecar.ledger.administration import Act
from sidecar.ledger.http_problems import RequestRefused

PAGE: Final = frozenset({"cursor", "limit"})
"""The parameters of every list that is given in pages."""

_T = TypeVar("_T")


class Call(msgspec.Struct, frozen=True):
    """One request as a handler sees it: named parts of the path, the query, the body, and who asks.

    `form` is the body as the route's `takes`; of a route that takes none, None. `headers` are those
    that make a write conditional, by their lower-case names. `scope` is where the asker's token
    reaches, and `role` what it may do there: both were held against the request before the handler sees it.
    """

    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    act: Act
    form: object = None
    scope: Scope = Scope()
    role: Role = Role.PLATFORM_ADMIN
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)

    def read(self, kind: type[_T]) -> _T:
        """The body, which the route takes as `kind`.

        Raises:
            TypeError: the route takes something else: a mistake in the table.
        """
        if not isinstance(self.form, kind):
            raise TypeError(f"this route takes no {kind.__name__}")
        return self.form


class Answer(msgspec.Struct, frozen=True):
    """What a handler gives that has headers of its own."""

    body: object
    headers: Mapping[str, str]


Handler = Callable[[Call], Awaitable[object]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. `pattern` has parts in braces; `query` names the parameters it takes.

    Args:
        right: what the asker's role must have.
        reach: the least that its token must reach. By default the whole ledger: who is of one
            customer gets 403. `CUSTOMER`: the customer in the path, the query or the body (`customer`,
            or the beginning of `path`) must be its own, and only rows of its own are shown.
            `NODE`: the same, and a token of a node sees and names only what is at it or below.
        takes: the type of the body; None: it takes none.
        gives: the type of the answer; of a list, of its rows.
        listing: the answer is a `Page` of such rows.
        conditional: it obeys If-Match and If-None-Match.
        cost: as how many requests one of these counts, where the ledger works for long to answer it.
    """

    method: str
    pattern: str
    right: Right
    handler: Handler
    gives: Any
    takes: type[msgspec.Struct] | None = None
    query: frozenset[str] = frozenset()
    reach: Reach = Reach.LEDGER
    listing: bool = False
    conditional: bool = False
    summary: str = ""
    cost: float = 1.0


def get(pattern: str, right: Right, handler: Handler, gives: Any, **more: Any) -> Route:
    """A row that reads."""
    return Route(method="GET", pattern=pattern, right=right, handler=handler, gives=gives, **more)


def post(pattern: str, right: Right, handler: Handler, takes: type[msgspec.Struct], gives: Any, **more: Any) -> Route:
    """A row that writes."""
    return Route(method="POST", pattern=pattern, right=right, handler=handler, takes=takes, gives=gives, **more)


class RouteTable:
    """All that the API answers; whatever is not in it does not exist."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """Make a table.

        Raises:
            ValueError: two routes with one method and pattern.
        """
        self.routes = tuple(routes)
        self._by_length: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        seen: set[tuple[str, str]] = set()
        for route in self.routes:
            if (route.method, route.pattern) in seen:
                raise ValueError(f"{route.method} {route.pattern} stands twice")
            seen.add((route.method, route.pattern))
            segments = tuple(route.pattern.split("/"))
            self._by_length.setdefault(len(segments), []).append((segments, route))

    def find(self, method: str, path: str) -> Route | None:
        """The route of a raw path; None where there is none, for this method or at all."""
        return next((route for route in self._matching(path) if route.method == method), None)

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods that a raw path takes; empty where there is no such path."""
        return tuple(sorted({route.method for route in self._matching(path)}))

    def _matching(self, path: str) -> list[Route]:
        segments = path.split("/")
        candidates = self._by_length.get(len(segments), [])
        return [
            route
            for pattern, route in candidates
            if all(want == got or (want.startswith("{") and got) for want, got in zip(pattern, segments, strict=True))
        ]


def path_parts(route: Route, path: str) -> dict[str, str]:
    """The named parts of a raw path, percent-decoded once.

    Raises:
        RequestRefused: a part that could not be anybody's name (`not_found`).
    """
    parts: dict[str, str] = {}
    for want, got in zip(route.pattern.split("/"), path.split("/"), strict=True):
        if not want.startswith("{"):
            continue
        value = unquote(got, errors="replace")
        if not is_id(value):
            raise RequestRefused("not_found", f"no {want[1:-1]} can be called that")
        parts[want[1:-1]] = value
    return parts
