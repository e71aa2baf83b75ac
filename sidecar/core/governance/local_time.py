"""Local times as instants, by the rules of an IANA time zone.

A clock that is put forward leaves local times out, one that is put back shows some twice. Each
local time has one instant here all the same: a missing one is the next instant that there is, a
repeated one its first (L37). The rules themselves are data, as Unicode's tables are.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from sidecar.core.governance.limits import EPOCH

_MS: Final = timedelta(milliseconds=1)


@lru_cache(maxsize=1024)
def zone_called(name: str) -> tzinfo:
    """The rules of a time zone.

    Raises:
        ValueError, zoneinfo.ZoneInfoNotFoundError: none has this name.
    """
    if name == "UTC":  # nearly everybody's: needs no rules, and a start is quicker without them
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - as above

    return ZoneInfo(name)


def local_at(at_ms: int, zone: tzinfo) -> datetime:
    """What the local clock shows at an instant, without a time zone."""
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).replace(tzinfo=None, fold=0)


def instant_of(local: datetime, zone: tzinfo) -> int:
    """The first instant at which the local clock shows a time (naive) or, leaving it out, a later one."""
    first = local.replace(tzinfo=zone)  # of a repeated time the first; of a missing one, by the rule before the gap
    at_ms = _ms(first)
    if local_at(at_ms, zone) == local:
        return at_ms
    # It is missing. By the rule after the gap it would be an instant before it: the gap is in between.
    before_ms, after_ms = _ms(first.replace(fold=1)), at_ms
    while after_ms - before_ms > 1:
        middle_ms = (before_ms + after_ms) // 2
        if local_at(middle_ms, zone) < local:
            before_ms = middle_ms
        else:
            after_ms = middle_ms
    return after_ms


def _ms(at: datetime) -> int:
    return (at.astimezone(UTC) - EPOCH) // _MS
