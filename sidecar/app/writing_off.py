"""In the background of a ledger: what nobody was heard of for the write-off age is written off (L46)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from sidecar.errors import LedgerUnavailable

LOOK_EVERY_S: Final = 600.0
"""It is looked for so often: what is a day old may be that much older."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def written_off(write_off: Callable[[], Awaitable[int]], every_s: float = LOOK_EVERY_S) -> AsyncIterator[None]:
    """Write off now and then, for as long as a block runs."""
    looking = asyncio.create_task(_run(write_off, every_s))
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _run(write_off: Callable[[], Awaitable[int]], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await write_off()
        except LedgerUnavailable as problem:
            logger.warning("write_off_waits", extra={"facts": {"problem": str(problem)}})
        except Exception:  # whatever it is, the next look is made
            logger.exception("write_off_failed")
