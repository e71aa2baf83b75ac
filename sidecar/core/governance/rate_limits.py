"""Rate limits: how many requests or tokens in any window of time, how many calls at once.

A rate limit is of a node, matched over dimensions and for each child, as a budget is (L30); all that apply
must have room. It bounds how fast, never how much: it moves no money, and losing what was counted costs a
window's worth of calls, not a cent of a budget.

A window rolls (L37). It is counted in `SLICES` slices and the one that runs, so that a stretch of the window's
length, wherever it begins, lies inside of what is counted: what is admitted in it never exceeds the limit,
and room comes back up to a slice late.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from sidecar.core.governance.budgets import Each, covers, is_on_path
from sidecar.core.governance.tenancy import Node, Subject

SLICES: Final = 12
"""Slices of a window; with the running one, SLICES + 1 are counted."""

MINUTE_MS: Final = 60_000

MAX_RATE: Final = 1_000_000_000_000
"""The greatest limit: Redis' scripts count in floats, exactly up to 2⁵³."""


class Counts(StrEnum):
    """What a rate limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"
    """Calls under way at once; it has no window."""


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rate limit as the ledger compiled it. `node` None is the customer itself; `version` counts the edits."""

    limit_id: str
    counts: Counts
    limit: int
    node: Node | None = None
    match: dict[str, str] = {}
    each: Each = Each.NONE
    window_ms: int = MINUTE_MS
    version: int = 1

    def owner(self, customer: str) -> str:
        """The node as people write it: `acme`, `acme/team:data`."""
        return customer if self.node is None else f"{customer}/{self.node}"

    def child_of(self, subject: Subject) -> str:
        """Which child's window a request counts on; those that name none share one, ``."""
        return "" if self.each is Each.NONE else str(getattr(subject, self.each.value))

    @property
    def slice_ms(self) -> int:
        """How long a slice of its window is; 1 where it has none."""
        return max(1, -(-self.window_ms // SLICES))


class NoRoom(NamedTuple):
    """The rate limit that had no room; None: too many windows are counted to count one more.

    `used` is what was counted there, `remaining` what it had left. `wait_ms` None: waiting does not help.
    """

    limit: RateLimit | None
    child: str = ""
    used: int = 0
    remaining: int = 0
    wait_ms: int | None = None


def rate_applies(limit: RateLimit, subject: Subject, *, model: str, provider: str) -> bool:
    """Whether a request must have room in a rate limit; the subject on its canonical path."""
    return is_on_path(limit.node, subject) and covers(limit.match, subject, model=model, provider=provider)


def share_of(limit: int, sidecars: int, rank: int) -> int:
    """What one of several sidecars may use of a limit that they cannot count together.

    The shares of ranks 0 … sidecars − 1 add up to the limit.

    Raises:
        ValueError: no sidecars, or a rank that none of them has.
    """
    if not 0 <= rank < sidecars:
        raise ValueError(f"of {sidecars} sidecars none has rank {rank}")
    whole, left = divmod(limit, sidecars)
    return whole + (rank < left)


class SlidingCount:
    """What was taken in each slice of a window.

    A slice is named by its number since the epoch of whatever clock its user goes by. What is taken later
    counts in the slice that it is given for, so that a correction counts where the call did.
    """

    __slots__ = ("_swept", "_total", "slices")

    def __init__(self) -> None:
        self.slices: dict[int, int] = {}
        self._total = 0
        self._swept = -1

    def used(self, current: int) -> int:
        """All of the slices that count while one runs. Those before are forgotten, and what a clock set back left."""
        if current == self._swept:  # nothing has ended since it was last asked
            return self._total
        self._swept = current
        oldest, latest = current - SLICES, current + SLICES
        for number in [number for number in self.slices if not oldest <= number <= latest]:
            self._total -= self.slices.pop(number)
        return self._total

    def add(self, number: int, amount: int) -> None:
        """Count more, or (below zero) less in a slice, never less than nothing; one that is forgotten stays so."""
        if number not in self.slices and (amount < 0 or number < self._swept - SLICES):
            return
        before = self.slices.get(number, 0)
        after = max(0, before + amount)
        self.slices[number] = after
        self._total += after - before

    def room_in_slices(self, current: int, room: int) -> int:
        """How many slices from now on it takes until no more than `room` is counted, if nothing is taken meanwhile."""
        left = self.used(current)
        if left <= room:
            return 0
        for number in sorted(self.slices):
            left -= self.slices[number]
            if left <= room:
                return number + SLICES + 1 - current
        return SLICES + 1
