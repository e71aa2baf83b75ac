"""Memory that runs out is given up step by step, before the kernel takes the whole process (F-34).

A process that is killed for want of memory cuts every stream it holds, and each is charged its floor. So from
a share of its limit on, what would have to wait is refused, then whatever is new, and at last streams that
bring nothing are ended, the newest first: they lose least.

A few calls at once are let in all the same: they are not what fills memory, and memory that was freed here
does not always go back to the kernel, so that a ladder without them could stay shut for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from sidecar.proxy.forward import Exchange
from sidecar.proxy.sweep import Sweep

LOOK_EVERY_S: Final = 0.5

FEW_CALLS: Final = 32
"""So many under way are always let in."""

DOWN_PERCENT: Final = 5
"""A step is left so far below where it began."""

SHED_PART: Final = 20
"""At each look one of so many idle streams is ended, and at least one."""

logger = logging.getLogger(__name__)


class Step(IntEnum):
    """How far memory is used up, and what is refused then."""

    EASE = 0
    HITS_ONLY = 1  # what its leases cannot pay for would wait, and is refused
    CLOSED = 2  # nothing new is taken
    SHEDDING = 3  # and idle streams are ended


BEGINS_AT_PERCENT: Final = {Step.HITS_ONLY: 70, Step.CLOSED: 85, Step.SHEDDING: 95}


class Pressure:
    """Looks at the memory in use, and says what may still be begun.

    Attributes:
        step: as last looked.
        shed: streams ended for it, since the start.
    """

    __slots__ = ("_looked_at", "_read_percent", "_sweep", "shed", "step")

    def __init__(self, read_percent: Callable[[], int | None] | None = None, sweep: Sweep | None = None) -> None:
        """Watch; `read_percent` tells how much of the limit is in use, None where it cannot be told. Without: EASE."""
        self.step = Step.EASE
        self.shed = 0
        self._read_percent = read_percent
        self._sweep = sweep
        self._looked_at = 0.0
        if sweep is not None and read_percent is not None:
            sweep.watch(self)

    def takes_new(self, under_way: int) -> bool:
        """Whether another call may be begun beside so many."""
        return self.step < Step.CLOSED or under_way <= FEW_CALLS

    def takes_misses(self, under_way: int) -> bool:
        """Whether a call may be begun that has to ask the ledger first."""
        return self.step < Step.HITS_ONLY or under_way <= FEW_CALLS

    def check(self, now: float) -> None:
        """Look again (`Watched`)."""
        if self._read_percent is None or now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        percent = self._read_percent()
        if percent is None:
            return
        step = step_at(percent, self.step)
        if step is not self.step:
            level = logging.WARNING if step > self.step else logging.INFO
            logger.log(level, "memory_step", extra={"facts": {"step": step.name.lower(), "percent": percent}})
            self.step = step
        if step is Step.SHEDDING:
            self._shed(now)

    def _shed(self, now: float) -> None:
        if self._sweep is None:
            return
        idle = [thing for thing in self._sweep.newest_first() if isinstance(thing, Exchange) and thing.is_idle(now)]
        for exchange in idle[: max(1, len(idle) // SHED_PART)]:
            exchange.shed()
            self.shed += 1


def step_at(percent: int, before: Step) -> Step:
    """The step at this share of the limit; one that was reached before is left DOWN_PERCENT below its beginning."""
    reached = Step.EASE
    for step, begins in BEGINS_AT_PERCENT.items():
        if percent >= begins - (DOWN_PERCENT if step <= before else 0):
            reached = step
    return reached
