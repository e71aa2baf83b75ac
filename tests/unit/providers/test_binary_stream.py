"""Amazon's binary messages are the same messages however they are cut, and what is none is said to be none."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import WireFormatError
from sidecar.providers.binary_stream import BinaryStream, measure, read_message, write_message
from tests.recordings.exchange import cuts

JSON = {b":content-type": b"application/json", b":message-type": b"event"}
FRAMES = [
    write_message({b":event-type": b"messageStart", **JSON}, b'{"role":"assistant"}'),
    write_message({b":event-type": b"contentBlockDelta", **JSON}, b'{"delta":{"text":"\x00\x01{"}}' * 9),
    write_message({b":event-type": b"metadata", **JSON}, b'{"usage":{}}'),
    write_message({b":message-type": b"exception", b":exception-type": b"throttlingException"}, b'{"message":"no"}'),
]
NAMES = [b"messageStart", b"contentBlockDelta", b"metadata", b"!throttlingException"]

KNOWN = bytes.fromhex("000000100000000005c248eb7d98c8ff")
"""An empty message, as botocore's own tests have it (tests/unit/test_eventstream.py)."""


def names_of(stream: BinaryStream, pieces: list[bytes]) -> list[bytes]:
    found = []
    for piece in pieces:
        found += [stream.read(event)[0] for _, event in stream.split(stream.feed(piece))]
    return found


def with_sums(prelude: bytes, after: bytes) -> bytes:
    """Bytes with right checksums whatever they say."""
    message = prelude + zlib.crc32(prelude).to_bytes(4, "big") + after
    return message + zlib.crc32(message).to_bytes(4, "big")


def test_messages_in_any_pieces() -> None:
    """Whole, byte by byte, cut anywhere; the offset is where the last message ends."""
    body = b"".join(FRAMES)
    for pieces in cuts(body, seed="frames", count=20):
        stream = BinaryStream()
        assert names_of(stream, pieces) == NAMES
        assert stream.offset == len(body)
        assert not stream.skipped


def test_a_message_of_others() -> None:
    """What Amazon's own tests have as a message is read, and what we write is the same."""
    assert read_message(KNOWN) == ({}, b"")
    assert write_message({}, b"") == KNOWN


def test_every_type_of_header_is_passed_over() -> None:
    """Truth, numbers, bytes, an instant and a uuid: their lengths are known, and text is kept."""
    headers = b"".join([
        b"\x01t\x00", b"\x01f\x01", b"\x01b\x02x", b"\x01s\x03xx", b"\x01i\x04xxxx", b"\x01l\x05xxxxxxxx",
        b"\x01a\x06\x00\x03abc", b"\x01d\x08xxxxxxxx", b"\x01u\x09xxxxxxxxxxxxxxxx", b"\x01z\x07\x00\x02yz",
    ])  # fmt: skip
    lengths = (16 + len(headers)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    assert read_message(with_sums(lengths, headers)).headers == {b"a": b"abc", b"z": b"yz"}


@pytest.mark.parametrize("at", range(len(FRAMES[0])))
def test_a_changed_byte_is_found(at: int) -> None:
    """A byte that is not as it was sent: a checksum says so, wherever it is."""
    changed = bytearray(FRAMES[0])
    changed[at] ^= 1
    with pytest.raises(WireFormatError):
        read_message(bytes(changed))


@pytest.mark.parametrize(
    "headers",
    [b"\x01a\x0a", b"\x05ab", b"\x01a\x07\x00\x09b", b"\x01a\x04x", b"\x00", b"\x01a\x00" * 65],
    ids=["unknown type", "name beyond the end", "text beyond the end", "number beyond the end", "nothing", "many"],
)
def test_headers_that_make_no_sense(headers: bytes) -> None:
    """With right checksums, and yet no headers: an error of the wire, no other."""
    lengths = (16 + len(headers)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    with pytest.raises(WireFormatError):
        read_message(with_sums(lengths, headers))


def test_lengths_have_bounds() -> None:
    """Too short, too long, and headers beyond their message are refused before anything is kept for them."""
    for total, headers in ((15, 0), (24 * 2**20 + 1, 0), (16, 1), (2**20, 128 * 2**10 + 1)):
        lengths = total.to_bytes(4, "big") + headers.to_bytes(4, "big")
        with pytest.raises(WireFormatError):
            measure(lengths + zlib.crc32(lengths).to_bytes(4, "big"))


def test_a_message_too_long_is_passed_over_and_the_next_is_read() -> None:
    """Memory for one message is bounded."""
    stream = BinaryStream(1000)
    long = write_message({b":event-type": b"long"}, b"x" * 50_000)
    assert names_of(stream, [FRAMES[0] + long[:20]]) == [b"messageStart"]
    for at in range(20, len(long), 100):
        assert stream.is_skipping
        assert stream.feed(long[at : at + 100]) == b""
        assert len(stream._rest) <= 1000
    assert not stream.is_skipping
    assert names_of(stream, [FRAMES[2]]) == [b"metadata"]
    assert stream.offset == len(FRAMES[0] + long + FRAMES[2])
    assert stream.skipped


def test_nothing_is_read_behind_nonsense() -> None:
    """Where the next message begins is not known any more: no more is read, and nothing is kept."""
    stream = BinaryStream()
    assert names_of(stream, [FRAMES[0] + b"\0" * 12 + FRAMES[2]]) == [b"messageStart"]
    assert stream.skipped
    assert stream.is_skipping
    assert stream.feed(FRAMES[2]) == b""
    assert stream.rest() == b""
    assert stream.offset == len(FRAMES[0]) + 12 + 2 * len(FRAMES[2])


@given(st.lists(st.binary(max_size=60) | st.sampled_from([*FRAMES, KNOWN, FRAMES[1][:30]]), max_size=8))
def test_garbage_is_cut_alike_and_raises_nothing_else(pieces: list[bytes]) -> None:
    """Whatever comes: an error of the wire or none, and the same runs in any cut."""
    whole, cut = BinaryStream(), BinaryStream()
    run = whole.feed(b"".join(pieces))
    assert b"".join(cut.feed(piece) for piece in pieces) == run
    assert b"".join(event for _, event in whole.split(run)) == run
    for _, event in whole.split(run):
        try:
            whole.read(event)
        except WireFormatError:
            continue
