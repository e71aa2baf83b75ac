"""Frames on disk: damage loses what is damaged and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.outbox.frames import HEAD_BYTES, MAGIC, MAX_PAYLOAD_BYTES, frame, scan

PAYLOADS = [b"first", b"", b"a third one, longer than the others", MAGIC + b"looks like a head", b"last"]
FILE = b"".join(map(frame, PAYLOADS))


def whole(data: bytes) -> list[bytes]:
    return [span.payload for span in scan(data) if span.payload is not None]


def ends() -> list[int]:
    """Where each frame of FILE ends."""
    found, at = [], 0
    for payload in PAYLOADS:
        at += HEAD_BYTES + len(payload)
        found.append(at)
    return found


def test_what_is_written_is_read() -> None:
    """In order, each whole."""
    assert whole(FILE) == PAYLOADS
    assert [span.end for span in scan(FILE)] == ends()


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_anywhere_loses_one_record(bit: int) -> None:
    """F-42, F-43: every byte of the file in turn; all other records before and after it are kept."""
    for at in range(len(FILE)):
        damaged = bytearray(FILE)
        damaged[at] ^= 1 << bit
        hit = next(number for number, end in enumerate(ends()) if at < end)
        assert whole(bytes(damaged)) == PAYLOADS[:hit] + PAYLOADS[hit + 1 :], at


def test_a_file_cut_anywhere_keeps_what_is_whole() -> None:
    """F-42: every length in turn."""
    for length in range(len(FILE)):
        kept = sum(end <= length for end in ends())
        assert whole(FILE[:length]) == PAYLOADS[:kept], length


def test_zeros_are_damage() -> None:
    """A file system may leave zeros where a tail was never written."""
    assert [span.payload for span in scan(FILE + bytes(4096))] == [*PAYLOADS, None]


def test_a_record_has_a_longest_length() -> None:
    """A longer one is refused when it is written; a longer length read is damage, not an allocation."""
    with pytest.raises(ValueError, match="at most"):
        frame(bytes(MAX_PAYLOAD_BYTES + 1))
    head = MAGIC + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big") + bytes(4)
    assert whole(head + FILE) == PAYLOADS


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=60), st.integers(0, 8))
def test_rubbish_between_records_is_passed_over(payloads: list[bytes], rubbish: bytes, where: int) -> None:
    """Whatever stands between frames, all of them are found, and spans cover every byte once."""
    frames = [frame(payload) for payload in payloads]
    data = b"".join(frames[:where]) + rubbish + b"".join(frames[where:])
    spans = scan(data)
    found = [span.payload for span in spans if span.payload is not None]
    assert found == payloads or whole(rubbish)
    assert [span.start for span in spans] == [0, *[span.end for span in spans]][: len(spans)]
    assert not spans or spans[-1].end == len(data)
