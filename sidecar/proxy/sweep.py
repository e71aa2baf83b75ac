"""One coarse timer for everything that must not last for ever.

A timer per request costs more than the request's own work, and none of these limits needs to be
exact. So whatever can last registers here and is asked, a few times a second, whether its time
has come; it compares its own instants with `Sweep.now`, which also spares it a clock reading for
every piece of data.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Protocol

TICK_S: Final = 0.25
"""How often all are asked: the coarseness of every timeout."""

PAUSE_TICKS: Final = 8
"""A tick this many times late means that *we* stood still: the peers get one more tick before being judged."""

logger = logging.getLogger(__name__)


class Watched(Protocol):
    """Something that can last too long."""

    def check(self, now: float) -> None:
        """Look at the time (monotonic, seconds) and end whatever is overdue. Must not raise."""
        ...


class Sweep:
    """The timer of one event loop; made while that runs.

    Attributes:
        now: its coarse monotonic clock.
        loop: the loop (asking asyncio for it costs a system call each time).
    """

    __slots__ = ("_handle", "_tick_s", "_watched", "loop", "now")

    def __init__(self, *, tick_s: float = TICK_S) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = time.monotonic()
        self._tick_s = tick_s
        self._watched: dict[Watched, None] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick."""
        if self._handle is None:
            self._handle = self.loop.call_later(self._tick_s, self._tick)

    def stop(self) -> None:
        """Tick no more; what is watched stays as it is."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def watch(self, thing: Watched) -> None:
        """Ask `thing` at every tick from now on."""
        self._watched[thing] = None

    def forget(self, thing: Watched) -> None:
        """Ask it no more; unknown things are ignored."""
        self._watched.pop(thing, None)

    def newest_first(self) -> list[Watched]:
        """What is watched now, what came last first."""
        return list(reversed(self._watched))

    def _tick(self) -> None:
        now = time.monotonic()
        stood_still = now - self.now > PAUSE_TICKS * self._tick_s
        self.now = now
        self._handle = self.loop.call_later(self._tick_s, self._tick)
        if stood_still:
            return
        for thing in tuple(self._watched):
            try:
                thing.check(now)
            except Exception:  # one that fails must not end the checks of all others
                logger.exception("sweep_check_failed")
