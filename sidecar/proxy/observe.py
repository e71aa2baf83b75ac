"""The reading of an answer, and a meter for what is passed on unread."""

from __future__ import annotations

from typing import Final

from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import AnswerMeter, Ending
from sidecar.proxy.outcomes import Outcome

NOTHING_READ: Final = Usage(UsageState.ABSENT)
"""The reading of an answer that never began."""


def reading(outcome: Outcome) -> Usage:
    """What an answer says was used, for the way it ended."""
    return NOTHING_READ if outcome.meter is None else outcome.meter.usage(outcome.ending)


class Unread:
    """An `AnswerMeter` that looks at nothing, and knows what it was told."""

    def __init__(self, usage: Usage = NOTHING_READ) -> None:
        self._usage = usage

    def feed(self, piece: bytes) -> bytes:
        """The piece itself."""
        return piece

    def flush(self) -> bytes:
        """Nothing: nothing is held back."""
        return b""

    def finished(self) -> bool:
        """Never: only the provider ends it."""
        return False

    def usage(self, ending: Ending) -> Usage:
        """What it was told: without that, that nothing was read, however it ended."""
        del ending
        return self._usage


def unread(status: int, content_encoding: str, lines: bytes) -> AnswerMeter:
    """A meter for an answer that is passed on unmetered."""
    del status, content_encoding, lines
    return Unread()
