"""Who computes next of several transactions that are under way at a time.

While the database works for one group of customers, we compute for another. If all that have an answer computed by
turns, each would be done as late as the last; one after another the first is done long before, and the last no later.
So who came first goes first. What a group computes at a stretch is bounded (`postgres_together.MAX_TURN_S`): who
came before it, and has its answer meanwhile, goes on then, and so do all others on the event loop.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count

Place = tuple[bool, int]
"""Whether it is not one of those that go before all others, and how many came before it."""


class Turns:
    """One turn, for one event loop."""

    def __init__(self) -> None:
        self._count = count()
        self._holder: Place | None = None
        self._waiting: list[tuple[Place, int, asyncio.Future[None]]] = []

    def place(self, *, first: bool = False) -> Place:
        """A place behind all that were given before; `first`: before all but those, for what many wait for."""
        return not first, next(self._count)

    async def take(self, place: Place) -> None:
        """Have the turn, once nobody has it and nobody before this place wants it."""
        if self._holder is not None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (place, next(self._count), future))
            try:
                await future
            except asyncio.CancelledError:
                self.give(place)  # it may have been given just now
                raise
        self._holder = place

    def give(self, place: Place) -> None:
        """Let the next one have it, if this one had."""
        if self._holder != place:
            return
        self._holder = None
        while self._waiting:
            after, _, future = heappop(self._waiting)
            if not future.done():
                self._holder = after
                future.set_result(None)
                return

    async def pass_by(self, place: Place) -> None:
        """Who has the turn lets those before it go first, and in any case all others on the event loop."""
        if self._waiting and self._waiting[0][0] < place:
            self.give(place)
            await self.take(place)
        else:
            await asyncio.sleep(0)
