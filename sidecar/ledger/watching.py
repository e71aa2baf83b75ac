"""Changes that another process made to the same book.

An act is told to whoever listens here by the process that did it. Where several processes share
one book, each also looks into it: it reads the revisions of all customers and tells those that
moved. Looking takes at most one part in `REST` of the time, however many customers there are. Whoever hears that
something changed may `wake` it: then it looks as soon as it may.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from sidecar.contract.messages import Change
from sidecar.errors import Unavailable

LOOK_EVERY_S: Final = 0.5
LEAST_PAUSE_S: Final = 0.02
"""Between two looks, however often it is woken."""

REST: Final = 20

logger = logging.getLogger(__name__)


class BookWatch:
    """Tells of revisions that moved since it last looked.

    Args:
        look: reads every customer's revision.
        tell: is told of each that moved; must not block.
        monotonic: seconds that only go forward.

    Attributes:
        telling: whether it tells just now: what is told while it is, others have changed.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[dict[str, int]]],
        tell: Callable[[Change], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._look = look
        self._tell = tell
        self._monotonic = monotonic
        self._seen: dict[str, int] | None = None
        self._woken = asyncio.Event()
        self.telling = False

    def wake(self) -> None:
        """Something may have changed: look soon."""
        self._woken.set()

    async def run(self) -> None:
        """Look until cancelled. A book that cannot be read is looked at again: nothing is forgotten meanwhile."""
        while True:
            began = self._monotonic()
            self._woken.clear()
            try:
                await self.look_once()
            except Unavailable as problem:
                logger.warning("book_not_watched", extra={"facts": {"problem": str(problem)}})
            rest_s = max(LEAST_PAUSE_S, REST * (self._monotonic() - began))
            await asyncio.sleep(rest_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, LOOK_EVERY_S - rest_s)):
                    await self._woken.wait()

    async def look_once(self) -> None:
        """Tell what moved since the last time; the first time there is nothing to tell."""
        now = await self._look()
        before, self._seen = self._seen, now
        if before is not None:
            for customer, revision in now.items():
                if before.get(customer) != revision:
                    self.telling = True
                    try:
                        self._tell(Change(customer, revision))
                    finally:
                        self.telling = False
