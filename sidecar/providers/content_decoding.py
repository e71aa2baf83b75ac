"""Reading a compressed answer without touching it.

The caller gets the provider's bytes as they were sent; the meter reads a copy, inflated piece by
piece. What comes out is bounded in all, so that a small answer cannot be made to cost much time.

Source: RFC 9110 8.4.1 and RFC 1952 (several gzip members may follow each other); measured:
Anthropic flushes its gzip stream after every event, checked 2026-11.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

DECODED_BYTES_MAX: Final = 32 * 2**20
"""Decoded bytes of one answer at most; the longest stream recorded has 1.6 MB."""

DECODED_PIECE_MAX: Final = 256 * 1024
"""Decoded bytes given at a time."""

GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_READABLE: Final = {"gzip": _GZIP_BITS, "x-gzip": _GZIP_BITS, "deflate": zlib.MAX_WBITS}


def coding_of(content_encoding: str) -> str:
    """The one coding that a Content-Encoding names: `` for plain bytes, `unknown` for what we cannot read."""
    codings = [coding for part in content_encoding.lower().split(",") if (coding := part.strip()) != "identity"]
    codings = [coding for coding in codings if coding]
    if not codings:
        return ""
    return codings[0] if len(codings) == 1 and codings[0] in _READABLE else "unknown"


class Inflater:
    """Decodes one answer as it comes. After `broken` is true it gives nothing any more.

    Deflate is read in both its meanings, with a zlib header and without.
    """

    __slots__ = ("_given", "_head", "_inflate", "_wbits", "broken")

    def __init__(self, coding: str) -> None:
        self.broken = False
        self._wbits = _READABLE[coding]
        self._inflate = zlib.decompressobj(self._wbits)
        self._head: bytes | None = b"" if coding == "deflate" else None
        self._given = 0

    @property
    def is_gzip(self) -> bool:
        """Whether it reads gzip, whose first byte is always the same."""
        return self._wbits == _GZIP_BITS

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The bytes that `piece` decodes to, in pieces of DECODED_PIECE_MAX at most."""
        if self._head is not None:
            piece = self._after_head(piece)
        more = bool(piece)
        while more and not self.broken:
            out, piece = self._step(piece)
            more = bool(piece) or len(out) == DECODED_PIECE_MAX
            self._given += len(out)
            if self._given > DECODED_BYTES_MAX:
                self.broken = True
            elif out:
                yield out

    def _after_head(self, piece: bytes) -> bytes:
        """Wait for two bytes of a deflate stream: they tell whether it has a zlib header."""
        head = (self._head or b"") + piece
        if len(head) < 2:
            self._head = head
            return b""
        self._head = None
        if head[0] & 0x0F != 8 or (head[0] << 8 | head[1]) % 31:
            self._wbits = -zlib.MAX_WBITS
            self._inflate = zlib.decompressobj(self._wbits)
        return head

    def _step(self, piece: bytes) -> tuple[bytes, bytes]:
        """Some decoded bytes, and what of the piece is still to be decoded."""
        if self._inflate.eof:  # a further gzip member, or padding, which is not read
            if not piece.startswith(GZIP_MAGIC[:1]):
                return b"", b""
            self._inflate = zlib.decompressobj(self._wbits)
        try:
            out = self._inflate.decompress(piece, DECODED_PIECE_MAX)
        except zlib.error:
            self.broken = True
            return b"", b""
        return out, self._inflate.unused_data or self._inflate.unconsumed_tail
