"""Local times as instants."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from sidecar.core.governance.local_time import instant_of, local_at
from tests.support.instants import ms


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("UTC", "2026-11-24T00:00", "2026-11-24T00:00"),
        ("Asia/Kathmandu", "2026-11-24T00:00", "2026-11-23T18:15"),
        ("America/Los_Angeles", "2026-11-24T00:00", "2026-11-24T08:00"),
        # Missing: clocks go from 2 to 3, and in Cairo from midnight to 1.
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29T02:59:59.999", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00"),
        ("Africa/Cairo", "2026-04-24T00:00", "2026-04-23T22:00"),
        # Samoa left out a day, and Kwajalein another.
        ("Pacific/Apia", "2011-12-30T00:00", "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-30T17:00", "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-31T00:00", "2011-12-30T10:00"),
        ("Pacific/Kwajalein", "1993-08-21T12:00", "1993-08-21T12:00"),
        # Repeated: the first.
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30"),
        ("America/Havana", "2026-11-01T00:00", "2026-11-01T04:00"),
        ("America/St_Johns", "2006-10-29T00:00", "2006-10-29T02:30"),
    ],
)
def test_every_local_time_has_one_instant(zone: str, local: str, instant: str) -> None:
    """L37: of a missing time the next instant that there is, of a repeated one the first."""
    assert instant_of(datetime.fromisoformat(local), ZoneInfo(zone)) == ms(instant)


def test_a_clock_shows_local_time() -> None:
    """The same time twice where clocks go back, and no mark of which."""
    berlin = ZoneInfo("Europe/Berlin")
    first, second = ms("2026-10-25T00:30"), ms("2026-10-25T01:30")
    assert local_at(first, berlin) == local_at(second, berlin) == datetime.fromisoformat("2026-10-25T02:30")
    assert local_at(second, berlin).fold == 0


def test_the_rules_are_there_on_a_bare_machine() -> None:
    """What is installed with us is enough: no folder of the machine is looked into."""
    code = (
        "import zoneinfo; from sidecar.core.governance.zone_names import zone_names\n"
        "from sidecar.core.governance.local_time import local_at, zone_called\n"
        "print(zoneinfo.TZPATH, 'Asia/Kolkata' in zone_names(), local_at(0, zone_called('Asia/Kolkata')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONTZPATH": ""}, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "() True 1970-01-01 05:30:00\n"
