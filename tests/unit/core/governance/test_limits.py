"""One period, and how it is named."""

from __future__ import annotations

import pytest

from sidecar.core.governance.limits import Cadence, Period, starts_at_ms_of
from tests.support.instants import ms


@pytest.mark.parametrize(
    ("cadence", "starts", "key"),
    [
        (Cadence.HOUR, "2026-11-24T13:00", "2026-11-24T13Z"),
        (Cadence.HOUR, "2026-11-24T00:00", "2026-11-24T00Z"),
        (Cadence.HOUR, "2026-11-24T13:30", "2026-11-24T1330Z"),
        (Cadence.DAY, "2026-11-24T00:00", "2026-11-24"),
        (Cadence.DAY, "2026-11-23T18:30", "2026-11-23T1830Z"),
        (Cadence.DAY, "2026-11-23T08:00", "2026-11-23T08Z"),
        (Cadence.MONTH, "2026-11-01T00:00", "2026-11"),
        (Cadence.MONTH, "2026-11-15T00:00", "2026-11-15"),
        (Cadence.MONTH, "2026-10-31T23:00", "2026-10-31T23Z"),
        (Cadence.QUARTER, "2026-10-01T00:00", "2026-10-01"),
        (Cadence.YEAR, "2026-01-01T00:00", "2026-01-01"),
        (Cadence.DAY, "1971-11-23T00:44:30", "1971-11-23T004430.000000Z"),
        (Cadence.LIFETIME, "1970-01-01T00:00", "lifetime"),
    ],
)
def test_a_key_tells_when_a_period_starts(cadence: Cadence, starts: str, key: str) -> None:
    """L37: as short as it may be; those of UTC are what they have always been, so that books stay readable."""
    assert Period(cadence, ms(starts), None).key == key
    assert ":" not in key  # an account's name is split at colons
    assert starts_at_ms_of(key) == ms(starts)


@pytest.mark.parametrize(
    "key", ["", "w1795521600000", "2026", "2026-13", "2026-11-24T25Z", "1969-12-31", "0001-01", "2" * 10**6]
)
def test_what_names_no_period_has_no_start(key: str) -> None:
    """A key comes in messages too: what is none is told, and nothing is raised (L37)."""
    assert starts_at_ms_of(key) is None


def test_a_period_has_its_start_and_not_its_end() -> None:
    """L37: the first instant belongs to a period, its end to the next."""
    period = Period(Cadence.HOUR, 1000, 2000)
    assert [period.contains(at) for at in (999, 1000, 1999, 2000)] == [False, True, True, False]
    assert Period(Cadence.LIFETIME, 0, None).contains(10**15)
