"""Periods."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.governance.limits import Cadence, period_at

instants = st.integers(0, 4_102_444_800_000)  # 1970 … 2100


def ms(text: str) -> int:
    """An ISO instant in UTC as Unix milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cadence", "at", "starts", "ends", "key"),
    [
        (Cadence.HOUR, "2026-11-24T13:59:59.999", "2026-11-24T13:00", "2026-11-24T14:00", "2026-11-24T13Z"),
        (Cadence.DAY, "2026-12-31T23:59:59.999", "2026-12-31", "2027-01-01", "2026-12-31"),
        (Cadence.DAY, "2027-01-01T00:00", "2027-01-01", "2027-01-02", "2027-01-01"),
        (Cadence.MONTH, "2028-02-29T12:00", "2028-02-01", "2028-03-01", "2028-02"),
        (Cadence.MONTH, "2026-12-31T23:59", "2026-12-01", "2027-01-01", "2026-12"),
    ],
)
def test_edges(cadence: Cadence, at: str, starts: str, ends: str, key: str) -> None:
    """L37: the first instant belongs to a period, its end to the next."""
    period = period_at(cadence, ms(at))
    assert (period.starts_at_ms, period.ends_at_ms, period.key) == (ms(starts), ms(ends), key)


@given(st.sampled_from([Cadence.HOUR, Cadence.DAY, Cadence.MONTH]), instants)
def test_periods_tile_time(cadence: Cadence, at_ms: int) -> None:
    """L37: every instant is in one period, and where one ends the next begins."""
    period = period_at(cadence, at_ms)
    assert period.ends_at_ms is not None
    assert period.starts_at_ms <= at_ms < period.ends_at_ms
    following = period_at(cadence, period.ends_at_ms)
    assert following.starts_at_ms == period.ends_at_ms
    assert following.key != period.key
    assert period_at(cadence, period.starts_at_ms) == period


@given(instants)
def test_a_lifetime_has_no_end(at_ms: int) -> None:
    """L37: one period for all time."""
    assert period_at(Cadence.LIFETIME, at_ms) == period_at(Cadence.LIFETIME, 0)
    assert period_at(Cadence.LIFETIME, at_ms).ends_at_ms is None
