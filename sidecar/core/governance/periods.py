"""In which period of a budget an instant is: a pure function of cadence, anchor, time zone and instant (L37).

Periods are counted on the local calendar: the number of days, weeks or months since some date, each
beginning when the local clock first shows its first midnight (or hour) or a later time. So a day has
23 or 25 hours where clocks change, a day that was left out has no period, and an hour that is shown
twice is one period. Every instant is in exactly one.

A customer's time zone can be changed, and then the past must stay as it was: what was counted is keyed
by period. So the period that runs goes on until its end, as was told; the next one begins there, and
ends with a period of the new time zone: with the one that runs in it then, or if less than half of that
is left, with the one after it. From then on the new time zone alone tells. A period is thus never
shorter than half of an ordinary one, since it has the whole limit.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from sidecar.core.governance.limits import Cadence, Period
from sidecar.core.governance.local_time import instant_of, local_at, zone_called

Zones = tuple[tuple[int, str], ...]
"""A customer's time zones: since when (Unix ms; the first one 0) and which, oldest first; never empty."""

UTC_ONLY: Final[Zones] = ((0, "UTC"),)

SLOT_MS: Final = 900_000
"""A quarter of an hour: what is remembered for an instant is remembered for all of it."""


class Weekday(StrEnum):
    """On which a week can start."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


MONTHS: Final = {Cadence.MONTH: 1, Cadence.ANNIVERSARY: 1, Cadence.QUARTER: 3, Cadence.YEAR: 12}
"""How many months the cadences are long that are counted in months, and may begin on any day of one."""


class Calendar(msgspec.Struct, frozen=True):
    """What tells a budget's periods.

    `anchor` is a weekday for weeks, and for what is counted in months the local date (`2026-01-31`) of
    some period's first day: where a month has no such day, its last one stands for it. Empty: Monday;
    the first of a month, of January for years and quarters.
    """

    cadence: Cadence
    anchor: str = ""
    zones: Zones = UTC_ONLY


def period_at(calendar: Calendar, at_ms: int) -> Period:
    """The period that contains an instant; its first instant does belong to it, its end to the next.

    Args:
        calendar: of the budget.
        at_ms: Unix milliseconds, from 1970 to the year 9990.

    Raises:
        ValueError: an anchor that is none of its cadence's, a time zone that is not known, or a window.
    """
    if calendar.cadence is Cadence.LIFETIME:
        return Period(Cadence.LIFETIME, 0, None)
    if calendar.cadence is Cadence.WINDOW:
        raise ValueError("no calendar tells when a window begins")
    period = _in_slot(calendar, at_ms // SLOT_MS)
    while period.ends_at_ms is not None and period.ends_at_ms <= at_ms:
        period = _through_zones(calendar, period.ends_at_ms)
    return period


def next_period(calendar: Calendar, period: Period) -> Period | None:
    """The one after a period; None: there is no end to it."""
    return None if period.ends_at_ms is None else period_at(calendar, period.ends_at_ms)


@lru_cache(maxsize=4096)
def _in_slot(calendar: Calendar, slot: int) -> Period:
    return _through_zones(calendar, slot * SLOT_MS)


def _through_zones(calendar: Calendar, at_ms: int) -> Period:
    """The period at an instant, by the time zone that rules then."""
    zones = calendar.zones
    rule = _Rule(calendar.cadence, calendar.anchor, zones[0][1])
    begun_ms: int | None = None  # when the rule's first period began; None: it has always been
    for number, (set_at_ms, name) in enumerate(zones[1:], start=1):
        if set_at_ms > at_ms:
            break
        running = _ruled(rule, begun_ms, set_at_ms)
        if running.contains(at_ms):
            return running
        end_ms = running.ends_at_ms
        if end_ms is None or any(later_ms < end_ms for later_ms, _ in zones[number + 1 :]):
            continue  # changed again before it could act
        rule, begun_ms = _Rule(calendar.cadence, calendar.anchor, name), end_ms
    return _ruled(rule, begun_ms, at_ms)


class _Rule(msgspec.Struct, frozen=True):
    cadence: Cadence
    anchor: str
    zone: str


def _ruled(rule: _Rule, begun_ms: int | None, at_ms: int) -> Period:
    """The period at an instant by one time zone, which began to tell periods at `begun_ms`, the first one's start."""
    if begun_ms is not None:
        first = _plain(rule, begun_ms)
        left_ms, whole_ms = _end(first) - begun_ms, _end(first) - first.starts_at_ms
        ends_at_ms = _end(first) if 2 * left_ms >= whole_ms else _end(_plain(rule, _end(first)))
        if at_ms < ends_at_ms:
            return Period(rule.cadence, begun_ms, ends_at_ms)
    return _plain(rule, at_ms)


def _end(period: Period) -> int:
    if period.ends_at_ms is None:
        raise ValueError(f"a {period.cadence} does not end")
    return period.ends_at_ms


def _plain(rule: _Rule, at_ms: int) -> Period:
    """The period at an instant by one time zone that has always been."""
    zone = zone_called(rule.zone)
    boundary = _boundaries(rule)
    number = boundary.number(local_at(at_ms, zone))

    def start(one: int) -> int:
        return instant_of(boundary.start(one), zone)

    # Never too large, as what the clock shows has begun. But a clock that was put back shows a period
    # that is over; and one whose whole time was left out is over where it begins.
    while start(number + 1) <= at_ms:
        number += 1
    return Period(rule.cadence, start(number), start(number + 1))


class _Boundaries(msgspec.Struct, frozen=True):
    """Periods by number, on the local calendar: in which a local time is, and when one begins."""

    number: Callable[[datetime], int]
    start: Callable[[int], datetime]


@lru_cache(maxsize=1024)
def _boundaries(rule: _Rule) -> _Boundaries:
    midnight = datetime(1970, 1, 1)  # noqa: DTZ001 - local times of whatever zone
    if rule.cadence is Cadence.HOUR:
        hour = timedelta(hours=1)
        return _Boundaries(lambda local: (local - midnight) // hour, lambda number: midnight + number * hour)
    if rule.cadence is Cadence.DAY:
        day = timedelta(days=1)
        return _Boundaries(lambda local: (local - midnight) // day, lambda number: midnight + number * day)
    if rule.cadence is Cadence.WEEK:
        weekday = list(Weekday).index(Weekday(rule.anchor or Weekday.MONDAY))
        week, first = timedelta(days=7), midnight + timedelta(days=weekday - midnight.weekday())
        return _Boundaries(lambda local: (local - first) // week, lambda number: first + number * week)
    months = MONTHS[rule.cadence]
    anchor = date.fromisoformat(rule.anchor) if rule.anchor else date(1970, 1, 1)
    begin = anchor.year * 12 + anchor.month - 1

    def start(number: int) -> datetime:
        year, month = divmod(begin + number * months, 12)
        return datetime(year, month + 1, min(anchor.day, monthrange(year, month + 1)[1]))  # noqa: DTZ001 - as above

    def number(local: datetime) -> int:
        nearly = (local.year * 12 + local.month - 1 - begin) // months
        return nearly if start(nearly) <= local else nearly - 1

    return _Boundaries(number, start)
