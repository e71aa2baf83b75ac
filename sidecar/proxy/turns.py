"""What one turn of the event loop has read is worked on together, once all of it has been read.

Under load a turn finds many sockets readable. Were each read worked on at once, the kernel's code and ours would
drive each other out of the processor's caches with every socket; worked on one after the other, each read finds
our code warm. Where there is one socket only, it waits for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

logger = logging.getLogger(__name__)

GATHERED_BYTES_MAX: Final = 32 * 1024
"""A longer read is worked on at once. It may have filled the loop's buffer, and then more is read from that socket in
the same turn, which whoever cannot take it must have had the chance to stop."""


class Reader(Protocol):
    """A connection whose reads are gathered."""

    def take(self, data: bytes) -> None:
        """Work on what was read."""
        ...

    def give_up(self) -> None:
        """Working on it failed by a fault of ours: cut the connection."""
        ...


class Turns:
    """Keeps what was read until the end of the turn."""

    __slots__ = ("_loop", "_reads")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reads: list[tuple[Reader, bytes]] = []

    def add(self, reader: Reader, data: bytes) -> None:
        """Give it to the reader at the end of this turn, in the order of adding; at once if it is long."""
        reads = self._reads
        reads.append((reader, data))
        if len(data) > GATHERED_BYTES_MAX:
            self.finish()
        elif len(reads) == 1:
            self._loop.call_soon(self.finish)

    def finish(self) -> None:
        """Work on everything now: also for whoever must not overtake what was read before."""
        reads, self._reads = self._reads, []
        for reader, data in reads:
            try:
                reader.take(data)
            except Exception:  # whatever one caller sent, the others' reads are worked on
                logger.exception("read_failed")
                reader.give_up()
