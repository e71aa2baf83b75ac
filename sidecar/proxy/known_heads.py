"""Heads that came before: an application sends the same lines with every call, and they read the same each time.

What differs from call to call (the body's length, a trace's ids) is set apart first. The rest is looked
up whole, byte for byte; only one that is new is read and checked by `read_head`.
"""

from __future__ import annotations

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

    def read(self, message: RawRequestMessage) -> HeadRead:
        """Check a head, or find that it was checked before.

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
