"""Who may ask what of the ledger's API: its tokens, and the one table of its routes.

Everything is refused that is not in the table, and every row of the table says which permission
it needs. The match is on the raw path, segment by segment: nothing is decoded before the
decision, so no two readers of a path can disagree about which route it is.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from sidecar.core.governance.checked_tokens import digest_of, is_token, write_token
from sidecar.core.governance.tenancy import is_id
from sidecar.ledger.administration import Act
from sidecar.ledger.http_problems import RequestRefused

TOKEN_PREFIX: Final = "spend_admin_"  # noqa: S105 (what tokens begin with, so that scanners of leaked secrets find them)
SIDECAR_TOKEN_PREFIX: Final = "spend_sidecar_"  # noqa: S105 (likewise)


def admin_token(secret: bytes) -> str:
    """Write 32 random bytes as a token: prefix, secret, and a checksum that tells a mistyped one.

    Raises:
        ValueError: not exactly SECRET_BYTES of them.
    """
    return write_token(TOKEN_PREFIX, secret)


def sidecar_token(secret: bytes) -> str:
    """Write 32 random bytes as the token of a sidecar, which opens the contract and nothing else.

    Raises:
        ValueError: not exactly SECRET_BYTES of them.
    """
    return write_token(SIDECAR_TOKEN_PREFIX, secret)


def is_admin_token(text: str) -> bool:
    """Whether `text` has the form and the checksum of a token; says nothing of its being accepted."""
    return is_token(TOKEN_PREFIX, text)


class Permission(StrEnum):
    """What a route needs. `public` needs no token: it tells nothing."""

    PUBLIC = "public"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Access:
    """A token that is accepted, known by its SHA-256, and what it may do as whom."""

    token_sha256: bytes = field(repr=False)
    actor: str
    permissions: frozenset[Permission]


def admin_access(token: str, *, actor: str = "admin") -> Access:
    """The access of the administrator's token: everything."""
    digest = digest_of(token)
    return Access(digest, actor, frozenset({Permission.READ, Permission.WRITE}))


def authenticate(authorizations: Sequence[str], accesses: Iterable[Access]) -> Access | None:
    """Whose the bearer token of a request is; None for none, a wrong one, or two of them.

    Digests are compared, each in constant time and all of them, so that the time taken tells
    nothing of the token.

    Args:
        authorizations: the values of all `Authorization` headers, as received.
        accesses: what is accepted.
    """
    if len(authorizations) != 1:
        return None
    scheme, _, token = authorizations[0].partition(" ")
    if scheme.lower() != "bearer":
        return None
    digest = digest_of(token)
    found: Access | None = None
    for access in accesses:
        if hmac.compare_digest(digest, access.token_sha256):
            found = access
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a handler sees it: named parts of the path, the query, the body, and who asks."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    act: Act


Handler = Callable[[Call], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. `pattern` has parts in braces; `query` names the parameters it takes."""

    method: str
    pattern: str
    permission: Permission
    handler: Handler
    query: frozenset[str] = frozenset()


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
