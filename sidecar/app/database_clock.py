"""The database's clock, for ledgers that share a book: none of them goes by its own machine's (L38).

What a customer's period is must not depend on which ledger was asked. So the database is asked for
the time now and then, and in between time goes on as the machine counts it, whatever its own wall
clock is set to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.errors import Unavailable
from sidecar.ports import Clock

ASK_EVERY_S: Final = 5.0
MAX_ROUND_TRIP_S: Final = 1.0
"""An answer that took longer says too little: the database is asked again the next time."""

logger = logging.getLogger(__name__)


class DatabaseClock:
    """`ports.Clock`; its wall clock is the database's, as last asked for. Made by `following`."""

    def __init__(self, machine: Clock, ask: Callable[[], Awaitable[int]], *, now_ms: int) -> None:
        self._machine = machine
        self._ask = ask
        self._asked = (now_ms, machine.monotonic())

    @classmethod
    async def following(cls, machine: Clock, ask: Callable[[], Awaitable[int]]) -> DatabaseClock:
        """A clock that has been set; `ask` gives the database's Unix milliseconds.

        Raises:
            Unavailable: the database does not answer.
        """
        clock = cls(machine, ask, now_ms=await ask())
        await clock.look_once()
        return clock

    def monotonic(self) -> float:
        """Seconds that only go forward; the machine's."""
        return self._machine.monotonic()

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        now_ms, at = self._asked
        return now_ms + round((self._machine.monotonic() - at) * 1000)

    async def look_once(self) -> None:
        """Ask the database, and go by what it says.

        Raises:
            Unavailable: it does not answer.
        """
        before = self._machine.monotonic()
        now_ms = await self._ask()
        after = self._machine.monotonic()
        if after - before <= MAX_ROUND_TRIP_S:
            self._asked = (now_ms, (before + after) / 2)

    async def run(self) -> None:
        """Ask again and again until cancelled; while there is no answer, time goes on as it was."""
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            try:
                await self.look_once()
            except Unavailable as problem:
                logger.warning("database_clock_not_read", extra={"facts": {"problem": str(problem)}})
