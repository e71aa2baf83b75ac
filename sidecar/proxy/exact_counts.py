"""Counts prompts off the loop, for calls that their bound would refuse.

One thread counts; a few calls may wait for it, and none for long. Beyond that the bound stays as it
is, so a flood of calls that would be refused anyway takes one thread's time and no more.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sidecar.core.governance.decisions import Reason
from sidecar.providers.dialect import RequestFacts
from sidecar.providers.exact_tokens import CHAT, COUNTED_PROTOCOLS, Tokenizer, countable, counted

WAITING_MAX: Final = 8
"""Calls whose prompt is being counted or waits for it; the next keeps its bound."""

TIMEOUT_S: Final = 1.0
"""How long a call waits for its count, the first loading of the vocabulary among it."""

PROVIDER: Final = "openai"
"""Whose models are counted: another's of the same name may have another vocabulary."""

_HELPED: Final = frozenset(
    {
        Reason.REQUEST_EXCEEDS_BUDGET,
        Reason.BUDGET_EXCEEDED,
        Reason.BUDGET_IN_FLIGHT,
        Reason.CREDITS_EXHAUSTED,
        Reason.RATE_LIMITED,  # of tokens: nobody asks for another
    }
)

logger = logging.getLogger(__name__)


class ExactCounts:
    """Lowers bounds by counting. `close` ends its thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")
        self._waiting = 0
        self._failed = False

    def may_help(self, reason: Reason, *, provider: str, protocol: str) -> bool:
        """Whether a call refused for this could run with a lower bound that counting may prove."""
        return (
            reason in _HELPED and provider == PROVIDER and protocol in COUNTED_PROTOCOLS and self._waiting < WAITING_MAX
        )

    async def lower(self, facts: RequestFacts, protocol: str = CHAT) -> RequestFacts | None:
        """The request with a lower bound of its prompt; None where the count proves none, or came too late."""
        found = countable(facts, protocol)
        if found is None or found.frame_tokens >= facts.ceiling.input_tokens:
            return None
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._thread, self._tokenizer.count, found.vocabulary, found.texts
        )
        work.add_done_callback(self._done)
        try:
            tokens = await asyncio.wait_for(asyncio.shield(work), TIMEOUT_S)
        except TimeoutError:
            return None
        except Exception as fault:
            if not self._failed:  # once: it may be so for every call
                self._failed = True
                logger.warning("tokens_not_counted", extra={"facts": {"fault": type(fault).__name__}})
            return None
        return counted(facts, found, tokens)

    def close(self) -> None:
        """Count no more; does not wait for what is being counted."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _done(self, work: asyncio.Future[int]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # looked at, should nobody wait any more
