"""The time by which the ledger decides what period it is and what has expired (L38)."""

from __future__ import annotations

import logging
from typing import Final

from sidecar.ports import Clock

MAX_JUMP_MS: Final = 300_000
"""The wall clock may move by so much more or less than time has passed, and is still believed."""

logger = logging.getLogger("sidecar.ledger")


class LedgerClock:
    """The wall clock, but for its jumps.

    A clock that is set wrong for a moment would lend a second period's limit and expire grants, and
    neither can be taken back. So a jump of more than MAX_JUMP_MS in either direction is not
    followed: time goes on from where it was, as fast as time passes, until the wall clock
    is back, or somebody says that it is right. A new process believes what it finds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._believed = (clock.wall_ms(), clock.monotonic())
        self._jump_ms = 0

    @property
    def jump_ms(self) -> int:
        """How far the wall clock is from the time that is used, as of the last reading; 0 while it is believed."""
        return self._jump_ms

    def now_ms(self) -> int:
        """Unix milliseconds, UTC. Safe to call from several threads."""
        wall_ms, monotonic_s = self._clock.wall_ms(), self._clock.monotonic()
        believed_ms, at = self._believed
        expected_ms = believed_ms + round((monotonic_s - at) * 1000)
        jump_ms = wall_ms - expected_ms
        if abs(jump_ms) > MAX_JUMP_MS:
            if not self._jump_ms:
                logger.error("clock_jumped", extra={"facts": {"jump_ms": jump_ms, "used_ms": expected_ms}})
            self._jump_ms = jump_ms
            return expected_ms
        if self._jump_ms:
            logger.warning("clock_is_back", extra={"facts": {"now_ms": wall_ms}})
            self._jump_ms = 0
        self._believed = (wall_ms, monotonic_s)
        return wall_ms

    def accept(self, actor: str) -> None:
        """Believe the wall clock as it is now, on somebody's word."""
        self.now_ms()
        jump_ms, self._jump_ms = self._jump_ms, 0
        self._believed = (self._clock.wall_ms(), self._clock.monotonic())
        if jump_ms:
            logger.warning("clock_accepted", extra={"facts": {"actor": actor, "jump_ms": jump_ms}})
