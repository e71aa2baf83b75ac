"""No customer is kept waiting by what another asks for (S-35).

Where a number of things is done at once, or at a time, for all customers together, one customer that names a new
user with every call would fill it alone, and everybody else stood behind it. So customers take turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_turn(things: Iterable[T], customer_of: Callable[[T], str], most: int) -> list[T]:
    """At most so many of some things: one of each customer, then a second of each; a customer's in their order."""
    lanes: dict[str, list[T]] = {}
    for thing in things:
        lane = lanes.setdefault(customer_of(thing), [])
        if len(lane) < most:
            lane.append(thing)
    longest = max(map(len, lanes.values()), default=0)
    rounds = (lane[number] for number in range(longest) for lane in lanes.values() if number < len(lane))
    return list(islice(rounds, most))


class CustomerTurns:
    """So many at once; who waits is let in customer by customer, and those of one customer as they came.

    Who waits is bounded by the calls that are carried at once (each waits for one turn at a time).
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._lanes: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, customer: str) -> AsyncIterator[None]:
        """Wait for a turn of a customer, and have it inside."""
        await self._take(customer)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, customer: str) -> None:
        if self._free:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes.setdefault(customer, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # the turn had come already
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._lanes:
            customer = next(iter(self._lanes))
            lane = self._lanes.pop(customer)
            future = lane.popleft()
            if lane:
                self._lanes[customer] = lane  # behind all others
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
