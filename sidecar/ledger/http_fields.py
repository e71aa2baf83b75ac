"""Reading what a request to the ledger's API says: bodies and parameters, field by field."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from sidecar.ledger.http_problems import RequestRefused
from sidecar.ledger.http_routes import Call
from sidecar.ledger.parts import Part
from sidecar.ledger.views import Page
from sidecar.providers.unfit_values import repeated_key

MAX_CURSOR_LENGTH: Final = 512
MAX_PAGE_ROWS: Final = 1000
DEFAULT_PAGE_ROWS: Final = 100
MAX_NUMBER: Final = 2**62

_T = TypeVar("_T")


def read_json(raw: bytes, kind: type[_T]) -> _T:
    """Read a body as exactly the fields of `kind`.

    Raises:
        RequestRefused: not JSON (`malformed_json`); an unknown, missing or mistyped field, one
            that is given twice, or a NUL in a text, which not every database can keep (`invalid_body`).
    """
    try:
        value = msgspec.json.decode(raw, type=kind)
        twice = repeated_key(raw)
    except msgspec.ValidationError as error:
        field, expected = _field_at_fault(str(error))
        raise RequestRefused("invalid_body", f"{field}: {expected}", problems={field: expected}) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise RequestRefused("malformed_json", "the body is not JSON in UTF-8") from None
    if twice is not None:  # one reader takes the first, another the last
        raise RequestRefused("invalid_body", f"{twice[:64]}: given twice", problems={twice[:64]: "given twice"})
    for name, part in msgspec.to_builtins(value).items():
        if _has_nul(part):
            raise RequestRefused("invalid_body", f"{name}: NUL", problems={name: "expected text without NUL"})
    return value


def _field_at_fault(message: str) -> tuple[str, str]:
    """The field that a decoder's message names, and what it expected there."""
    what, _, path = message.partition(" - at `$")
    if "unknown field `" in what:
        return what.split("`")[1], "not a field here"
    if "required field `" in what:
        return what.split("`")[1], "required"
    return path.rstrip("`").lstrip(".") or "body", what


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(part) for key, part in value.items())
    return isinstance(value, list | tuple) and any(map(_has_nul, value))


def read_query(raw: str, allowed: frozenset[str]) -> dict[str, str]:
    """Read a query of parameters that a route takes, each at most once.

    Raises:
        RequestRefused: `invalid_parameter`, naming it.
    """
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=bool(raw), errors="strict", max_num_fields=16)
    except ValueError:
        raise RequestRefused("invalid_parameter", "the query cannot be read") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            expected = f"expected some of: {', '.join(sorted(allowed))}" if allowed else "this path takes no parameters"
            raise RequestRefused("invalid_parameter", expected, problems={name[:64]: "not a parameter here"})
        if name in query or not value.isprintable() or len(value) > MAX_CURSOR_LENGTH:
            expected = f"expected once, at most {MAX_CURSOR_LENGTH} printable characters"
            raise RequestRefused("invalid_parameter", f"{name}: {expected}", problems={name: expected})
        query[name] = value
    return query


def read_number(call: Call, name: str, *, default: int, least: int, most: int) -> int:
    """A parameter that is a whole number.

    Raises:
        RequestRefused: `invalid_parameter`, naming it.
    """
    text = call.query.get(name)
    if text is None:
        return default
    digits = text.isascii() and text.isdigit() and len(text) <= 19
    if not digits or not least <= int(text) <= most:
        expected = f"expected a whole number from {least} to {most}"
        raise RequestRefused("invalid_parameter", f"{name}: {expected}", problems={name: expected})
    return int(text)


def read_limit(call: Call) -> int:
    """How many rows of a page are wanted."""
    return read_number(call, "limit", default=DEFAULT_PAGE_ROWS, least=1, most=MAX_PAGE_ROWS)


async def next_page(ask: Callable[[Part], Awaitable[Sequence[_T]]], place: Callable[[_T], str], call: Call) -> Page:
    """The page that is asked for of a list which the book gives in parts; `place` tells a row from all others."""
    limit = read_limit(call)
    rows = await ask(Part(read_cursor(call), limit + 1))
    return Page(tuple(rows[:limit]), place(rows[limit - 1]) if len(rows) > limit else "")


def page_of(rows: Sequence[object], key: str, call: Call) -> Page:
    """The page of a whole list that is asked for; `key` is the field by which a row is told from all others.

    Raises:
        RequestRefused: what the page before ended with is not there any more (`invalid_cursor`).
    """
    after, limit = read_cursor(call), read_limit(call)
    names: list[str] = [getattr(row, key) for row in rows]
    if after and after not in names:
        raise RequestRefused("invalid_cursor", "the list has changed; begin it again")
    first = names.index(after) + 1 if after else 0
    shown = tuple(rows[first : first + limit])
    return Page(shown, names[first + limit - 1] if first + limit < len(rows) else "")


def read_cursor(call: Call) -> str:
    """Where to go on; `` at the beginning."""
    return call.query.get("cursor", "")
