"""Amazon's binary event streams (`application/vnd.amazon.eventstream`), cut out of bytes that come in any pieces.

A message is: its length and its headers' length (4 bytes each, big-endian), a checksum of these eight
bytes, the headers, the payload, a checksum of all before it. A header is: the length of its name (1 byte),
the name, a type (1 byte), the value; values of the types 6 and 7 have their length (2 bytes) before them.
A stream whose lengths or checksum make no sense cannot be read on: where the next message begins is not
known any more.

Source: docs.aws.amazon.com "Amazon Transcribe: event stream encoding", boto/botocore `eventstream.py`,
checked 2026-11.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from sidecar.errors import WireFormatError
from sidecar.providers.event_stream import EVENT_BYTES_MAX, EventStream

PRELUDE_BYTES: Final = 12
MESSAGE_BYTES_MIN: Final = 16

MESSAGE_BYTES_MAX: Final = 24 * 2**20
"""The longest message that Amazon's own clients take."""

HEADERS_BYTES_MAX: Final = 128 * 2**10
"""The most that Amazon's own clients take."""

HEADERS_MAX: Final = 64
"""Headers of one message at most; three are ever sent."""

_PEER: Final = "the event stream"
_FIXED: Final[Mapping[int, int]] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a value by its type: true, false, byte, short, integer, long, instant, uuid."""

_BYTES_AND_TEXT: Final = frozenset({6, 7})


class Message(NamedTuple):
    """One message. `headers` has those with a value of text or bytes."""

    headers: Mapping[bytes, bytes]
    payload: bytes

    @property
    def name(self) -> bytes:
        """The kind of event; with `!` before it where the provider tells of a failure."""
        headers = self.headers
        if headers.get(b":message-type", b"event") == b"event":
            return headers.get(b":event-type", b"")
        return b"!" + (headers.get(b":exception-type") or headers.get(b":error-code") or b"")


def measure(prelude: bytes) -> int:
    """The length of the message that begins with these twelve bytes, of which one with fewer knows nothing.

    Raises:
        WireFormatError: no message begins so.
    """
    total, headers = int.from_bytes(prelude[:4], "big"), int.from_bytes(prelude[4:8], "big")
    if not MESSAGE_BYTES_MIN <= total <= MESSAGE_BYTES_MAX:
        raise WireFormatError(_PEER, "a message of an impossible length", offset=0)
    if headers > min(HEADERS_BYTES_MAX, total - MESSAGE_BYTES_MIN):
        raise WireFormatError(_PEER, "headers longer than their message", offset=4)
    if zlib.crc32(prelude[:8]) != int.from_bytes(prelude[8:12], "big"):
        raise WireFormatError(_PEER, "the checksum of a prelude is wrong", offset=8)
    return total


def read_message(raw: bytes) -> Message:
    """Read one whole message.

    Raises:
        WireFormatError: it is not one, or not whole, or not as it was sent.
    """
    if len(raw) < MESSAGE_BYTES_MIN or measure(raw[:PRELUDE_BYTES]) != len(raw):
        raise WireFormatError(_PEER, "not one whole message", offset=0)
    if zlib.crc32(memoryview(raw)[:-4]) != int.from_bytes(raw[-4:], "big"):
        raise WireFormatError(_PEER, "the checksum of a message is wrong", offset=len(raw) - 4)
    end = PRELUDE_BYTES + int.from_bytes(raw[4:8], "big")
    return Message(_headers(raw, end), raw[end:-4])


def _headers(raw: bytes, end: int) -> dict[bytes, bytes]:
    """The headers between the prelude and `end`."""
    found: dict[bytes, bytes] = {}
    at = PRELUDE_BYTES
    for _ in range(HEADERS_MAX):
        if at >= end:
            break
        name_end = at + 1 + raw[at]
        if name_end >= end:
            raise WireFormatError(_PEER, "a header without a value", offset=at)
        kind, start = raw[name_end], name_end + 1
        if kind in _BYTES_AND_TEXT:
            start += 2
            length = int.from_bytes(raw[start - 2 : start], "big")
            found[raw[at + 1 : name_end]] = raw[start : start + length]
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise WireFormatError(_PEER, "a header of an unknown type", offset=name_end)
        at = start + length
    if at != end:
        raise WireFormatError(_PEER, "headers that do not end where they should", offset=min(at, end))
    return found


def write_message(headers: Mapping[bytes, bytes], payload: bytes) -> bytes:
    """One message as it goes over the wire; for errors of our own within a stream, and for tests.

    Args:
        headers: by name, each a text: names up to 255 bytes, values up to 65,535.
        payload: what it carries.
    """
    written = b"".join(
        b"%c%b\x07%b%b" % (len(name), name, len(value).to_bytes(2, "big"), value) for name, value in headers.items()
    )
    total = MESSAGE_BYTES_MIN + len(written) + len(payload)
    lengths = total.to_bytes(4, "big") + len(written).to_bytes(4, "big")
    message = lengths + zlib.crc32(lengths).to_bytes(4, "big") + written + payload
    return message + zlib.crc32(message).to_bytes(4, "big")


class BinaryStream(EventStream):
    """An `EventStream` whose events are binary messages: an event's name is `Message.name`, its data the payload.

    A message longer than `max_bytes` that does not come in one piece is passed over. Where a prelude
    makes no sense, nothing more is read: it `is_skipping` until the end, and keeps nothing.
    """

    __slots__ = ("_ahead", "_broken")

    def __init__(self, max_bytes: int = EVENT_BYTES_MAX) -> None:
        super().__init__(max_bytes)
        self._ahead = 0  # bytes still to come of a message that is passed over
        self._broken = False

    def feed(self, piece: bytes) -> bytes:
        """The messages that `piece` completes, one after another; b"" if none."""
        if self._broken:
            self.offset += len(piece)
            return b""
        if self._ahead:
            passed = min(self._ahead, len(piece))
            self._ahead -= passed
            self.offset += passed
            self._skipping = self._ahead > 0
            piece = piece[passed:]
        rest = self._rest
        rest += piece
        end = self._whole_until()
        ready = bytes(memoryview(rest)[:end])
        del rest[:end]
        self.offset += end
        if self._skipping or self._broken:
            self.offset += len(rest)
            rest.clear()
        return ready

    def split(self, events: bytes) -> Iterator[tuple[int, bytes]]:
        """Each message of a run, with its offset in the run."""
        start = 0
        while start < len(events):
            end = start + int.from_bytes(events[start : start + 4], "big")
            yield start, events[start:end]
            start = max(end, start + 1)

    def halve(self, events: bytes) -> int:
        """0, for none: a run has few messages, and splitting it costs little."""
        del events
        return 0

    def read(self, event: bytes) -> tuple[bytes, bytes]:
        """A message's name and payload.

        Raises:
            WireFormatError: it is not as it was sent; then nothing of this stream can be believed.
        """
        message = read_message(event)
        return message.name, message.payload

    def rest(self) -> bytes:
        """b"": what is left of a message that is not whole tells nothing."""
        return b""

    def _whole_until(self) -> int:
        """How far the rest is whole messages."""
        rest, end = self._rest, 0
        while len(rest) - end >= PRELUDE_BYTES:
            try:
                length = measure(bytes(rest[end : end + PRELUDE_BYTES]))
            except WireFormatError:
                self._broken = self.skipped = self._skipping = True
                return end
            if len(rest) - end < length:
                if length > self._max_bytes:
                    self.skipped = self._skipping = True
                    self._ahead = length - (len(rest) - end)
                return end
            end += length
        return end
