"""A breaker: what failed a few times in a row is left alone for a while, then tried once.

Our own dozen lines: every library for it weighs more than this.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

JITTER: Final = 0.25
"""So much of a pause is left to chance, so that a fleet does not come back in step."""


TRY_S: Final = 1.0
"""A try of which nothing is heard for so long is forgotten: another may be made."""


class State(StrEnum):
    """How it stands."""

    CLOSED = "closed"  # it works
    OPEN = "open"  # it is left alone
    TRYING = "trying"  # one try is under way


class Breaker:
    """Opens after `failures` in a row, for `open_s`, then twice as long each time, up to `max_open_s`.

    Times are monotonic seconds; `chance` gives a number in [0, 1).
    """

    def __init__(self, *, failures: int, open_s: float, max_open_s: float) -> None:
        self._failures = failures
        self._open_s = open_s
        self._max_open_s = max_open_s
        self._failed = 0
        self._pause_s = open_s
        self._shut_until = 0.0
        self.state = State.CLOSED

    def allows(self, now: float) -> bool:
        """Whether to try now; of those who ask when a pause is over, the first is told yes."""
        if self.state is State.CLOSED:
            return True
        if now >= self._shut_until:
            self.state = State.TRYING
            self._shut_until = now + TRY_S
            return True
        return False

    def worked(self) -> bool:
        """A try was answered; True if it had been open."""
        was_open = self.state is not State.CLOSED
        self.state = State.CLOSED
        self._failed = 0
        self._pause_s = self._open_s
        return was_open

    def failed(self, now: float, chance: float) -> bool:
        """A try was not answered; True if that opened it."""
        self._failed += 1
        if self.state is State.CLOSED and self._failed < self._failures:
            return False
        opened = self.state is State.CLOSED
        if self.state is not State.OPEN:
            self._shut_until = now + self._pause_s * (1 - JITTER * chance)
            self._pause_s = min(self._max_open_s, 2 * self._pause_s)
            self.state = State.OPEN
        return opened
