"""The stream of changes: each a length in four bytes, the highest first, and as many of msgpack.

A length of zero is a sign of life. So a reader that has heard nothing for a while knows that the
connection is dead, and not merely quiet.
"""

from __future__ import annotations

from typing import Final

from sidecar.contract.codec import decode, encode
from sidecar.contract.messages import Change
from sidecar.errors import WireFormatError

SIGN_OF_LIFE: Final = bytes(4)
MAX_FRAME_BYTES: Final = 64 * 1024
"""Of one change: a name and a number; or a checkpoint, which is larger (`core.credits.checkpoints.MAX_LINE_BYTES`)."""


def change_frame(change: Change) -> bytes:
    """A change as it goes over the stream."""
    body = encode(change)
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Takes pieces of the stream as they come, cut anywhere."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Change]:
        """The changes that are whole now, in order; signs of life are passed over.

        Raises:
            WireFormatError: a frame longer than any change, or one that is none.
        """
        self._rest += data
        found: list[Change] = []
        at = 0
        while len(self._rest) - at >= 4:
            length = int.from_bytes(self._rest[at : at + 4], "big")
            if length > MAX_FRAME_BYTES:
                raise WireFormatError("ledger", f"a change is at most {MAX_FRAME_BYTES} bytes")
            if len(self._rest) - at - 4 < length:
                break
            if length:
                found.append(decode(bytes(self._rest[at + 4 : at + 4 + length]), Change))
            at += 4 + length
        del self._rest[:at]
        return found
