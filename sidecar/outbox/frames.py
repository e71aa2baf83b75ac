"""Records as they stand on disk, and finding them again after damage.

A frame is magic (2 bytes) ‖ length (u32) ‖ CRC-32 (u32) ‖ payload, big-endian; the checksum covers
the length and the payload. Each frame says where it ends and that it is whole, so that damage in
the middle of a file loses the damaged records only: reading goes on at the next magic behind which
a whole frame stands. Zeros, as a file system leaves them behind a crash, are damage too.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"\xf5\xc1"
"""Two bytes that UTF-8 text, and so nothing that a provider or a caller wrote, contains."""

MAX_PAYLOAD_BYTES: Final = 1 << 20
"""A longer length is damage."""

_HEAD: Final = struct.Struct(">2sII")
_LENGTH: Final = struct.Struct(">I")
HEAD_BYTES: Final = _HEAD.size


class Span(NamedTuple):
    """Bytes `[start, end)` of what was read: a whole frame with its payload, or damage (None)."""

    start: int
    end: int
    payload: bytes | None


def frame(payload: bytes) -> bytes:
    """A payload as it goes to disk.

    Raises:
        ValueError: it is longer than MAX_PAYLOAD_BYTES.
    """
    length = len(payload)
    if length > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a record is at most {MAX_PAYLOAD_BYTES} bytes, not {length}")
    return _HEAD.pack(MAGIC, length, crc32(payload, crc32(_LENGTH.pack(length)))) + payload


def scan(data: bytes) -> list[Span]:
    """Cut bytes into frames and damage, in order and without gaps.

    A frame that is not whole at the end of the data is damage like any other: the caller knows
    whether more may follow.
    """
    spans: list[Span] = []
    at, end = 0, len(data)
    damaged_from = -1
    while at < end:
        payload = _payload_at(data, at)
        if payload is None:
            if damaged_from < 0:
                damaged_from = at
            following = data.find(MAGIC, at + 1)
            at = end if following < 0 else following
            continue
        if damaged_from >= 0:
            spans.append(Span(damaged_from, at, None))
            damaged_from = -1
        spans.append(Span(at, at + HEAD_BYTES + len(payload), payload))
        at += HEAD_BYTES + len(payload)
    if damaged_from >= 0:
        spans.append(Span(damaged_from, end, None))
    return spans


def _payload_at(data: bytes, at: int) -> bytes | None:
    """The payload of the frame that begins there; None if no whole one does."""
    if at + HEAD_BYTES > len(data):
        return None
    magic, length, checksum = _HEAD.unpack_from(data, at)
    start = at + HEAD_BYTES
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if crc32(payload, crc32(data[at + 2 : at + 6])) == checksum else None
