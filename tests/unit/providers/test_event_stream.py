"""Server-sent events are the same events however their bytes are cut."""

from __future__ import annotations

import pytest

from sidecar.providers.event_stream import HELD_BYTES_MAX, EventStream, Veil, read_event, split_events
from tests.recordings.exchange import cuts


def events_of(pieces: list[bytes], max_bytes: int = 2**20) -> list[bytes]:
    stream = EventStream(max_bytes)
    found = []
    for piece in pieces:
        ready = stream.feed(piece)
        found += [event for _, event in split_events(ready)]
    return [read_event(event)[1] for event in [*found, stream.rest()] if read_event(event)[1]]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_line_ends(end: bytes) -> None:
    """B-U01: LF, CRLF and lone CR give the same events at every cut, also inside a CRLF."""
    text = end.join([b"data: a", b"", b": comment", b"", b"event: x", b"data:b", b"data: c", b"", b"data: last", b""])
    for pieces in cuts(text, seed="line ends"):
        assert events_of(pieces) == [b"a", b"b\nc", b"last"]


def test_every_place_to_cut_a_mixed_stream() -> None:
    """B-U01: line ends of all kinds mixed, cut in two at each place."""
    text = b"data: a\r\n\ndata: b\n\r\ndata: c\r\rdata: d\r\n\r\n\n\ndata: e\n\n"
    for place in range(len(text) + 1):
        assert events_of([text[:place], text[place:]]) == [b"a", b"b", b"c", b"d", b"e"]


def test_fields() -> None:
    """B-U02: one space after the colon goes; fields without a colon, comments and unknown fields are no data."""
    assert read_event(b"data:x\n\n") == (b"", b"x")
    assert read_event(b"data:  x\n\n") == (b"", b" x")
    assert read_event(b"data\n:data: no\nretry: 5\nid: \x00\nfoo: bar\nevent:e\n\n") == (b"e", b"")


def test_what_is_no_line_end() -> None:
    """B-U05: U+2028, U+2029, U+0085, VT, FF and FS inside a line do not end it."""
    line = "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg".encode()
    for pieces in cuts(line + b"\n\n", seed="separators"):
        assert events_of(pieces) == [line[6:]]


def test_an_event_too_long_is_skipped_and_the_next_is_read() -> None:
    """B-U07: memory for one event is bounded, and the stream is read on after it."""
    stream = EventStream(1000)
    assert stream.feed(b"data: first\n\n") == b"data: first\n\n"
    for _ in range(100):
        assert stream.feed(b"x" * 100) == b""
        assert len(stream.rest()) <= 1100
    assert stream.skipped
    assert stream.feed(b"xx\n") == b""
    assert stream.feed(b"\ndata: next\n\ndata: un") == b"data: next\n\n"
    assert stream.rest() == b"data: un"
    assert stream.offset == len(b"data: first\n\n") + 10_000 + len(b"xx\n\ndata: next\n\n")


def test_a_veil_hides_what_it_is_told_to_and_holds_only_the_unfinished() -> None:
    """Bytes come in order; the hidden range is left out even when it comes in many pieces."""
    veil = Veil()
    assert veil.pass_on(b"one\n\ntw", 5) == b"one\n\n"
    veil.hide(5, 10)
    assert veil.pass_on(b"o\n\nthr", 10) == b""
    assert veil.pass_on(b"ee\n\n", 17) == b"three\n\n"
    assert veil.rest() == b""


def test_a_veil_lets_go_of_an_event_too_long_to_be_the_one() -> None:
    """At most HELD_BYTES_MAX are held; what was let go is not hidden afterwards."""
    veil = Veil()
    half = b"x" * (HELD_BYTES_MAX // 2 + 1)
    assert veil.pass_on(half, 0) == b""
    assert veil.pass_on(half, 0) == half + half
    end = 2 * len(half) + 2
    veil.hide(0, end)
    assert veil.pass_on(b"\n\n", end) == b"\n\n"
