"""The objects of a streamed JSON array are the same objects however its bytes are cut."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.json_stream import JsonStream
from tests.recordings.exchange import cuts

ODD: list[dict[str, Any]] = [
    {"text": 'braces } { ] [ and a quote " and a backslash \\'},
    {"a": {"b": [{"c": {}}, {"d": "}"}]}},
    {},
    {"wörld\u2028": '\\\\"}'},
    {"long": "x" * 300, "end": "\\"},
]


def objects_of(pieces: list[bytes], max_bytes: int = 2**20) -> list[bytes]:
    stream = JsonStream(max_bytes)
    found = []
    for piece in pieces:
        ready = stream.feed(piece)
        found += [event for _, event in stream.split(ready)]
    return found + [event for _, event in stream.split(stream.rest())]


@pytest.mark.parametrize("indent", [None, 2], ids=["compact", "as Gemini writes it"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_array_in_any_pieces(indent: int | None, ascii_only: bool) -> None:
    """Whole, byte by byte, cut anywhere: braces in strings, escapes and nested objects end nothing."""
    body = json.dumps(ODD, indent=indent, ensure_ascii=ascii_only).replace("\n", "\r\n").encode()
    for pieces in cuts(body, seed="array", count=20):
        assert [json.loads(each) for each in objects_of(pieces)] == ODD


def test_each_place_to_cut() -> None:
    """Cut in two at every byte, also within an escape and before a closing quote."""
    body = json.dumps(ODD, ensure_ascii=False).encode()
    for place in range(len(body) + 1):
        assert [json.loads(each) for each in objects_of([body[:place], body[place:]])] == ODD


def test_one_after_another() -> None:
    """Objects without an array around them, as others write them line by line."""
    assert objects_of([b'{"a":1}\n{"b":2}', b"\n{}"]) == [b'{"a":1}', b'{"b":2}', b"{}"]


def test_what_is_not_whole_is_given_at_the_end() -> None:
    """A stream that breaks off: what was begun is what is left, and no error."""
    stream = JsonStream()
    assert stream.feed(b'[{"a":1},{"b":"x') == b'[{"a":1}'
    assert stream.rest() == b',{"b":"x'
    assert [event for _, event in stream.split(stream.rest())] == [b'{"b":"x']
    stream.end()
    assert (stream.rest(), stream.offset) == (b"", 16)


def test_an_object_too_long_is_passed_over_and_the_next_is_read() -> None:
    """Memory for one object is bounded; braces and quotes in it are followed all the same."""
    stream = JsonStream(1000)
    assert list(stream.split(stream.feed(b'[{"a":1},'))) == [(1, b'{"a":1}')]
    stream.feed(b'{"x":"')
    for _ in range(100):
        assert stream.feed(b'\\"}{' * 25) == b""
        assert len(stream.rest()) <= 1200
    assert (stream.skipped, stream.is_skipping) == (True, True)
    assert [event for _, event in stream.split(stream.feed(b'"},{"b":2},{"c"'))] == [b'{"b":2}']
    assert (stream.skipped, stream.is_skipping) == (True, False)
    assert [event for _, event in stream.split(stream.feed(b":3}]"))] == [b'{"c":3}']


def test_a_text_is_found_alike_where_garbage_ends_an_object_within_it() -> None:
    """What is counted of an answer does not hang on how its bytes were cut (found by fuzzing)."""
    pattern = re.compile(rb'"text": "([^"]*)"')
    body = b'{"x: "text": "lo } w"" {} {"text": "yes"}'
    for pieces in cuts(body, seed="text", count=20):
        stream = JsonStream()
        found = [text for piece in pieces for text in stream.find(pattern, stream.feed(piece))]
        assert found == [b"yes"]


def test_each_byte_is_looked_at_once() -> None:
    """A string of a megabyte in small pieces is not read anew with each of them."""
    stream = JsonStream(2**22)
    stream.feed(b'[{"x":"')
    seen = 0
    for _ in range(4096):
        before = stream._scanned
        stream.feed(b"y" * 256)
        seen += stream._scanned - before
    assert seen == 4096 * 256


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b'{"a":"', b'"}'])))
def test_garbage_is_cut_alike_and_never_raises(pieces: list[bytes]) -> None:
    """Whatever comes: no exception, no more kept than came, and the same objects in any cut."""
    body = b"".join(pieces)
    whole = objects_of([body])
    assert objects_of(pieces) == whole
    assert objects_of([body[i : i + 1] for i in range(len(body))]) == whole
