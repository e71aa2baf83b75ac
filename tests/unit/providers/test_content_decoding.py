"""A compressed answer is read from a copy, within bounds."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from backports import zstd

from sidecar.providers import content_decoding
from sidecar.providers.content_decoding import DECODED_PIECE_MAX, PARTS_MAX, Inflater, coding_of
from tests.recordings.exchange import cuts

TEXT = b"data: some text that repeats, some text that repeats\n\n" * 20
SKIPPED = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
"""A frame of Zstandard that is to be skipped."""


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("gzip", gzip.compress(TEXT[:100], mtime=0) + gzip.compress(TEXT[100:], mtime=0)),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"\x00" * 9),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, wbits=-15)),
        ("br", brotli.compress(TEXT)),
        ("zstd", zstd.compress(TEXT)),
        ("zstd", zstd.compress(TEXT[:100]) + SKIPPED + zstd.compress(b"") + zstd.compress(TEXT[100:])),
    ],
    ids=["gzip", "members", "padding", "zlib", "raw", "br", "zstd", "frames"],
)
def test_decodes_at_every_cut(coding: str, body: bytes) -> None:
    """gzip with several members or padding, deflate with and without its header, Brotli, frames of Zstandard."""
    for pieces in cuts(body, seed=coding):
        inflater = Inflater(coding)
        assert b"".join(plain for piece in pieces for plain in inflater.feed(piece)) == TEXT
        assert not inflater.broken


ZEROS = b"\x00" * 10**7


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [
        ("gzip", gzip.compress(ZEROS, mtime=0)),
        ("deflate", zlib.compress(ZEROS)),
        ("br", brotli.compress(ZEROS)),
        ("zstd", zstd.compress(ZEROS)),
    ],
)
def test_a_bomb_stops_at_the_bound(monkeypatch: pytest.MonkeyPatch, coding: str, bomb: bytes) -> None:
    """B-U13: what is decoded of one answer is bounded, in all and in each piece, and nothing comes after."""
    monkeypatch.setattr(content_decoding, "DECODED_BYTES_MAX", 10**6)
    inflater = Inflater(coding)
    pieces = [len(plain) for plain in inflater.feed(bomb)]
    assert max(pieces) <= DECODED_PIECE_MAX
    assert 0 < sum(pieces) <= 10**6
    assert inflater.broken
    assert list(inflater.feed(b"more")) == []


@pytest.mark.parametrize(
    ("coding", "part"), [("gzip", gzip.compress(b"", mtime=0)), ("zstd", zstd.compress(b""))], ids=["gzip", "zstd"]
)
def test_empty_parts_are_a_bomb_too(coding: str, part: bytes) -> None:
    """B-U13: each member or frame costs a decoder, so there are no more than PARTS_MAX of them."""
    inflater = Inflater(coding)
    assert list(inflater.feed(part * PARTS_MAX)) == []
    assert not inflater.broken
    assert list(inflater.feed(part * 2)) == []
    assert inflater.broken


def test_a_frame_that_wants_a_vast_window_is_not_read() -> None:
    """RFC 9659: more than 8 MiB of window is more than an answer on the web may ask its reader to keep."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.checksum_flag: 1}
    packer = zstd.ZstdCompressor(options=options)
    frame = packer.compress(TEXT) + packer.flush()
    inflater = Inflater("zstd")
    assert list(inflater.feed(frame)) == []
    assert inflater.broken


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"\x1f\x8bnot gzip at all"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:40] + b"\xff" * 40),
        ("br", b"data: plain\n\n" * 9),
        ("br", brotli.compress(TEXT)[:20] + b"\xff" * 400),
        ("br", brotli.compress(TEXT) + b"words"),
        ("zstd", zstd.compress(TEXT)[:20] + b"\xff" * 400),
        ("zstd", zstd.compress(TEXT) + b"(and more"),
    ],
)
def test_damage_is_an_end_and_not_an_error(coding: str, body: bytes) -> None:
    """B-P61's mirror image: bad bytes from a provider break the reading, never the answer."""
    for pieces in cuts(body, seed=coding):
        inflater = Inflater(coding)
        assert len(b"".join(plain for piece in pieces for plain in inflater.feed(piece))) <= len(TEXT)
        assert inflater.broken


@pytest.mark.parametrize(
    ("header", "coding"),
    [("", ""), ("identity", ""), (" GZIP ", "gzip"), ("x-gzip", "x-gzip"), ("deflate", "deflate"), ("br", "br"),
     ("zstd", "zstd"), ("lzma", "unknown"), ("br, zstd", "unknown"),
     ("gzip, gzip", "unknown"), ("identity, gzip", "gzip"), (",", "")],
)  # fmt: skip
def test_codings(header: str, coding: str) -> None:
    """One coding that we can read, none, or unknown."""
    assert coding_of(header) == coding
