"""A request's top-level JSON members, where each stands in the bytes, and strict readings of them.

The bytes go to the provider as they are, so our reading must be the provider's reading. Parsers
differ on a key that stands twice: one takes the first, one the last, and whoever can make us read
another `max_tokens` than the provider does spends without a limit. So a repeated key is refused,
exactly, not by a heuristic: the C parser gives the members' values, which are then walked along the
body. A body in which a key stands twice has more members than the parser gives and the walk fails.

Source: RFC 8259; behaviour of msgspec 0.21 (rejects NaN, trailing data, lone surrogates in what it
decodes; does not check UTF-8 in what it skips), checked 2026-11.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec

from sidecar.providers.dialect import BadRequest
from sidecar.providers.unfit_values import has_key_with_nul, has_number_out_of_range

MEMBERS_MAX: Final = 256
"""Top-level fields at most; the widest request API known has about 60."""

MODEL_CHARS_MAX: Final = 256

OUTPUT_LIMIT_MAX: Final = 2**31 - 1
"""Output tokens at most; what is larger is a mistake, and no model's limit is near."""

NAMES_REMEMBERED: Final = 512
"""Names of members, none of them long, whose written form is remembered; the one used longest ago goes first."""

NAME_SHOWN_MAX: Final = 64
"""Characters of a caller's own name that a message may repeat."""

UNFIT_BYTES_MIN: Final = len("1e309")
"""What is shorter is no number out of range, and holds none and no key with NUL."""

REPEAT_BYTES_MIN: Final = 8
"""Bytes of the shortest repeat that matters: `"url":0,`."""

_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_TEXT: Final = msgspec.json.Decoder(str)
_VALUES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = re.compile(rb'[\s,]*"([^"\\]*+(?:\\.[^"\\]*+)*+)"\s*:\s*')
_END: Final = re.compile(rb"\s*\}\s*\Z")
_OPEN: Final = re.compile(rb"\s*\{")
_WHOLE: Final = re.compile(rb"0|[1-9]\d{0,18}")
_DIGITS: Final = frozenset(b"0123456789")
_NOTHING: Final = frozenset({b"null", b"false"})
_OPENING: Final = frozenset(b"[{")
_USUAL: Final = frozenset({b'"user"', b'"assistant"', b'"system"', b'"developer"', b'"text"'})
"""What a message says of its role, or a part of its type, where the rest of it is a text."""

_CLOSING: Final = frozenset(b"]}")
_QUOTE: Final = ord('"')
_NO_REASONS: Final[Mapping[str, str]] = MappingProxyType({})
_READ_BY_PARTS: Final = frozenset({"messages", "system"})
"""What holds long texts and is read part by part by `read_objects`: not searched as a whole as well."""

_ESCAPED_WORD: Final = re.compile(rb"\\u00(?:3[0-9]|[4-7])")


CONTAINERS_MAX: Final = 200_000
"""Objects and lists in a body at most: each takes the parser some hundred bytes and those who wait their time.

Brackets in texts count too, which spares reading them; no context window holds so many.
"""

PAIRS_MAX: Final = 1_000_000
"""Keys in a body at most, counted by their colons."""

CONTAINERS_COUNTED_FROM_BYTES: Final = 2 * CONTAINERS_MAX
"""A shorter body cannot hold more."""

REASONS_MAX: Final = 16
"""So many reasons why a call has no bound are told; one is enough to refuse it."""


class Reasons(list[str]):
    """Why a call has no bound: each reason once, REASONS_MAX at most."""

    def append(self, reason: str) -> None:
        """Add one."""
        if len(self) < REASONS_MAX and reason not in self:
            super().append(reason)


class Member(msgspec.Struct, frozen=True, gc=False):
    """One value as its bytes, and where they stand in the body: `body[start:end]`."""

    raw: bytes
    start: int
    end: int


Members = dict[str, Member]


def read_object(body: bytes, *, param: str = "") -> Members:
    """The members of the JSON object that `body` is, in order.

    `param` names the object in messages when it is not the whole body.

    Raises:
        BadRequest: empty, not UTF-8 (a byte order mark counts), not one JSON object, a key twice,
            more than MEMBERS_MAX members, CONTAINERS_MAX objects and lists or PAIRS_MAX keys within,
            a key with NUL or a number that no float can hold, at whatever depth (in texts' own parts,
            `read_objects` looks). Nothing else, whatever the bytes; the message never
            repeats them.
    """
    what = f"`{param}`" if param else "The request body"
    if not body.strip():
        raise BadRequest(f"{what} is empty.", param=param, code="invalid_json")
    _refuse_too_many_values(body, what, param)
    try:
        if not body.isascii():
            body.decode()
        values = _OBJECT.decode(body)
    except UnicodeDecodeError as exc:
        raise BadRequest(f"{what} is not valid UTF-8 at byte {exc.start}.", param=param, code="invalid_json") from None
    except (ValueError, RecursionError) as exc:
        reason = "is nested too deeply" if isinstance(exc, RecursionError) else "is not one valid JSON object"
        raise BadRequest(f"{what} {reason}.", param=param, code="invalid_json") from None
    if len(values) > MEMBERS_MAX:
        raise BadRequest(f"{what} has more than {MEMBERS_MAX} fields.", param=param, code="invalid_json")
    return _placed(body, values) or _walk(body, values, what, param)


def refuse_unfit(raw: bytes, name: str) -> None:
    """Refuse a value within which a key has NUL or a number is out of range; the value of `name`.

    Raises:
        BadRequest: it is so.
    """
    if len(raw) < UNFIT_BYTES_MIN:
        return
    if has_key_with_nul(raw):
        raise BadRequest(f"`{shown(name)}` has a field with NUL in its name.", param=shown(name), code="invalid_json")
    if has_number_out_of_range(raw):
        raise BadRequest(f"`{shown(name)}` holds a number out of range.", param=shown(name), code="invalid_json")


def _placed(body: bytes, values: dict[str, msgspec.Raw]) -> Members | None:
    """The members of a body without a byte to spare, as most clients write it; None for any other.

    Names, values, and the least that JSON needs around them make up its whole length: so no key stands
    twice, none is escaped, and each value's place is the sum of what is before it.
    """
    members: Members = {}
    at = 1
    for name, value in values.items():
        raw = bytes(value)
        start = at + len(name) + 3  # two quotes and a colon
        at = start + len(raw)
        last = raw[-1]
        if last in _DIGITS and (b"e" in raw or b"E" in raw or len(raw) > 308) and math.isinf(float(raw)):
            return None  # the walk says what is wrong with it
        if last in _CLOSING and name not in _READ_BY_PARTS:
            refuse_unfit(raw, name)
        members[name] = Member(raw, start, at)
        at += 1  # a comma, or the last brace
    return members if at == len(body) else None


def _refuse_too_many_values(body: bytes, what: str, param: str) -> None:
    """Counted in the bytes before anything is decoded, as decoding is what would take the time and the memory."""
    if len(body) <= CONTAINERS_COUNTED_FROM_BYTES:
        return
    if body.count(b"{") + body.count(b"[") > CONTAINERS_MAX:
        told = f"more than {CONTAINERS_MAX} objects and lists"
    elif body.count(b":") > PAIRS_MAX:
        told = f"more than {PAIRS_MAX} keys"
    else:
        return
    raise BadRequest(f"{what} has {told} (brackets and colons in texts count).", param=param, code="invalid_json")


def _walk(body: bytes, values: dict[str, msgspec.Raw], what: str, param: str) -> Members:
    """Find each value in the body, in order.

    The body is known to be JSON. Each step passes one key, compares the whole value behind it with
    the next that the parser gave, and goes on behind that: by induction an exact reading of the
    first len(values) members. A key that stands twice is one member to the parser, so then a value
    differs or the object does not end there.
    """
    members: Members = {}
    if "\0" in "".join(values):
        raise BadRequest(f"{what} has a field with NUL in its name.", param=param, code="invalid_json")
    opened = _OPEN.match(body)
    at = opened.end() if opened else 0
    for name, value in values.items():
        raw = bytes(value)
        start = _behind_key(body, at, _written_key(name)) if len(name) <= NAME_SHOWN_MAX else -1
        if start < 0 or not body.startswith(raw, start):
            key = _KEY.match(body, at)
            if key is None or not body.startswith(raw, key.end()):
                raise _repeated(what, param, key)
            start = key.end()
        at = start + len(raw)
        if raw[-1] in _DIGITS and (b"e" in raw or b"E" in raw or len(raw) > 308) and math.isinf(float(raw)):
            raise BadRequest(f"`{shown(name)}` is out of range.", param=shown(name), code="invalid_json")
        if raw[-1] in _CLOSING and name not in _READ_BY_PARTS:
            refuse_unfit(raw, name)
        members[name] = Member(raw, start, at)
    if not _END.match(body, at):
        raise _repeated(what, param, _KEY.match(body, at))
    return members


@lru_cache(maxsize=NAMES_REMEMBERED)
def _written_key(name: str) -> bytes:
    """A member's key and colon as nearly every serialiser writes them."""
    return b'"%b":' % name.encode(errors="surrogatepass")


def _behind_key(body: bytes, at: int, key: bytes) -> int:
    """Where the value begins if `key` stands here, with one space at most behind the comma and the colon; else -1."""
    if body.startswith(b",", at):
        at += 1
        if body.startswith(b" ", at):
            at += 1
    if not body.startswith(key, at):
        return -1
    at += len(key)
    return at + 1 if body.startswith(b" ", at) else at


def read_objects(
    raw: bytes, *, param: str, usual: tuple[str, str] = ("", ""), read_on: Container[str] = ()
) -> list[dict[str, msgspec.Raw]]:
    """The objects that the JSON list `raw` holds; a key that stands twice in one of them is refused.

    `usual`: most objects have these two members alone, a word and a text; the text is the caller's to look at.
    `read_on`: of these members the caller reads the lists and objects as well, so they are not searched here.

    Nearly always the lengths tell that there is none, which costs next to nothing: beside its names and
    values an object has few bytes, and a repeated key would have to stand in them. Only an object with
    REPEAT_BYTES_MIN to spare is walked. So a repeat whose name has a letter or two may pass; no key that
    decides what a call can cost is so short.

    Raises:
        BadRequest: a key twice (`duplicate_field`), a key with NUL, or a number that no float can hold;
            `param` names the list.
        ValueError: not a list of objects.
        RecursionError: nested too deeply.
    """
    objects = _OBJECTS.decode(raw)
    least = [_least_bytes(found) for found in objects]
    if len(raw) - sum(least) - len(least) - 1 >= REPEAT_BYTES_MIN:
        for bound, written in zip(least, _VALUES.decode(raw), strict=True):
            if len(written) - bound >= REPEAT_BYTES_MIN:
                read_object(bytes(written), param=param)
    label, text = usual
    for found in objects:
        if len(found) != 2 or text not in found or bytes(found.get(label, b"")) not in _USUAL:
            _refuse_unfit_parts(found, param, read_on)
    return objects


def _refuse_unfit_parts(found: dict[str, msgspec.Raw], param: str, read_on: Container[str]) -> None:
    """As for the whole body, in one of its parts; its texts are passed over."""
    if "\0" in "".join(found):
        raise BadRequest(f"`{shown(param)}` has a field with NUL in its name.", param=param, code="invalid_json")
    for name, value in found.items():
        if len(value) < UNFIT_BYTES_MIN or (first := memoryview(value)[0]) == _QUOTE:
            continue
        if first not in _OPENING or name not in read_on:
            refuse_unfit(bytes(value), param)


def read_inner(raw: bytes, *, param: str) -> dict[str, bytes]:
    """The members of an object within the body, {} where `raw` is none.

    Raises:
        BadRequest: as `read_object` does.
    """
    if not raw.startswith(b"{"):
        return {}
    return {name: member.raw for name, member in read_object(raw, param=param).items()}


def _least_bytes(found: dict[str, msgspec.Raw]) -> int:
    """What an object with these members has at least, written without spaces and escapes in its keys."""
    size = 1
    for name, value in found.items():
        size += len(name) + len(value) + 4  # two quotes, a colon, and a comma or the last brace
    return size


def _repeated(what: str, param: str, key: re.Match[bytes] | None) -> BadRequest:
    name = shown(_name_of(key[1])) if key else ""
    return BadRequest(f"{what} has a field twice: {name}.", param=param or name, code="duplicate_field")


def _name_of(quoted: bytes) -> str:
    """A key from what stands between its quotes."""
    try:
        return msgspec.json.decode(b'"' + quoted + b'"', type=str) if b"\\" in quoted else quoted.decode()
    except ValueError:
        return ""


def shown(name: str) -> str:
    """A caller's own name, fit for a message: printable, NAME_SHOWN_MAX characters at most."""
    return "".join(c if c.isprintable() else "?" for c in name[:NAME_SHOWN_MAX])


def not_known(name: str, within: str = "field ") -> str:
    """Why a call has no bound where a caller's own name is none that we know: what it asks for may cost anything."""
    return f"{within}{shown(name)}: not known, so its cost is not either"


def unknown_fields(members: Members, known: Container[str], reasons: Mapping[str, str] = _NO_REASONS) -> list[str]:
    """Why a call has no bound, by each field that asks for something and is not among the `known`.

    `reasons` says it of some in their own words.
    """
    return [
        reasons.get(name, not_known(name))
        for name, member in members.items()
        if name not in known and says_something(member)
    ]


def says_something(member: Member | None) -> bool:
    """Whether a field is there and asks for anything: only null and false ask for nothing.

    What is empty may ask: `web_search_options: {}` switches the search on, with its defaults.
    """
    return member is not None and member.raw not in _NOTHING


def lists_nothing(member: Member) -> bool:
    """Whether the value is an empty list: for a field that is documented as a list, it then asks for nothing."""
    return member.raw.startswith(b"[") and not member.raw.strip(b"[] \t\r\n")


def may_hide_words(body: bytes) -> bool:
    """Whether an ASCII letter, digit or underscore stands escaped in the body: a search for a word could miss it.

    No common serialiser writes those so; escaped quotes, `<`, `>`, `&` and accented letters do not count.
    """
    return _ESCAPED_WORD.search(body) is not None


def read_model(members: Members) -> str:
    """The model's name, as written.

    Raises:
        BadRequest: missing, not a string, empty, or longer than MODEL_CHARS_MAX.
    """
    written = members.get("model")
    model = None if written is None else text_of(written.raw)
    if model is None or not 0 < len(model) <= MODEL_CHARS_MAX:
        raise BadRequest(f"`model` must be a string of 1 to {MODEL_CHARS_MAX} characters.", param="model")
    return model


def read_flag(members: Members, name: str) -> bool:
    """A field that is true or false; absent and null are false.

    Raises:
        BadRequest: anything else, also "true" and 1.
    """
    raw = members[name].raw if name in members else b"false"
    if raw not in (b"true", b"false", b"null"):
        raise BadRequest(f"`{name}` must be true or false.", param=name)
    return raw == b"true"


def read_word(members: Members, name: str) -> str | None:
    """A short string; None where absent or null.

    Raises:
        BadRequest: not a string, or longer than NAME_SHOWN_MAX.
    """
    if name not in members or members[name].raw == b"null":
        return None
    word = text_of(members[name].raw)
    if word is None or len(word) > NAME_SHOWN_MAX:
        raise BadRequest(f"`{name}` must be a string of at most {NAME_SHOWN_MAX} characters.", param=name)
    return word


def read_whole(members: Members, name: str, *, least: int, most: int) -> int | None:
    """A whole number written as one (not 5.0, 1e3, -0, "5" or true); None where absent or null.

    Raises:
        BadRequest: not so, or outside `least` … `most`.
    """
    if name not in members or members[name].raw == b"null":
        return None
    raw = members[name].raw
    value = int(raw) if _WHOLE.fullmatch(raw) else None
    if value is None or not least <= value <= most:
        raise BadRequest(f"`{name}` must be a whole number from {least} to {most}.", param=name)
    return value


def is_text(raw: msgspec.Raw) -> bool:
    """Whether a value that was read is a string."""
    return memoryview(raw)[0] == _QUOTE


def text_of(raw: bytes | msgspec.Raw | None) -> str | None:
    """A JSON string, decoded; None for anything else, and where there is nothing."""
    if raw is None:
        return None
    try:
        return _TEXT.decode(raw)
    except (ValueError, RecursionError):
        return None


def tools_in(tools: Member | None, unbounded: Reasons) -> list[dict[str, msgspec.Raw]]:
    """The tools that a request lists, each by its members; none, and a reason, where they are of an unknown shape.

    Raises:
        BadRequest: a key stands twice in one.
    """
    if tools is None or not says_something(tools):
        return []
    try:
        return read_objects(tools.raw, param="tools")
    except BadRequest:
        raise
    except (ValueError, RecursionError):
        unbounded.append("tools of an unknown shape")
        return []
