"""A compressed answer is read from a copy, within bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest

from sidecar.providers import content_decoding
from sidecar.providers.content_decoding import Inflater, coding_of
from tests.recordings.exchange import cuts

TEXT = b"data: some text that repeats, some text that repeats\n\n" * 20


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("gzip", gzip.compress(TEXT[:100], mtime=0) + gzip.compress(TEXT[100:], mtime=0)),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"\x00" * 9),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, wbits=-15)),
    ],
    ids=["gzip", "members", "padding", "zlib", "raw"],
)
def test_decodes_at_every_cut(coding: str, body: bytes) -> None:
    """gzip with several members or padding, deflate with and without its header."""
    for pieces in cuts(body, seed=coding):
        inflater = Inflater(coding)
        assert b"".join(plain for piece in pieces for plain in inflater.feed(piece)) == TEXT
        assert not inflater.broken


def test_a_bomb_stops_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """B-U13: what is decoded of one answer is bounded, and nothing comes after."""
    monkeypatch.setattr(content_decoding, "DECODED_BYTES_MAX", 10**6)
    inflater = Inflater("gzip")
    got = sum(len(plain) for plain in inflater.feed(gzip.compress(b"\x00" * 10**7, mtime=0)))
    assert got <= 10**6
    assert inflater.broken
    assert list(inflater.feed(b"more")) == []


@pytest.mark.parametrize("body", [b"\x1f\x8bnot gzip at all", gzip.compress(TEXT, mtime=0)[:40] + b"\xff" * 40])
def test_damage_is_an_end_and_not_an_error(body: bytes) -> None:
    """B-P61's mirror image: bad bytes from a provider break the reading, never the answer."""
    inflater = Inflater("gzip")
    list(inflater.feed(body))
    assert inflater.broken


@pytest.mark.parametrize(
    ("header", "coding"),
    [("", ""), ("identity", ""), (" GZIP ", "gzip"), ("x-gzip", "x-gzip"), ("deflate", "deflate"), ("br", "unknown"),
     ("zstd", "unknown"), ("gzip, gzip", "unknown"), ("identity, gzip", "gzip"), (",", "")],
)  # fmt: skip
def test_codings(header: str, coding: str) -> None:
    """One coding that we can read, none, or unknown."""
    assert coding_of(header) == coding
