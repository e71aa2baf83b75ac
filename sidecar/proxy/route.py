"""Where a request goes: decided on the raw bytes of its target, and on nothing else.

A path that we read one way and a provider another way is a call that nobody counted. So nothing
is decoded or normalised here; what is not exactly a metered path is refused, unless the
configuration names it as one to pass on uncounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from sidecar.core.credits.scopes import fits
from sidecar.errors import ConfigurationError
from sidecar.providers.dialect import Dialect
from sidecar.providers.registry import dialect_for
from sidecar.proxy.unfit import Unfit, UnfitReason

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"

RESERVED_NAMES: Final = frozenset({"spend", "v1", "v1beta", OPENAI, ANTHROPIC, "messages"})
"""What a further upstream may not be called: their first path segments mean something already."""

REMEMBERED_ROUTES: Final = 1024
"""Targets whose route is remembered; the one used longest ago goes first."""

NOT_METERED: Final = (
    "this path is not metered, so it is not passed on. Metered are POST /v1/chat/completions, POST /v1/messages and the"
    " same below /{upstream}/ for each configured upstream. To pass a path on uncounted, add its method and path to"
    " `pass_through` in the configuration"
)

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_TARGET: Final = re.compile(r"/[!-~]*", re.ASCII)
_TRICKS: Final = re.compile(r"//|/\.\.?(?:/|$)|\\|#|%(?:00|2[ef]|5c)|%(?![0-9a-f]{2})", re.ASCII | re.IGNORECASE)
_METERED_SUFFIXES: Final = ("/chat/completions", "/messages")
_PATTERN: Final = re.compile(r"([A-Z]{3,7}) (/[!-~]*)", re.ASCII)


class Route(msgspec.Struct, frozen=True):
    """Where a request goes: `target` is the raw path and query there.

    `dialect` is None for what is passed on unmetered, counted only in a metric.
    """

    upstream: str
    target: str
    dialect: Dialect | None


class Routes:
    """The routing table: two fixed paths, the further upstreams, and what passes uncounted."""

    def __init__(self, *, further: Iterable[str] = (), pass_through: Iterable[str] = ()) -> None:
        """Make a table.

        Args:
            further: names of configured upstreams beside openai and anthropic.
            pass_through: patterns `METHOD /path`, in whose path `*` stands for any run of
                characters; they are matched on the caller's raw path.

        Raises:
            ConfigurationError: a name or pattern that cannot be one; all of them in one report.
        """
        self._further = frozenset(further) - {OPENAI, ANTHROPIC}
        problems = [
            f"upstreams.{name}: expected lower case letters, digits, - or _, and none of "
            f"{', '.join(sorted(RESERVED_NAMES))}"
            for name in sorted(self._further)
            if name in RESERVED_NAMES or not _NAME.fullmatch(name)
        ]
        patterns: list[tuple[str, str]] = []
        for text in pass_through:
            match = _PATTERN.fullmatch(text)
            if match is None:
                problems.append(f"pass_through: expected such as `GET /v1/models`, got {text[:64]!r}")
            else:
                patterns.append((match[1], match[2]))
        if problems:
            raise ConfigurationError(problems)
        self._pass_through = tuple(patterns)
        self._remembered = lru_cache(maxsize=REMEMBERED_ROUTES)(self._find)

    def find(self, method: str, target: str, *, anthropic: bool) -> Route | Unfit:
        """The route of a request, or why it has none.

        Args:
            method: as sent.
            target: the raw request target.
            anthropic: the caller speaks Anthropic's protocol (it sent `anthropic-version`): tells
                the upstream of a path that both providers have and that is passed on uncounted.
        """
        return self._remembered(method, target, anthropic)

    def _find(self, method: str, target: str, anthropic: bool) -> Route | Unfit:
        path, mark, query = target.partition("?")
        if not _TARGET.fullmatch(target) or _TRICKS.search(path) or "#" in query:
            message = "the request target must be one plain path, without empty, dotted or disguised segments"
            return Unfit(UnfitReason.MALFORMED_PATH, message)
        upstream, rest = self._split(path, anthropic)
        if upstream is not None:
            dialect = dialect_for(rest) if method == "POST" and self._is_metered(upstream, rest) else None
            if dialect is not None or self._passes(method, path):
                return Route(upstream, rest + mark + query, dialect)
        return Unfit(UnfitReason.ENDPOINT_NOT_METERED, _hint(method, path) + NOT_METERED)

    def _split(self, path: str, anthropic: bool) -> tuple[str | None, str]:
        """The upstream, and the path there."""
        if path == "/messages":  # what one SDK makes of a base address without /v1
            return ANTHROPIC, "/v1/messages"
        first, slash, rest = path[1:].partition("/")
        if first in self._further and slash:
            return first, f"/{rest}"
        if first != "v1":
            return None, path
        return ANTHROPIC if path == "/v1/messages" or (anthropic and path != "/v1/chat/completions") else OPENAI, path

    def _is_metered(self, upstream: str, path: str) -> bool:
        """Whether a path may be a metered one: below a further upstream its end tells, elsewhere there are two."""
        return upstream in self._further or path == (
            "/v1/messages" if upstream == ANTHROPIC else "/v1/chat/completions"
        )

    def _passes(self, method: str, path: str) -> bool:
        """Whether the configuration lets a path pass uncounted; never one that a lenient server could take for metered.

        A pattern such as `POST /v1/*` must not open `/v1/chat/completions;` beside the metered path.
        """
        plain = path.lower().partition(";")[0].rstrip("/")
        if method == "POST" and plain.endswith(_METERED_SUFFIXES):
            return False
        return any(method == wanted and fits(pattern, path) for wanted, pattern in self._pass_through)


def _hint(method: str, path: str) -> str:
    """What is probably wrong with a path that is nearly a metered one; it repeats nothing of the request."""
    plain = path.rstrip("/")
    if not plain.endswith(_METERED_SUFFIXES):
        return ""
    if method != "POST":
        return "send POST: "
    if plain != path:
        return "the path ends in a slash too many: "
    if plain.startswith("/v1/v1/"):
        return "the base URL has /v1 once too often: OPENAI_BASE_URL ends in /v1, ANTHROPIC_BASE_URL ends before it: "
    if plain == "/chat/completions":
        return "the base URL lacks /v1: OPENAI_BASE_URL ends in it: "
    return ""
