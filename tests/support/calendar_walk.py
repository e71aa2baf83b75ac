"""What a person does who looks at a clock and a calendar all day: the periods of time, slowly and obviously.

It goes through time hour by hour (minute by minute where the clock did not simply go on by an hour, or
where a period begins), remembers the latest time that the clock has shown, and notes when that falls
into a new period.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MONTHS = {"month": 1, "anniversary": 1, "quarter": 3, "year": 12}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LONGEST_HOURS = {"hour": 60, "day": 24 * 4, "week": 24 * 16, "quarter": 24 * 190, "year": 24 * 740}
"""How far to look: a period, the one before, and some more. Months: as many days as below."""


def shown(at_ms: int, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def first_day(day: date, cadence: str, anchor: str) -> date:
    """The first day of the period that a local day is in: go back until there is one."""
    while not is_first_day(day, cadence, anchor):
        day -= timedelta(days=1)
    return day


def is_first_day(day: date, cadence: str, anchor: str) -> bool:
    """Whether periods begin on this local day."""
    if cadence == "week":
        return day.weekday() == WEEKDAYS.index(anchor or "monday")
    if cadence not in MONTHS:
        return True
    begin = date.fromisoformat(anchor or "2001-01-01")
    last = monthrange(day.year, day.month)[1]
    months_on = (day.year - begin.year) * 12 + day.month - begin.month
    return months_on % MONTHS[cadence] == 0 and day.day == min(begin.day, last)


def label(cadence: str, anchor: str) -> Callable[[datetime], object]:
    """What tells the period of a local time from any other."""
    if cadence == "hour":
        return lambda local: (local.date(), local.hour)
    known: dict[date, date] = {}

    def of(local: datetime) -> object:
        day = local.date()
        if day not in known:
            known[day] = first_day(day, cadence, anchor)
        return known[day]

    return of


def starts(cadence: str, anchor: str, zone: ZoneInfo, from_ms: int, to_ms: int) -> Iterator[int]:
    """Every instant after one and up to another at which a period begins; both fall on a minute."""
    of = label(cadence, anchor)
    at_ms, latest = from_ms, shown(from_ms, zone)
    while at_ms < to_ms:
        local = shown(at_ms + HOUR_MS, zone)
        if local - shown(at_ms, zone) == timedelta(hours=1) and local > latest and of(local) == of(latest):
            at_ms, latest = at_ms + HOUR_MS, local
            continue
        for _ in range(60):
            at_ms += MINUTE_MS
            local = shown(at_ms, zone)
            if local > latest:
                if of(local) != of(latest):
                    yield at_ms
                latest = local


def period_by_walking(cadence: str, anchor: str, zone: ZoneInfo, at_ms: int) -> tuple[int, int]:
    """Start and end of the period in which an instant is."""
    far = LONGEST_HOURS.get(cadence, 24 * 65) * HOUR_MS
    begin = (at_ms - far) // HOUR_MS * HOUR_MS
    found = list(starts(cadence, anchor, zone, begin, at_ms + far))
    return max(one for one in found if one <= at_ms), min(one for one in found if one > at_ms)
