"""How often a budget starts anew, and one such stretch of time (L37).

Counters are keyed by their period, so that a reset is not an operation: nothing runs at midnight.
Instants are Unix milliseconds, UTC. `periods` tells which period an instant is in.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

MAX_REMEMBERED: Final = 1024
"""Starts of periods whose keys are remembered: those that run now are few, and named by every call."""

LONGEST_KEY: Final = 25
"""`2026-11-23T183000.000000Z`; what is longer is no key, and is not remembered, whoever made it up."""

_FORMS: Final = ("%Y-%m-%d", "%Y-%m", "%Y-%m-%dT%HZ", "%Y-%m-%dT%H%MZ", "%Y-%m-%dT%H%M%S.%fZ")
"""In which a period's key tells when it starts."""


class Cadence(StrEnum):
    """How often a budget starts anew. All but window and lifetime are told by the customer's local calendar."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    ANNIVERSARY = "anniversary"
    """A month that begins on the day of the month on which the customer was added, unless another is named."""
    WINDOW = "window"
    """So long from the first use on, and again from the first use after that: no calendar tells when."""
    LIFETIME = "lifetime"


class Period(msgspec.Struct, frozen=True):
    """`[starts_at_ms, ends_at_ms)`; a lifetime starts at 0 and has no end (None)."""

    cadence: Cadence
    starts_at_ms: int
    ends_at_ms: int | None

    @property
    def key(self) -> str:
        """Names the period in an account's key, by when it starts in UTC; no colon is in it.

        `2026-11-24T13Z` (an hour), `2026-11-24`, `2026-11` (a month), `lifetime`; and
        `2026-11-23T1830Z` for one that begins elsewhere in an hour or day, `w1795521600000` for a window. Of the
        periods of one budget no two start at once, so that no two have one key, whatever its time zone was.
        """
        return _key(self.cadence, self.starts_at_ms)

    def contains(self, at_ms: int) -> bool:
        """Whether an instant is in it; the starting one is, the end is in the next."""
        return self.starts_at_ms <= at_ms and (self.ends_at_ms is None or at_ms < self.ends_at_ms)


def starts_at_ms_of(key: str) -> int | None:
    """When the period starts that a key names, in Unix milliseconds; None for a window's key, and for what is none."""
    return _start(key) if len(key) <= LONGEST_KEY else None


@lru_cache(maxsize=MAX_REMEMBERED)
def _start(key: str) -> int | None:
    if key == "lifetime":
        return 0
    for form in _FORMS:
        with suppress(ValueError):
            start = datetime.strptime(key, form).replace(tzinfo=UTC)
            if start >= EPOCH and start.strftime(form) == key:  # which digits may be missing in
                return (start - EPOCH) // timedelta(milliseconds=1)
    return None


@lru_cache(maxsize=MAX_REMEMBERED)
def _key(cadence: Cadence, starts_at_ms: int) -> str:
    if cadence is Cadence.LIFETIME:
        return "lifetime"
    if cadence is Cadence.WINDOW:
        return f"w{starts_at_ms}"
    start = EPOCH + timedelta(milliseconds=starts_at_ms)
    if start.second or start.microsecond:
        return start.strftime("%Y-%m-%dT%H%M%S.%fZ")
    if start.minute:
        return start.strftime("%Y-%m-%dT%H%MZ")
    if start.hour or cadence is Cadence.HOUR:
        return start.strftime("%Y-%m-%dT%HZ")
    return start.strftime("%Y-%m" if cadence is Cadence.MONTH and start.day == 1 else "%Y-%m-%d")
