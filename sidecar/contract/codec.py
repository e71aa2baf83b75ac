"""Messages to bytes and back: msgpack, every field checked on the way in.

What arrives is trusted for its authority, never for its form: a field of the wrong type, a
missing one or trailing bytes are a WireFormatError. Unknown fields are passed over, so that a
newer peer can add some.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import msgspec

from sidecar.errors import WireFormatError

MAX_MESSAGE_BYTES = 8 * 1024 * 1024

T = TypeVar("T", bound=msgspec.Struct)

_ENCODER = msgspec.msgpack.Encoder()


@lru_cache(maxsize=64)
def _decoder(kind: type[msgspec.Struct]) -> msgspec.msgpack.Decoder[msgspec.Struct]:
    return msgspec.msgpack.Decoder(kind)


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message."""
    return _ENCODER.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Read a message of a known kind.

    Raises:
        WireFormatError: too long, not msgpack, or not such a message.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireFormatError("contract", f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    try:
        message = _decoder(kind).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        what = problem.reason if isinstance(problem, UnicodeDecodeError) else problem  # its text quotes the bytes
        raise WireFormatError("contract", f"not a {kind.__name__}: {what}") from None
    if not isinstance(message, kind):
        raise WireFormatError("contract", f"not a {kind.__name__}")
    return message
