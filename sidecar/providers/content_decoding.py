"""Reading a compressed answer without touching it.

The caller gets the provider's bytes as they were sent; the meter reads a copy, decoded piece by
piece. What comes out is bounded in all, and so is what a decoder keeps, so that a small answer cannot be
made to cost much. A provider is asked for plain bytes, so a compressed answer is one that nobody asked for.

Brotli and Zstandard are read by the libraries that aiohttp names for them; where one is not installed, an
answer in its coding is relayed and not read.

Sources: RFC 9110 8.4.1, RFC 1952 (several gzip members may follow each other), RFC 7932 (Brotli: one stream, a
window of 16 MiB at most), RFC 8878 and RFC 9659 (Zstandard: frames may follow each other, a window of 8 MiB at
most on the web); measured: Anthropic flushes its gzip stream after every event, checked 2026-11.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

try:
    import brotli
except ImportError:  # a platform without it
    brotli = None
try:
    from backports import zstd
except ImportError:  # Python's own from 3.14 on; else a platform without it
    try:
        from compression import zstd  # type: ignore[import-not-found, no-redef]
    except ImportError:
        zstd = None  # type: ignore[assignment] # looked at once, in _READABLE

DECODED_BYTES_MAX: Final = 32 * 2**20
"""Decoded bytes of one answer at most; the longest stream recorded has 1.6 MB."""

DECODED_PIECE_MAX: Final = 256 * 1024
"""Decoded bytes given at a time."""

PARTS_MAX: Final = 4096
"""Members or frames of one answer: an empty one has nine bytes and costs a decoder."""

ZSTD_WINDOW_LOG_MAX: Final = 23
"""RFC 9659: what a frame may make its reader keep is 8 MiB."""

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_READABLE: Final = frozenset(
    ("gzip", "x-gzip", "deflate", *(("br",) if brotli is not None else ()), *(("zstd",) if zstd is not None else ()))
)


def coding_of(content_encoding: str) -> str:
    """The one coding that a Content-Encoding names: `` for plain bytes, `unknown` for what we cannot read."""
    codings = [coding for part in content_encoding.lower().split(",") if (coding := part.strip()) != "identity"]
    codings = [coding for coding in codings if coding]
    if not codings:
        return ""
    return codings[0] if len(codings) == 1 and codings[0] in _READABLE else "unknown"


class _Step(NamedTuple):
    """Some decoded bytes, what of the piece is still to be decoded, and whether more may come without another byte."""

    out: bytes
    rest: bytes
    more: bool


class _Decoder(Protocol):
    """One coding. `begins_with` is the first byte of all that is in it, `` where that may be any."""

    begins_with: bytes

    def step(self, piece: bytes) -> _Step:
        """Decode a part of the piece, to DECODED_PIECE_MAX at most or not much more.

        Raises:
            Exception: it is not in this coding.
        """
        ...


class Inflater:
    """Decodes one answer as it comes. After `broken` is true it gives nothing any more."""

    __slots__ = ("_decoder", "_given", "broken")

    def __init__(self, coding: str) -> None:
        self.broken = False
        self._decoder: _Decoder = _DECODERS.get(coding, _Gzip)()
        self._given = 0

    def is_mislabelled(self, piece: bytes) -> bool:
        """Whether an answer that begins so is none of this coding, whatever its head says."""
        return not piece.startswith(self._decoder.begins_with)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The bytes that `piece` decodes to, in pieces of DECODED_PIECE_MAX at most."""
        more = bool(piece)
        while more and not self.broken:
            try:
                out, piece, more = self._decoder.step(piece)
            except Exception:  # each library has an error of its own, and none may cost the answer
                self.broken = True
                return
            self._given += len(out)
            if self._given > DECODED_BYTES_MAX:
                self.broken = True
                return
            for start in range(0, len(out), DECODED_PIECE_MAX):
                yield out if len(out) <= DECODED_PIECE_MAX else out[start : start + DECODED_PIECE_MAX]


class _Parts:
    """Counts the members or frames of an answer."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts = 0

    def begin(self) -> None:
        """One more.

        Raises:
            ValueError: there are too many.
        """
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise ValueError("too many parts")


class _Gzip:
    """gzip, any number of members, and padding behind them."""

    __slots__ = ("_inflate", "_parts")
    begins_with = GZIP_MAGIC[:1]

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_BITS)
        self._parts = _Parts()

    def step(self, piece: bytes) -> _Step:
        """See `_Decoder`."""
        if self._inflate.eof:  # a further member, or padding, which is not read
            if not piece.startswith(self.begins_with):
                return _Step(b"", b"", more=False)
            self._parts.begin()
            self._inflate = zlib.decompressobj(_GZIP_BITS)
        return _inflated(self._inflate, piece)


class _Deflate:
    """deflate in both its meanings, with a zlib header and without."""

    __slots__ = ("_head", "_inflate")
    begins_with = b""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: zlib._Decompress | None = None

    def step(self, piece: bytes) -> _Step:
        """See `_Decoder`. The first two bytes tell whether it has a zlib header."""
        if self._inflate is None:
            piece = self._head + piece
            if len(piece) < 2:
                self._head = piece
                return _Step(b"", b"", more=False)
            has_header = piece[0] & 0x0F == 8 and (piece[0] << 8 | piece[1]) % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        if self._inflate.eof:
            return _Step(b"", b"", more=False)
        return _inflated(self._inflate, piece)


class _Brotli:
    """Brotli: one stream, and nothing may follow it."""

    __slots__ = ("_brotli",)
    begins_with = b""

    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()

    def step(self, piece: bytes) -> _Step:
        """See `_Decoder`. The library takes the whole piece, and gives on until it can take another."""
        if self._brotli.is_finished() and piece:  # the library refuses it only where it comes with the end
            raise ValueError("bytes behind the end")
        out: bytes = self._brotli.process(piece, output_buffer_limit=DECODED_PIECE_MAX)
        return _Step(out, b"", more=not self._brotli.is_finished() and not self._brotli.can_accept_more_data())


class _Zstd:
    """Zstandard, any number of frames. One that begins with a frame to be skipped is not known by its first byte."""

    __slots__ = ("_parts", "_zstd")
    begins_with = ZSTD_MAGIC[:1]

    def __init__(self) -> None:
        self._zstd = _zstd_reader()
        self._parts = _Parts()

    def step(self, piece: bytes) -> _Step:
        """See `_Decoder`. The library takes the whole piece, and gives on until it needs another."""
        if self._zstd.eof:
            if not piece:
                return _Step(b"", b"", more=False)
            self._parts.begin()
            self._zstd = _zstd_reader()
        out = self._zstd.decompress(piece, DECODED_PIECE_MAX)
        if self._zstd.eof:
            rest = self._zstd.unused_data
            return _Step(out, rest, more=bool(rest))
        return _Step(out, b"", more=not self._zstd.needs_input)


def _zstd_reader() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})


def _inflated(inflate: zlib._Decompress, piece: bytes) -> _Step:
    out = inflate.decompress(piece, DECODED_PIECE_MAX)
    rest = inflate.unused_data or inflate.unconsumed_tail
    return _Step(out, rest, more=bool(rest) or len(out) == DECODED_PIECE_MAX)


_DECODERS: Final[dict[str, type[_Gzip | _Deflate | _Brotli | _Zstd]]] = {
    "deflate": _Deflate, "br": _Brotli, "zstd": _Zstd,
}  # fmt: skip
