"""How much of what a caller sends is neither a head of sane size nor the bytes of a body.

The parser takes heads without end as long as no line is too long, and throws chunk extensions and
trailers away as they come: both would let a caller keep us reading for ever for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

MAX_HEAD_BYTES: Final = 64 * 1024
"""A whole head; eight times what one line may have."""

FIRST_LINE_BYTES: Final = 512
"""Of a head that comes in pieces or cannot be read, so much is kept for the sake of its target."""

MAX_PADDING_BYTES: Final = 16 * 1024
"""Of a chunked body, what is not the body itself may have so many bytes and PADDING_PER_BYTE for each of the body's."""

PADDING_PER_BYTE: Final = 1
"""A body in chunks of five bytes has as much; each chunk costs us about as much as a hundred bytes of one."""


def target_in(start: bytes) -> str:
    """The target that the first line of an unfinished or broken head asks for, `` if none can be seen; unchecked.

    It tells in which protocol its sender wants to be told what is wrong, and nothing else.
    """
    words = start.lstrip(b"\r\n").partition(b"\r\n")[0].split(b" ", 2)
    return words[1].decode("latin-1") if len(words) > 2 else ""


class ChunkPadding:
    """Counts what a chunked body costs beside its own bytes: sizes, extensions, trailers."""

    __slots__ = ("_padding", "_payload", "_seen")

    def __init__(self, payload: StreamReader, padding: int) -> None:
        """Begin behind a head; `padding` is what the read that ended it brought beside it and body bytes."""
        self._payload = payload
        self._padding = padding
        self._seen = payload.total_bytes

    def body_bytes(self) -> int:
        """The body's own bytes among those received since this was last asked."""
        total = self._payload.total_bytes
        new, self._seen = total - self._seen, total
        return new

    def add(self, padding: int) -> None:
        """Count what else came."""
        self._padding += padding

    @property
    def is_too_much(self) -> bool:
        """Whether nobody sends so much framing around so little in good faith."""
        return self._padding > MAX_PADDING_BYTES + PADDING_PER_BYTE * self._seen


def head_behind(data: bytes, messages: Sequence[tuple[RawRequestMessage, StreamReader]], last: StreamReader) -> int:
    """How many bytes at the end of a read are of a head that has begun and not ended, behind the last whole request.

    A head that has not ended holds no empty line, so it begins behind the read's last one. Where there is none, the
    body ended with the rest of an empty line that the read before began, of three bytes at most.

    Args:
        data: the read.
        messages: the requests whose heads ended in it.
        last: without any, the chunked body that was under way.
    """
    if messages:
        last = messages[-1][1]
    if not last.is_eof():
        return 0
    behind = len(data) - data.rfind(b"\r\n\r\n") - 4
    if messages and not messages[-1][0].chunked:
        behind -= last.total_bytes
    return max(0, behind)


def padding_behind(received: int, messages: Sequence[tuple[RawRequestMessage, StreamReader]]) -> int:
    """Of so many bytes, in which these requests ended their heads: those of neither heads nor bodies.

    What the bodies before the last may have beside them is taken off, too: they came whole, and were not counted.
    """
    for message, payload in messages:
        head = len(message.path) + 32 + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
        received -= head + payload.total_bytes
        if message.chunked and payload is not messages[-1][1]:
            received -= PADDING_PER_BYTE * payload.total_bytes
    return received
