"""Calls are stamped by the ledger's time, as its answers tell it (L37)."""

from __future__ import annotations

from sidecar.app.ledger_time import LedgerTime
from sidecar.app.system import SystemClock
from tests.support.clock import FakeClock

DAY_MS = 86_400_000


def test_the_machines_clock_serves_until_the_ledger_has_told_its_own() -> None:
    """A ledger of before says nothing, and then nothing changes."""
    clock = FakeClock()
    time = LedgerTime(clock)
    time.heard(0, clock.monotonic())
    assert (time.wall_ms(), time.monotonic()) == (clock.wall_ms(), clock.monotonic())


def test_a_clock_that_is_set_moves_no_stamp() -> None:
    """L37: two stamps are as far apart as the calls were, whatever was done to the machine's clock between them."""
    clock = FakeClock()
    time = LedgerTime(clock)
    there_ms = clock.wall_ms() + 5 * DAY_MS
    time.heard(there_ms, clock.monotonic())
    assert time.wall_ms() == there_ms
    clock.advance(2.5)
    clock.set_wall(clock.wall_ms() - DAY_MS)
    assert time.wall_ms() == there_ms + 2500


def test_the_way_of_an_answer_moves_nothing() -> None:
    """What was late says little, and is believed only as far as that; a clock that was set there is followed."""
    clock = FakeClock()
    time = LedgerTime(clock)
    there_ms = clock.wall_ms()
    time.heard(there_ms, clock.monotonic())
    sent_at = clock.monotonic()
    clock.advance(8)
    time.heard(there_ms + 7900, sent_at)  # said at the very end of those eight seconds
    assert time.wall_ms() == there_ms + 8000
    time.heard(there_ms + 8000 + DAY_MS, clock.monotonic())
    assert time.wall_ms() == there_ms + 8000 + DAY_MS


def test_it_is_a_clock_of_the_machines_kind() -> None:
    """Over the real one the stamps are the wall's, and go forward."""
    clock = SystemClock()
    time = LedgerTime(clock)
    time.heard(clock.wall_ms(), clock.monotonic())
    assert abs(time.wall_ms() - clock.wall_ms()) < 60_000
    assert time.wall_ms() <= time.wall_ms()
