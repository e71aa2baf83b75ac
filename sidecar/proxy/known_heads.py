"""Heads that came before: an application sends the same lines with every call, and they read the same each time.

What differs from call to call (the body's length, a trace's ids) is set apart first. The rest is looked
up whole, byte for byte; only one that is new is read and checked by `read_head`.

A connection that brings the very bytes of its last head again, but for the digits of the body's length,
need not have them parsed at all (`body_behind`): a parser would find the same in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.proxy.refusals import Header, RefusalReason, Refused
from sidecar.proxy.request_head import PLAIN_CONNECTIONS, RequestHead, read_head

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage

HEADS_MAX: Final = 512
"""Heads remembered; all are forgotten at once when there would be more."""

HEAD_BYTES_MAX: Final = 4096
"""A longer one is read anew each time: with those remembered, 2 MiB at most are kept."""

_LENGTHS: Final = frozenset({b"content-length", b"Content-Length"})
_VARYING: Final = _LENGTHS | {
    b"traceparent", b"Traceparent", b"tracestate", b"Tracestate", b"x-request-id", b"X-Request-Id", b"X-Request-ID",
    b"x-stainless-retry-count", b"X-Stainless-Retry-Count",
}  # fmt: skip
"""In the spellings that clients use. They are passed on as they came, and nothing here reads them but the length."""

_LENGTH_LINE: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([1-9][0-9]{0,7})(?=\r\n)")
_LENGTH_DIGITS_MAX: Final = 8
_ZERO: Final = ord("0")

_Key = tuple[str, str, tuple[int, int], tuple[Header, ...]]


class HeadRead(NamedTuple):
    """A checked head, which others may share; `length` as declared, None if it was not; and the lines set apart."""

    head: RequestHead
    length: int | None
    varying: tuple[Header, ...]


class KnownHeads:
    """Reads heads; `hosts` are the names under which we may be called.

    A head with a virtual key is remembered only if `knows_key`: what is guessed drives out nothing, and
    whether a key is good is asked each time all the same.
    """

    def __init__(self, hosts: frozenset[bytes], knows_key: Callable[[bytes], bool] | None = None) -> None:
        self._hosts = hosts
        self._knows_key = knows_key
        self._known: dict[_Key, RequestHead] = {}

    def read(self, message: RawRequestMessage, raw: bytes = b"") -> HeadRead:
        """Check a head, or find that it was checked before.

        `raw`: it as it is written, if it is plain (`plain_head_bytes`), else nothing: one that came before is
        known by that from now on.

        Raises:
            Refused: as `read_head`.
        """
        length: int | None = None
        stable: list[Header] = []
        varying: list[Header] = []
        for header in message.raw_headers:
            name = header[0]
            if name not in _VARYING:
                stable.append(header)
            elif name in _LENGTHS:
                length = int(header[1])
            elif header[1].isascii():
                varying.append(header)
            else:
                raise Refused(RefusalReason.MALFORMED, "a header's value has bytes beyond ASCII", closes=True)
        key = (message.method, message.path, message.version, tuple(stable))
        head = self._known.get(key)
        if head is None:
            return self._read(message, key, length, tuple(varying))
        if raw and head.written is None and not (varying or message.should_close or head.http_1_0):
            head.written = written_in(raw)
        return HeadRead(head, length, tuple(varying))

    def _read(self, message: RawRequestMessage, key: _Key, length: int | None, varying: tuple[Header, ...]) -> HeadRead:
        method, target, version, stable = key
        whole = read_head(method, target, version, message.raw_headers, hosts=self._hosts)
        declared = whole.fields.get(b"content-length")
        if length is None and declared is not None:  # in a spelling that is not set apart
            return HeadRead(whole, int(declared), ())
        names_lines = whole.fields.get(b"connection") not in PLAIN_CONNECTIONS  # perhaps one that is set apart
        if names_lines or method != "POST":
            return HeadRead(whole, length, ())
        fields = {name: value for name, value in whole.fields.items() if name != b"content-length"}
        head = RequestHead(method, target, stable, fields, http_1_0=whole.http_1_0)
        if head.key is not None and not (self._knows_key is not None and self._knows_key(head.key)):
            return HeadRead(head, length, varying)
        if sum(len(name) + len(value) for name, value in stable) + len(target) <= HEAD_BYTES_MAX:
            if len(self._known) >= HEADS_MAX:
                self._known.clear()
            self._known[key] = head
        return HeadRead(head, length, varying)


def plain_head_bytes(data: bytes) -> int:
    """How long the head is that these bytes begin with; 0 unless every parser would see it end there."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or end > HEAD_BYTES_MAX or not data.startswith(b"POST "):
        return 0
    lines = data.count(b"\r\n", 0, end)
    return end + 4 if data.count(b"\n", 0, end) == lines == data.count(b"\r", 0, end) else 0


def written_in(head: bytes) -> tuple[bytes, bytes] | None:
    """A plain head as it is written: what stands before the digits of its length, and behind.

    None where its length is not written in the one way that we look for.
    """
    lengths = list(_LENGTH_LINE.finditer(head))
    if len(lengths) != 1:
        return None
    begins, ends = lengths[0].span(1)
    return head[:begins], head[ends:]


def body_behind(written: tuple[bytes, bytes], data: bytes) -> bytes | None:
    """The body, if a read is that head with another length and the whole body; else None: let it be parsed."""
    before, behind = written
    if not data.startswith(before):
        return None
    begins = len(before)
    ends = data.find(b"\r", begins, begins + _LENGTH_DIGITS_MAX + 1)
    digits = data[begins:ends]
    if ends < 0 or not digits.isdigit() or digits[0] == _ZERO or not data.startswith(behind, ends):
        return None
    body = data[ends + len(behind) :]
    return body if len(body) == int(digits) else None
