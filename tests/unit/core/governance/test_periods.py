"""Which period an instant is in: examples, and against somebody who watches a clock."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.governance.limits import Cadence, Period
from sidecar.core.governance.periods import UTC_ONLY, Calendar, Weekday, Zones, next_period, period_at
from tests.support.calendar_walk import HOUR_MS, period_by_walking, shown
from tests.support.instants import ms

ZONES = (
    "UTC", "Europe/Berlin", "America/Los_Angeles", "Etc/GMT+12", "Pacific/Kiritimati",
    # Clocks change at midnight, or one minute past it.
    "Africa/Cairo", "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "America/Asuncion", "Atlantic/Azores",
    "America/St_Johns", "Asia/Gaza", "Asia/Tehran",
    # Parts of an hour; a change by half an hour, or by two hours; time zones that were moved.
    "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Pyongyang",
    "America/Caracas", "Africa/Casablanca",
    # Days that were left out.
    "Pacific/Apia", "Pacific/Kwajalein", "Pacific/Enderbury",
)  # fmt: skip

DAY_MS = 24 * HOUR_MS
TIMED = tuple(cadence for cadence in Cadence if cadence not in (Cadence.LIFETIME, Cadence.WINDOW))


@lru_cache
def changes(zone: str, year: int) -> tuple[int, ...]:
    """Days of a year (their ends, in UTC) on which clocks were changed."""
    begin, info = ms(f"{year}-01-01"), ZoneInfo(zone)
    days = [begin + day * DAY_MS for day in range(367)]
    return tuple(after for day, after in pairwise(days) if shown(after, info) - shown(day, info) != timedelta(days=1))


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    """A time zone and an instant from 1975 to 2037: half of the time near one at which its clocks changed."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(1975, 2036))
    changed = changes(zone, year)
    near = draw(st.sampled_from(changed)) if changed else None
    if near is not None and draw(st.booleans()):
        return zone, near + draw(st.integers(-50 * HOUR_MS, 26 * HOUR_MS))
    return zone, draw(st.integers(ms(f"{year}-01-01"), ms(f"{year + 1}-01-02")))


def anchors(cadence: Cadence) -> st.SearchStrategy[str]:
    """Where periods of a cadence may begin."""
    if cadence is Cadence.WEEK:
        return st.sampled_from(["", *Weekday])
    if cadence in (Cadence.HOUR, Cadence.DAY):
        return st.just("")
    dates = st.dates().map(str) | st.sampled_from(
        ["2026-01-31", "2024-02-29", "2025-12-31", "2025-11-30", "1999-03-29"]
    )
    return st.just("") | dates.filter(lambda text: "1900" < text < "2100")


def at(calendar: Calendar, instant: str) -> Period:
    return period_at(calendar, ms(instant))


def in_zone(cadence: Cadence, zone: str, anchor: str = "") -> Calendar:
    return Calendar(cadence, anchor, ((0, zone),))


@pytest.mark.parametrize(
    ("calendar", "instant", "starts", "ends"),
    [
        (Calendar(Cadence.HOUR), "2026-11-24T13:59:59.999", "2026-11-24T13:00", "2026-11-24T14:00"),
        (Calendar(Cadence.DAY), "2026-12-31T23:59:59.999", "2026-12-31", "2027-01-01"),
        (Calendar(Cadence.DAY), "2027-01-01T00:00", "2027-01-01", "2027-01-02"),
        (Calendar(Cadence.MONTH), "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
        (Calendar(Cadence.MONTH), "2026-12-31T23:59", "2026-12-01", "2027-01-01"),
        (Calendar(Cadence.QUARTER), "2026-11-24", "2026-10-01", "2027-01-01"),
        (Calendar(Cadence.YEAR), "2026-11-24", "2026-01-01", "2027-01-01"),
        (Calendar(Cadence.YEAR, "2020-04-06"), "2026-04-05", "2025-04-06", "2026-04-06"),
        (Calendar(Cadence.WEEK), "2026-11-22T23:59", "2026-11-16", "2026-11-23"),
        (Calendar(Cadence.WEEK), "2026-11-23", "2026-11-23", "2026-11-30"),
        (Calendar(Cadence.WEEK, "sunday"), "2026-11-22", "2026-11-22", "2026-11-29"),
        # The 31st clamps and returns.
        (Calendar(Cadence.ANNIVERSARY, "2026-01-31"), "2026-02-27", "2026-01-31", "2026-02-28"),
        (Calendar(Cadence.ANNIVERSARY, "2026-01-31"), "2026-02-28", "2026-02-28", "2026-03-31"),
        (Calendar(Cadence.ANNIVERSARY, "2026-01-31"), "2026-04-30", "2026-04-30", "2026-05-31"),
        (Calendar(Cadence.YEAR, "2024-02-29"), "2026-12-01", "2026-02-28", "2027-02-28"),
        (Calendar(Cadence.YEAR, "2024-02-29"), "2028-02-29", "2028-02-29", "2029-02-28"),
        # On the local calendar.
        (in_zone(Cadence.DAY, "Asia/Kolkata"), "2026-11-24T18:29", "2026-11-23T18:30", "2026-11-24T18:30"),
        (in_zone(Cadence.HOUR, "Asia/Kolkata"), "2026-11-24T18:29", "2026-11-24T17:30", "2026-11-24T18:30"),
        (in_zone(Cadence.MONTH, "America/Los_Angeles"), "2026-11-15", "2026-11-01T07:00", "2026-12-01T08:00"),
        # Days of 23 and of 25 hours; an hour shown twice is one period.
        (in_zone(Cadence.DAY, "Europe/Berlin"), "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        (in_zone(Cadence.DAY, "Europe/Berlin"), "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        (in_zone(Cadence.HOUR, "Europe/Berlin"), "2026-10-25T01:30", "2026-10-25T00:00", "2026-10-25T02:00"),
        # Clocks change at midnight, forwards and back; and at a minute past it: Sunday has begun when it is Saturday
        # again.
        (in_zone(Cadence.DAY, "Africa/Cairo"), "2026-04-24T12:00", "2026-04-23T22:00", "2026-04-24T21:00"),
        (in_zone(Cadence.DAY, "America/Havana"), "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-02T05:00"),
        (in_zone(Cadence.DAY, "America/St_Johns"), "2006-10-29T03:00", "2006-10-29T02:30", "2006-10-30T03:30"),
        # Samoa had no 30 December 2011.
        (in_zone(Cadence.DAY, "Pacific/Apia"), "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        (in_zone(Cadence.DAY, "Pacific/Apia"), "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),
        (in_zone(Cadence.MONTH, "Pacific/Apia", "2011-01-30"), "2011-12-31", "2011-12-30T10:00", "2012-01-29T10:00"),
    ],
)  # fmt: skip
def test_edges(calendar: Calendar, instant: str, starts: str, ends: str) -> None:
    """L37: the first instant belongs to a period, its end to the next."""
    period = at(calendar, instant)
    assert (period.starts_at_ms, period.ends_at_ms) == (ms(starts), ms(ends))


@given(place=places(), cadence=st.sampled_from(TIMED), data=st.data())
@example(place=("America/St_Johns", ms("2006-10-29T03:00")), cadence=Cadence.DAY, data=None)
@example(place=("Pacific/Apia", ms("2011-12-30T10:00")), cadence=Cadence.DAY, data=None)
@settings(max_examples=150)
def test_periods_are_what_somebody_sees_who_watches_the_clock(
    place: tuple[str, int], cadence: Cadence, data: st.DataObject | None
) -> None:
    """L37: start and end are where a slow walk through time sees a new hour, day, week … for the first time."""
    zone, at_ms = place
    anchor = "" if data is None else data.draw(anchors(cadence))
    period = period_at(in_zone(cadence, zone, anchor), at_ms)
    assert (period.starts_at_ms, period.ends_at_ms) == period_by_walking(cadence, anchor, ZoneInfo(zone), at_ms)


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Calendar, int]:
    """A calendar whose time zone was changed some times, and an instant in the years around that."""
    zone, at_ms = draw(places())
    cadence = draw(st.sampled_from(TIMED))
    around = {Cadence.HOUR: 1, Cadence.DAY: 3, Cadence.WEEK: 20}.get(cadence, 400) * DAY_MS
    instants = draw(st.lists(st.integers(max(1, at_ms - around), at_ms + around // 3), max_size=4).map(sorted))
    zones: Zones = ((0, zone), *((one, draw(st.sampled_from(ZONES))) for one in instants))
    return Calendar(cadence, draw(anchors(cadence)), zones), at_ms


@given(calendars())
@settings(max_examples=200)
def test_periods_tile_time(case: tuple[Calendar, int]) -> None:
    """L37: every instant is in one period, where it ends the next begins, and each has a key of its own."""
    calendar, at_ms = case
    period = period_at(calendar, at_ms)
    seen = {period.key}
    assert period.contains(at_ms)
    for _ in range(6):
        assert period.ends_at_ms is not None
        assert period_at(calendar, period.starts_at_ms) == period
        assert period_at(calendar, period.ends_at_ms - 1) == period
        following = next_period(calendar, period)
        assert following is not None
        assert following.starts_at_ms == period.ends_at_ms
        assert following.key not in seen
        seen.add(following.key)
        period = following


def live_through(calendar: Calendar, until_ms: int) -> Period:
    """The period at an instant, by living from the first change of time zone to it, one period after another."""

    def plain(zone: str, at_ms: int) -> tuple[int, int]:
        period = period_at(in_zone(calendar.cadence, zone, calendar.anchor), at_ms)
        assert period.ends_at_ms is not None
        return period.starts_at_ms, period.ends_at_ms

    zone = calendar.zones[0][1]
    start, end = plain(zone, min([until_ms, *(since for since, _ in calendar.zones[1:])]))
    while end <= until_ms:
        told = [name for since, name in calendar.zones if since < end][-1]
        ordinary_start, ordinary_end = plain(told, end)
        if told != zone and ordinary_end - end < (ordinary_end - ordinary_start) / 2:
            ordinary_end = plain(told, ordinary_end)[1]
        zone, start, end = told, end, ordinary_end
    return Period(calendar.cadence, start, end)


@given(calendars())
@settings(max_examples=200)
def test_a_changed_time_zone_acts_from_the_next_period_on(case: tuple[Calendar, int]) -> None:
    """L37: the running period ends when it was told to; the next ends with one of the new time zone."""
    calendar, at_ms = case
    if len(calendar.zones) > 1:
        assert period_at(calendar, at_ms) == live_through(calendar, at_ms)


@pytest.mark.parametrize(
    ("zone", "ends"),
    [
        ("Asia/Tokyo", "2026-12-31T15:00"),  # nine hours less than December in UTC
        ("America/Los_Angeles", "2027-01-01T08:00"),  # and not at 2026-12-01T08:00, eight hours after it began
    ],
)
def test_the_period_after_a_change_is_no_sliver(zone: str, ends: str) -> None:
    """L37: November runs on to its end in UTC; the next period is nearly a month, and has one limit."""
    calendar = Calendar(Cadence.MONTH, "", (*UTC_ONLY, (ms("2026-11-24"), zone)))
    running = at(calendar, "2026-11-30T23:59")
    assert (running.starts_at_ms, running.ends_at_ms) == (ms("2026-11-01"), ms("2026-12-01"))
    following = at(calendar, "2026-12-02")
    assert (following.starts_at_ms, following.ends_at_ms) == (ms("2026-12-01"), ms(ends))
    assert at(calendar, "2026-10-31") == at(Calendar(Cadence.MONTH), "2026-10-31")  # the past stays as it was


def test_a_time_zone_set_and_taken_back_is_as_if_never_set() -> None:
    """L37: what counts is what is set when a period ends."""
    there_and_back = (*UTC_ONLY, (ms("2026-11-24T10:00"), "Asia/Tokyo"), (ms("2026-11-24T11:00"), "UTC"))
    for hour in range(0, 72, 5):
        instant = ms("2026-11-23") + hour * HOUR_MS
        assert period_at(Calendar(Cadence.DAY, "", there_and_back), instant) == period_at(
            Calendar(Cadence.DAY), instant
        )


def test_a_time_zone_set_as_a_period_begins_acts_after_it() -> None:
    """L37: at its first instant a period runs already, by what was told before."""
    zones = (*UTC_ONLY, (ms("2026-11-24T10:00"), "Asia/Tokyo"), (ms("2026-11-25"), "Etc/GMT+12"))
    period = at(Calendar(Cadence.DAY, "", zones), "2026-11-25")
    assert (period.starts_at_ms, period.ends_at_ms) == (ms("2026-11-25"), ms("2026-11-25T15:00"))
    following = at(Calendar(Cadence.DAY, "", zones), "2026-11-26")
    assert (following.starts_at_ms, following.ends_at_ms) == (ms("2026-11-25T15:00"), ms("2026-11-26T12:00"))


def test_a_time_zone_set_in_an_hour_that_comes_twice_acts_after_the_day_that_runs() -> None:
    """L37: in St John's it was Saturday again when Sunday had begun; Sunday is the one that runs on."""
    zones = ((0, "America/St_Johns"), (ms("2006-10-29T03:00"), "UTC"))
    period = at(Calendar(Cadence.DAY, "", zones), "2006-10-29T03:00")
    assert (period.starts_at_ms, period.ends_at_ms) == (ms("2006-10-29T02:30"), ms("2006-10-30T03:30"))


def test_no_calendar_tells_a_window() -> None:
    """L37: it begins when the ledger first lends on it."""
    with pytest.raises(ValueError, match="no calendar"):
        period_at(Calendar(Cadence.WINDOW), 0)


@given(st.integers(0, 4_102_444_800_000), st.sampled_from(ZONES))
def test_a_lifetime_has_no_end(at_ms: int, zone: str) -> None:
    """L37: one period for all time, wherever."""
    period = period_at(in_zone(Cadence.LIFETIME, zone), at_ms)
    assert (period.starts_at_ms, period.ends_at_ms, period.key) == (0, None, "lifetime")
    assert next_period(in_zone(Cadence.LIFETIME, zone), period) is None
