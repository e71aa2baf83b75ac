"""The stream of changes, cut anywhere."""

from __future__ import annotations

import pytest

from sidecar.contract.change_frames import SIGN_OF_LIFE, FrameReader, change_frame
from sidecar.contract.messages import Change
from sidecar.errors import WireFormatError

CHANGES = [Change("acme", 7), Change("b" * 128, 2**60), Change("acme", 8)]
STREAM = SIGN_OF_LIFE + change_frame(CHANGES[0]) + SIGN_OF_LIFE + change_frame(CHANGES[1]) + change_frame(CHANGES[2])


def test_changes_come_whole_and_in_order_however_they_are_cut() -> None:
    """At once, byte by byte, and in two pieces cut at each place."""
    assert FrameReader().feed(STREAM) == CHANGES
    reader = FrameReader()
    assert [change for at in range(len(STREAM)) for change in reader.feed(STREAM[at : at + 1])] == CHANGES
    for cut in range(len(STREAM)):
        reader = FrameReader()
        assert reader.feed(STREAM[:cut]) + reader.feed(STREAM[cut:]) == CHANGES


@pytest.mark.parametrize("data", [b"\0\1\0\1", b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", b"\0\0\0\x02\x93\x01"])
def test_what_is_no_change_is_refused(data: bytes) -> None:
    """Too long, before it is gathered; not msgpack; not a change."""
    with pytest.raises(WireFormatError):
        FrameReader().feed(data)
