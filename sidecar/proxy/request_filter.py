"""What of a caller's head goes out to the provider.

Lines pass as the raw bytes that came in. Left behind are: what concerns one connection only, what
says who is spending (`Spend-*`, the `spend.*` members of `baggage`), what other proxies added,
cookies, what asks for another method or path, and any encoding that would keep the meter from
reading the answer. Where a key is injected, the caller's own never goes out; what looks like a
virtual key never does, in whatever line it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from sidecar.proxy.refusals import Header
from sidecar.proxy.request_head import (
    CREDENTIAL_HEADERS,
    KNOWN_NAME_BYTES_MAX,
    KNOWN_NAMES_MAX,
    PLAIN_CONNECTIONS,
    VIRTUAL_KEY_MARK,
    RequestHead,
)

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_REPLACED: Final = frozenset({b"host", b"content-length", b"accept-encoding", b"content-encoding"})
_OTHER_CALL: Final = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url"}
)
"""By these some servers take another method or path than the request line's, which alone was looked at here."""

_MASKS: Final = frozenset({b"x-goog-fieldmask"})
"""By these a provider leaves fields out of its answer, and its usage with them."""

_LEFT_BEHIND: Final = (
    frozenset({b"expect", b"cookie", b"forwarded", b"x-real-ip", b"http2-settings"}) | _OTHER_CALL | _MASKS
)
_LEFT_BEHIND_PREFIXES: Final = (b"spend-", b"proxy-", b"x-forwarded-")
_KEYS_IN_A_QUERY: Final = frozenset(
    {"key", "api_key", "apikey", "access_token", "token", "auth", "authorization", "x_api_key", "x_goog_api_key"}
)
"""Under these names some provider or gateway takes a key in the query (Gemini: `key`), hyphens read as underscores."""

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


# What becomes of a line; plain numbers, since an enum's member costs more than the rest of the loop.
_PASSED: Final = 1
_DROPPED: Final = 2
_CREDENTIAL: Final = 3
_BAGGAGE: Final = 4


_fates: dict[bytes, int] = {}


def outgoing_head(
    head: RequestHead,
    *,
    target: str,
    host: bytes,
    body_bytes: int,
    injected: bytes | None = None,
    varying: Sequence[Header] = (),
) -> bytes:
    """The head to send, up to and including its empty line.

    Args:
        head: the caller's, checked.
        target: raw path and query at the provider.
        host: for the Host line, with the port if it is not the scheme's own.
        body_bytes: length of the body that follows.
        injected: a whole header line with the key to use in place of the caller's, ending in CRLF.
        varying: lines set apart from the head, to be passed on (`known_heads`).
    """
    to = (target, host, injected)
    if head.sent is not None and head.sent[0] == to:
        lines = head.sent[1]
    else:
        lines = _lines(head, target, host, injected)
        head.sent = (to, lines)
    for header in varying:
        if VIRTUAL_KEY_MARK not in header[1]:
            lines += b"%b: %b\r\n" % header
    if body_bytes or head.method in _WITH_BODY:
        return lines + b"Accept-Encoding: identity\r\nContent-Length: %d\r\n\r\n" % body_bytes
    return lines + b"Accept-Encoding: identity\r\n\r\n"


def _lines(head: RequestHead, target: str, host: bytes, injected: bytes | None) -> bytes:
    """The request line, and what passes of the caller's lines."""
    if "?" in target:
        target = _without_keys(target, own_too=injected is not None)
    lines = [f"{head.method} {target} HTTP/1.1\r\nHost: ".encode(), host, b"\r\n"]
    connection = head.fields.get(b"connection")
    named = _named_by(connection) if connection not in PLAIN_CONNECTIONS else None
    for name, value in head.headers:
        fate = _fates.get(name) or _decide(name)
        if VIRTUAL_KEY_MARK in value or (named and name.lower() in named):
            continue
        if fate == _PASSED:
            lines.append(b"%b: %b\r\n" % (name, value))
        elif fate == _DROPPED:
            continue
        elif fate == _BAGGAGE:
            if kept := _foreign_baggage(value):
                lines.append(b"%b: %b\r\n" % (name, kept))
        elif injected is None:
            lines.append(b"%b: %b\r\n" % (name, value))
    if injected is not None:
        lines.append(injected)
    return b"".join(lines)


def _decide(name: bytes) -> int:
    lower = name.lower()
    if (
        VIRTUAL_KEY_MARK in lower
        or lower in HOP_BY_HOP
        or lower in _REPLACED
        or lower in _LEFT_BEHIND
        or lower.startswith(_LEFT_BEHIND_PREFIXES)
    ):
        fate = _DROPPED
    elif lower in CREDENTIAL_HEADERS:
        fate = _CREDENTIAL
    elif lower == b"baggage":
        fate = _BAGGAGE
    else:
        fate = _PASSED
    if len(name) <= KNOWN_NAME_BYTES_MAX and len(_fates) < KNOWN_NAMES_MAX:
        _fates[name] = fate
    return fate


def _named_by(connection: bytes | None) -> frozenset[bytes]:
    """Lower-case names that a Connection header declares to concern this connection only."""
    names = frozenset(part.strip().lower() for part in (connection or b"").split(b","))
    return names - {b"keep-alive", b"close", b""}


def _foreign_baggage(value: bytes) -> bytes:
    """The list members of a W3C `baggage` header that are not ours.

    Source: W3C Baggage, section 3.2 (members split by `,`, key before `=`), checked 2026-11.
    """
    members = (member.strip() for member in value.split(b","))
    return b",".join(member for member in members if member and not member.lower().startswith(b"spend."))


def _without_keys(target: str, *, own_too: bool) -> str:
    """The target without virtual keys in its query, and with `own_too` without any member that names a key."""
    path, _, query = target.partition("?")
    members = query.split("&")
    kept = [member for member in members if not _is_key(member, own_too=own_too)]
    if len(kept) == len(members):
        return target
    return f"{path}?{'&'.join(kept)}" if kept else path


def _is_key(member: str, *, own_too: bool) -> bool:
    if VIRTUAL_KEY_MARK.decode() in unquote(member):
        return True
    return own_too and unquote(member.partition("=")[0]).lower().replace("-", "_") in _KEYS_IN_A_QUERY
