"""Periods of time over which budgets are counted (L37).

`period_at` is a pure function of cadence and instant; counters are keyed by the period that
it gives, so that a reset is not an operation. Instants are Unix milliseconds, UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec


class Cadence(StrEnum):
    """How often a budget starts anew."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    LIFETIME = "lifetime"


class Period(msgspec.Struct, frozen=True):
    """`[starts_at_ms, ends_at_ms)`; a lifetime starts at 0 and has no end (None)."""

    cadence: Cadence
    starts_at_ms: int
    ends_at_ms: int | None

    @property
    def key(self) -> str:
        """Names the period in an account's key: `2026-11-24T13Z`, `2026-11-24`, `2026-11`, `lifetime`."""
        if self.cadence is Cadence.LIFETIME:
            return "lifetime"
        start = datetime.fromtimestamp(self.starts_at_ms / 1000, UTC)
        shape = {Cadence.HOUR: "%Y-%m-%dT%HZ", Cadence.DAY: "%Y-%m-%d", Cadence.MONTH: "%Y-%m"}[self.cadence]
        return start.strftime(shape)


def period_at(cadence: Cadence, at_ms: int) -> Period:
    """The period of a cadence that contains an instant; the starting instant belongs to it."""
    if cadence is Cadence.LIFETIME:
        return Period(cadence, 0, None)
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    if cadence is Cadence.HOUR:
        start = at.replace(minute=0, second=0, microsecond=0)
        end = start + timedelta(hours=1)
    elif cadence is Cadence.DAY:
        start = at.replace(hour=0, minute=0, second=0, microsecond=0)
        end = start + timedelta(days=1)
    else:
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (start + timedelta(days=32)).replace(day=1)
    return Period(cadence, int(start.timestamp()) * 1000, int(end.timestamp()) * 1000)
