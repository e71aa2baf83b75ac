"""The head of a provider's answer, and how its body is framed anew for the caller.

Head lines pass as raw bytes, the body's framing never does: it is decoded on one side and written
on the other, so that nothing a lenient reader might take in two ways gets through. Whatever does
not make sense is an error, and then the caller gets no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from sidecar.errors import WireFormatError
from sidecar.proxy.refusals import Header
from sidecar.proxy.request_filter import HOP_BY_HOP
from sidecar.proxy.request_head import KNOWN_NAME_BYTES_MAX, KNOWN_NAMES_MAX

PEER: Final = "provider"

_NOT_RELAYED: Final = HOP_BY_HOP | {b"content-length", b"alt-svc"}
_NOT_RELAYED_PREFIXES: Final = (b"spend-", b"proxy-", b"access-control-")
_PLAIN_CONNECTIONS: Final = frozenset({b"close", b"keep-alive", b"Close", b"Keep-Alive"})
_READ: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"content-type", b"content-encoding"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})

_SAFE: Final = frozenset({"GET", "HEAD"})
_POINTERS: Final = frozenset({b"location", b"content-location", b"refresh", b"link"})


class Framing(Enum):
    """How the caller learns where the body ends."""

    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()  # by the end of the connection; HTTP/1.0 only
    NONE = auto()  # there is no body


class AnswerHead(msgspec.Struct, frozen=True, gc=False):
    """A provider's answer head.

    `lines` are the status line and the headers to pass on, without framing and without the empty
    line. `length` is the body's length where it was declared. With `until_close` only the end of
    the connection ends the body.
    """

    status: int
    lines: bytes
    content_type: str
    content_encoding: str
    length: int | None
    has_body: bool
    until_close: bool


_relayed: dict[bytes, tuple[bytes | None, bool]] = {}
"""By name as sent: the lower-case name if we read the value, and whether the line is passed on."""


def read_answer_head(status: int, reason: bytes, version: str, headers: Sequence[Header], *, method: str) -> AnswerHead:
    """Read a final answer's head.

    Args:
        status: as parsed.
        reason: the reason phrase, may be empty.
        version: "1.1" or "1.0".
        headers: in order; names are tokens, values without CR, LF and NUL (the parser's work).
        method: of the request, since HEAD has no body.

    Raises:
        WireFormatError: a status, version or framing that HTTP/1.1 does not have.
    """
    if not 200 <= status <= 599 or version not in {"1.1", "1.0"}:
        raise WireFormatError(PEER, f"status {status} in HTTP/{version}")
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    read: dict[bytes, bytes] = {}
    for header in headers:
        lower, passed = _relayed.get(header[0]) or _decide(header[0])
        if passed:
            lines.append(b"%b: %b\r\n" % header)
        if lower is not None:
            read[lower] = header[1] if lower not in read else _joined(lower, read[lower], header[1])
    connection = read.get(b"connection")
    if connection is not None and connection not in _PLAIN_CONNECTIONS:
        lines = _without_named(lines, connection)
    if 300 <= status < 400 and method not in _SAFE:
        lines = _without_pointers(lines)

    has_body = method != "HEAD" and status not in {204, 304}
    length = _declared_length(read)
    coding = read.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version == "1.0" or length is not None):
        raise WireFormatError(PEER, "a transfer coding other than chunked")
    return AnswerHead(
        status,
        b"".join(lines),
        read.get(b"content-type", b"").decode("latin-1"),
        read.get(b"content-encoding", b"").decode("latin-1"),
        length,
        has_body,
        until_close=has_body and coding is None and length is None,
    )


def choose_framing(head: AnswerHead, *, http_1_0: bool, keeps_length: bool) -> Framing:
    """How to frame the body for the caller; `keeps_length` says that it passes unshortened."""
    if not head.has_body:
        return Framing.NONE
    if head.length is not None and keeps_length:
        return Framing.LENGTH
    return Framing.CLOSE if http_1_0 else Framing.CHUNKED


def framing_lines(head: AnswerHead, framing: Framing, length: int | None, *, keep_alive: bool) -> bytes:
    """The header lines that frame the body, with the empty line that ends the head.

    A HEAD's length is passed on, since it is what the client asked for; with 204 and 304 a length
    would make a lenient client wait for a body.
    """
    lines = b"" if keep_alive and framing is not Framing.CLOSE else b"Connection: close\r\n"
    if framing is Framing.CHUNKED:
        return lines + b"Transfer-Encoding: chunked\r\n\r\n"
    if length is not None and (framing is Framing.LENGTH or head.status not in {204, 304}):
        return lines + b"Content-Length: %d\r\n\r\n" % length
    return lines + b"\r\n"


def _declared_length(read: dict[bytes, bytes]) -> int | None:
    declared = read.get(b"content-length")
    if declared is None:
        return None
    if not declared.isdigit():
        raise WireFormatError(PEER, "content-length is not a number")
    return int(declared)


def _joined(lower: bytes, before: bytes, value: bytes) -> bytes:
    """What a header that is given twice says: it is a list (RFC 9110, 5.3), as codings are.

    Two media types make no list, but they tell no reader here anything, so that the answer, for which the provider
    has billed, passes with both as they are. Two framings are refused: readers could take either.
    """
    if lower in _FRAMING:
        raise WireFormatError(PEER, f"{lower.decode()} given twice")
    return before if lower == b"content-type" else before + b", " + value


def _decide(name: bytes) -> tuple[bytes | None, bool]:
    lower = name.lower()
    passed = lower not in _NOT_RELAYED and not lower.startswith(_NOT_RELAYED_PREFIXES)
    decision = (lower if lower in _READ else None), passed
    if len(name) <= KNOWN_NAME_BYTES_MAX and len(_relayed) < KNOWN_NAMES_MAX:
        _relayed[name] = decision
    return decision


def _without_named(lines: list[bytes], connection: bytes) -> list[bytes]:
    """The lines less those that the Connection header declares to concern one connection only."""
    named = {part.strip().lower() for part in connection.split(b",")} - {b"keep-alive", b"close", b""}
    if not named:
        return lines
    return lines[:1] + [line for line in lines[1:] if line.partition(b":")[0].lower() not in named]


def _without_pointers(lines: list[bytes]) -> list[bytes]:
    """The lines less those that say where to send the request instead.

    A client that followed would take its prompt past the meter, and its key to a host that nobody chose.
    """
    return lines[:1] + [line for line in lines[1:] if line.partition(b":")[0].lower() not in _POINTERS]
