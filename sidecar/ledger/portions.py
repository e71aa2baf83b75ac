"""How much of one customer goes into one transaction of the book while others ask as well (S-35).

Who comes next waits for the transaction that runs. A sync may bring hundreds of calls of one customer, and many syncs
of it may come at once; all of them together would be a turn that everybody else waits for. So while several
customers ask, what comes of one is cut into portions, each a transaction of its own, and only so much of it is in
the book's queue at a time. A customer that is alone pays nothing for this.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from sidecar.contract.messages import AnyPart
from sidecar.errors import LedgerUnavailable

OTHERS_FOR_S: Final = 1.0
"""Others are there for so long after requests of two customers were last under way at once."""

MAX_CALLS: Final = 64
"""Settled calls of a customer that are booked at a time while others ask: what is computed in some milliseconds."""

MAX_WORKS: Final = 8
"""Works of a customer, each with few calls, that are in the book's queue at a time while others ask."""

MAX_WAITING: Final = 4096
"""Portions that may wait, over all customers. One more is refused with LedgerUnavailable."""

Key = tuple[asyncio.AbstractEventLoop, str]


class Crowd:
    """Whose requests are under way in this process."""

    def __init__(self) -> None:
        self._under_way: dict[Key, int] = {}
        self._several_until = -math.inf

    @property
    def is_several(self) -> bool:
        """Whether requests of several customers are under way, or were a moment ago."""
        return asyncio.get_running_loop().time() < self._several_until

    def come(self, customer: str) -> None:
        """One of its requests begins; `go` must follow."""
        loop = asyncio.get_running_loop()
        self._under_way[loop, customer] = self._under_way.get((loop, customer), 0) + 1
        if len(self._under_way) > 1:
            self._several_until = loop.time() + OTHERS_FOR_S

    def go(self, customer: str) -> None:
        """One of its requests has ended."""
        key = (asyncio.get_running_loop(), customer)
        left = self._under_way[key] - 1
        if left:
            self._under_way[key] = left
        else:
            del self._under_way[key]


class _Lane(msgspec.Struct):
    """What of a customer is in the book's queue, and what waits for it."""

    calls: int = 0
    works: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = msgspec.field(default_factory=deque)

    def has_room(self, calls: int) -> bool:
        return not self.works or (self.works < MAX_WORKS and self.calls + calls <= MAX_CALLS)

    def take(self, calls: int) -> None:
        self.works += 1
        self.calls += calls


class Portions:
    """What of each customer is under way, and who waits for that."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._lanes: dict[Key, _Lane] = {}
        self._waiting = 0

    def are_needed(self, parts: Iterable[AnyPart]) -> bool:
        """Whether one of some parts must be cut, or wait for others of its customer; no: all of them can go at once."""
        if not self._crowd.is_several:
            return False
        loop, lanes = asyncio.get_running_loop(), self._lanes
        for part in parts:
            if len(part.events) > MAX_CALLS:
                return True
            lane = lanes.get((loop, part.customer))
            if lane is not None and not lane.has_room(len(part.events)):
                return True
        return False

    async def enter(self, customer: str, calls: int, *, waits: bool) -> None:
        """So many calls of a customer are booked from now on, until `leave`; `waits`: once there is room for them.

        Raises:
            LedgerUnavailable: too many wait already.
        """
        key = (asyncio.get_running_loop(), customer)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        if not waits or (not lane.waiting and lane.has_room(calls)):
            lane.take(calls)
            return
        if self._waiting >= MAX_WAITING:
            raise LedgerUnavailable(f"{MAX_WAITING} portions of syncs are waiting for the book")
        turn: asyncio.Future[None] = key[0].create_future()
        lane.waiting.append((calls, turn))
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # there was room just now: it is the next one's
                self.leave(customer, calls)
            raise
        finally:
            self._waiting -= 1

    def leave(self, customer: str, calls: int) -> None:
        """They are in the book, or will not be."""
        key = (asyncio.get_running_loop(), customer)
        lane = self._lanes[key]
        lane.works -= 1
        lane.calls -= calls
        while lane.waiting and lane.has_room(lane.waiting[0][0]):
            after, turn = lane.waiting.popleft()
            if not turn.done():  # who waited may have gone
                lane.take(after)
                turn.set_result(None)
        if not lane.works:
            del self._lanes[key]


def cut(part: AnyPart) -> list[AnyPart]:
    """A part's calls in portions of MAX_CALLS, each with the part's reports."""
    starts = range(0, max(1, len(part.events)), MAX_CALLS)
    return [msgspec.structs.replace(part, events=part.events[start : start + MAX_CALLS]) for start in starts]
