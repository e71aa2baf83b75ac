"""Where a request goes: decided on the raw bytes of its target, and on nothing else.

A path that we read one way and a provider another way is a call that nobody counted. So nothing is decoded or
normalised here. A path is a door of the provider's protocol (`providers.registry`): metered, or known and not
metered, or known to nobody. For the last two the upstream's `doors` in the configuration choose: refused, or passed
on and counted by call. What could be taken for a metered path by a server less strict than we are is never passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from sidecar.core.credits.scopes import fits
from sidecar.errors import ConfigurationError
from sidecar.providers.dialect import Dialect
from sidecar.providers.doors import CHOICES, Choice, DoorTable, Kind
from sidecar.providers.registry import ALL_DOORS, ANTHROPIC_DOORS, DIALECTS, OPENAI_DOORS, dialect_for, dialect_named
from sidecar.proxy.request_head import without_arn
from sidecar.proxy.unfit import Unfit, UnfitReason

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
GEMINI: Final = "gemini"
"""A further upstream; where it is configured, its versions are its own at the base address too."""

_GEMINI_VERSIONS: Final = frozenset({"v1beta", "v1alpha"})
_GEMINI_V1: Final = re.compile(
    r"/v1/(?:(?:models|tunedModels)/[^/]+(?::|%3A)(?:stream)?(?:generate|count|embed|batch|predict)\w*\Z"
    r"|(?:cachedContents|interactions)(?:/|\Z))",
    re.ASCII | re.IGNORECASE,
)
"""What of `/v1` is Google's alone: the other providers have no methods of models there."""

RESERVED_NAMES: Final = frozenset({"spend", "v1", "v1alpha", "v1beta", OPENAI, ANTHROPIC, "messages"})
"""What a further upstream may not be called: their first path segments mean something already."""

REMEMBERED_ROUTES: Final = 1024
"""Targets whose route is remembered; the one used longest ago goes first."""

NOT_METERED: Final = (
    "this path is not metered, so it is not passed on. Metered are the calls of the OpenAI and Anthropic APIs that"
    " answer with their usage, and the same below /{upstream}/ for each configured upstream. To pass a path on"
    " uncounted, add its method and path to `pass_through` in the configuration"
)

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_TARGET: Final = re.compile(r"/[!-~]*", re.ASCII)
_TRICKS: Final = re.compile(r"//|/\.\.?(?:/|$)|\\|#|%(?:00|2[ef]|5c)|%(?![0-9a-f]{2})", re.ASCII | re.IGNORECASE)
_PATTERN: Final = re.compile(r"([A-Z]{3,7}) (/[!-~]*)", re.ASCII)

_OFFICIAL: Final = {
    OPENAI: DoorTable(OPENAI_DOORS, prefix="/v1"),
    ANTHROPIC: DoorTable(ANTHROPIC_DOORS, prefix="/v1"),
}
"""Providers at their own address: a path is the version and one of these, and nothing else."""

_CHOICES: Final = frozenset(map(str, Choice))
_KINDS: Final = frozenset(map(str, Kind))
_FURTHER: Final = DoorTable(ALL_DOORS)


class _Own(NamedTuple):
    """What the configuration says of one path: a dialect that it speaks, or a choice."""

    method: str
    pattern: str
    dialect: Dialect | None
    choice: Choice


class Route(msgspec.Struct, frozen=True):
    """Where a request goes: `target` is the raw path and query there.

    `dialect` is None for what is passed on unmetered, counted only in a metric; `kind` then says why it is not
    metered. `later` are the kinds of calls whose usage comes outside their answer and that are taken all the same.
    """

    upstream: str
    target: str
    dialect: Dialect | None
    kind: Kind = Kind.OTHER
    later: frozenset[str] = frozenset()


class Routes:
    """The routing table: the providers' own paths, the further upstreams, and what passes uncounted."""

    def __init__(
        self,
        *,
        further: Iterable[str] = (),
        pass_through: Iterable[str] = (),
        doors: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Make a table.

        Args:
            further: names of configured upstreams beside openai and anthropic.
            pass_through: patterns `METHOD /path`, in whose path `*` stands for any run of
                characters; they are matched on the caller's raw path.
            doors: by upstream, what becomes of what is not metered there: a `Kind`, or `METHOD /path` at the
                provider (with `*`), to `refuse`, `pass_counted` or, for a path, the name of the dialect it speaks.

        Raises:
            ConfigurationError: a name, pattern or choice that cannot be one; all of them in one report.
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
        self._choices: dict[str, dict[Kind, Choice]] = {}
        self._own: dict[str, list[_Own]] = {}
        for name, said in (doors or {}).items():
            problems += self._read_doors(name, said)
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
        if not _TARGET.fullmatch(target) or _TRICKS.search(without_arn(path)) or "#" in query:
            message = "the request target must be one plain path, without empty, dotted or disguised segments"
            return Unfit(UnfitReason.MALFORMED_PATH, message)
        upstream, rest = self._split(path, anthropic)
        if upstream is None:
            return Unfit(UnfitReason.ENDPOINT_NOT_METERED, _hint(method, path) + NOT_METERED)
        target = rest + mark + query
        choices = self._choices.get(upstream, CHOICES)
        door = _OFFICIAL.get(upstream, _FURTHER).find(method, rest)
        if door is not None and door.dialect is not None:
            return Route(upstream, target, door.dialect, later=_taken(choices))
        kind = Kind.OTHER if door is None else door.kind
        choice = choices[kind]
        if not _is_nearly_metered(method, rest):
            for own in self._own.get(upstream, ()):
                if own.method == method and fits(own.pattern, rest):
                    if own.dialect is not None:
                        return Route(upstream, target, own.dialect, later=_taken(choices))
                    choice = own.choice
                    break
            if choice is Choice.PASS_COUNTED or self._passes(method, path):
                return Route(upstream, target, None, kind)
        if kind is Kind.OTHER:
            return Unfit(UnfitReason.ENDPOINT_NOT_METERED, _hint(method, path) + NOT_METERED)
        return Unfit(UnfitReason.ENDPOINT_NOT_METERED, not_taken(kind, upstream))

    def _read_doors(self, upstream: str, said: Mapping[str, str]) -> list[str]:
        """Take in what the configuration says of one upstream's doors; gives what is wrong with it."""
        problems: list[str] = []
        choices = dict(CHOICES)
        for what, text in said.items():
            choice = Choice(text) if text in _CHOICES else None
            match = _PATTERN.fullmatch(what)
            dialect = dialect_named(text) if match else None
            if what in _KINDS and choice is not None:
                choices[Kind(what)] = choice
            elif match and (choice is not None or dialect is not None):
                self._own.setdefault(upstream, []).append(_Own(match[1], match[2], dialect, choice or Choice.REFUSE))
            elif what in _KINDS or match:
                names = f", {', '.join(dialect.name for dialect in DIALECTS)}" if match else ""
                problems.append(f"upstreams.{upstream}.doors.{what}: expected {', '.join(Choice)}{names}")
            else:
                problems.append(
                    f"upstreams.{upstream}.doors: expected one of {', '.join(Kind)}, or such as `POST /v1/chat`,"
                    f" got {what[:64]!r}"
                )
        self._choices[upstream] = choices
        return problems

    def _split(self, path: str, anthropic: bool) -> tuple[str | None, str]:
        """The upstream, and the path there."""
        if path == "/messages":  # what one SDK makes of a base address without /v1
            return ANTHROPIC, "/v1/messages"
        first, slash, rest = path[1:].partition("/")
        if first in self._further and slash:
            return first, f"/{rest}"
        if GEMINI in self._further and (first in _GEMINI_VERSIONS or _GEMINI_V1.match(path)):
            return GEMINI, path
        if first != "v1":
            return None, path
        is_anthropic = path == "/v1/messages" or path.startswith("/v1/messages/")
        return ANTHROPIC if is_anthropic or (anthropic and dialect_for(path) is None) else OPENAI, path

    def _passes(self, method: str, path: str) -> bool:
        """Whether the configuration lets a caller's path pass uncounted."""
        return any(method == wanted and fits(pattern, path) for wanted, pattern in self._pass_through)


def not_taken(kind: str, upstream: str) -> str:
    """Why a call of a kind that is known and not metered is refused, and what to do about it."""
    return (
        f"calls of the kind `{kind}` are billed where no answer shows it, so they are not passed on. To have them sent"
        f" on and counted by call, set upstreams.{upstream}.doors.{kind} to pass_counted in the configuration"
    )


def _taken(choices: Mapping[Kind, Choice]) -> frozenset[str]:
    """The kinds of calls that are told by more than their path, and are taken though no answer bills them to us."""
    return frozenset(kind for kind in (Kind.BACKGROUND, Kind.SIGNED) if choices[kind] is Choice.PASS_COUNTED)


def _is_nearly_metered(method: str, path: str) -> bool:
    """Whether a lenient server could take a path for a metered one: such is never passed uncounted.

    A pattern such as `POST /v1/*` must not open `/v1/chat/completions;` beside the metered path.
    """
    return method == "POST" and dialect_for(_plain(path)) is not None


def _plain(path: str) -> str:
    return unquote(path).lower().partition(";")[0].rstrip("/")


def _hint(method: str, path: str) -> str:
    """What is probably wrong with a path that is nearly a metered one; it repeats nothing of the request."""
    plain = path.rstrip("/")
    if dialect_for(plain) is None:
        return ""
    if method != "POST":
        return "send POST: "
    if plain != path:
        return "the path ends in a slash too many: "
    if plain.startswith("/v1/v1/"):
        return "the base URL has /v1 once too often: OPENAI_BASE_URL ends in /v1, ANTHROPIC_BASE_URL ends before it: "
    if path.count("/") < 3 and not path.startswith("/v1/"):
        return "the base URL lacks /v1: OPENAI_BASE_URL ends in it: "
    return ""
