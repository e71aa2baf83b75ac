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
from typing import Any, Final

import msgspec

from sidecar.providers.dialect import BadRequest

MEMBERS_MAX: Final = 256
"""Top-level fields at most; the widest request API known has about 60."""

MODEL_CHARS_MAX: Final = 256

OUTPUT_LIMIT_MAX: Final = 2**31 - 1
"""Output tokens at most; what is larger is a mistake, and no model's limit is near."""

NAME_SHOWN_MAX: Final = 64
"""Characters of a caller's own name that a message may repeat."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = re.compile(rb'[\s,]*"([^"\\]*+(?:\\.[^"\\]*+)*+)"\s*:\s*')
_END: Final = re.compile(rb"\s*\}\s*\Z")
_OPEN: Final = re.compile(rb"\s*\{")
_WHOLE: Final = re.compile(rb"-?(?:0|[1-9]\d{0,18})")
_EMPTY: Final = frozenset({b"null", b"false", b"[]", b"{}", b'""', b"0"})
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]")


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
            more than MEMBERS_MAX members, a number that no float can hold. Nothing else, whatever
            the bytes; the message never repeats them.
    """
    what = f"`{param}`" if param else "The request body"
    if not body.strip():
        raise BadRequest(f"{what} is empty.", param=param, code="invalid_json")
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
    return _walk(body, values, what, param)


def _walk(body: bytes, values: dict[str, msgspec.Raw], what: str, param: str) -> Members:
    """Find each value in the body, in order.

    The body is known to be JSON. Each step passes one key, compares the whole value behind it with
    the next that the parser gave, and goes on behind that: by induction an exact reading of the
    first len(values) members. A key that stands twice is one member to the parser, so then a value
    differs or the object does not end there.
    """
    members: Members = {}
    opened = _OPEN.match(body)
    at = opened.end() if opened else 0
    for name, value in values.items():
        raw = bytes(value)
        key = _KEY.match(body, at)
        if key is None or not body.startswith(raw, key.end()):
            raise _repeated(what, param, key)
        start = key.end()
        at = start + len(raw)
        if 0x30 <= raw[-1] <= 0x39 and (b"e" in raw or b"E" in raw) and math.isinf(float(raw)):
            raise BadRequest(f"`{shown(name)}` is out of range.", param=shown(name), code="invalid_json")
        members[name] = Member(raw, start, at)
    if not _END.match(body, at):
        raise _repeated(what, param, _KEY.match(body, at))
    return members


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


def says_something(member: Member | None) -> bool:
    """Whether a field is there and asks for anything: null, false, 0 and what is empty ask for nothing."""
    return member is not None and member.raw not in _EMPTY


def may_hide_words(body: bytes) -> bool:
    """Whether an ASCII letter stands escaped in the body, so that a search for a word could miss it.

    No common serialiser writes letters so; escaped quotes, `<`, `>`, `&` and accented letters do not count.
    """
    return _ESCAPED_LETTER.search(body) is not None


def read_model(members: Members) -> str:
    """The model's name, as written.

    Raises:
        BadRequest: missing, not a string, empty, or longer than MODEL_CHARS_MAX.
    """
    model = decoded(members.get("model"))
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_CHARS_MAX:
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
    word = decoded(members[name])
    if not isinstance(word, str) or len(word) > NAME_SHOWN_MAX:
        raise BadRequest(f"`{name}` must be a string of at most {NAME_SHOWN_MAX} characters.", param=name)
    return word


def read_whole(members: Members, name: str, *, least: int, most: int) -> int | None:
    """A whole number written as one (not 5.0, 1e3, "5" or true); None where absent or null.

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


def decoded(member: Member | None) -> Any:
    """A member's value, decoded; None where absent, and where the decoder cannot hold it."""
    if member is None:
        return None
    try:
        return msgspec.json.decode(member.raw)
    except (ValueError, RecursionError):
        return None
