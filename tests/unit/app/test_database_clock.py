"""The database's clock, and not the machine's."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from sidecar.app import database_clock
from sidecar.app.database_clock import MAX_ROUND_TRIP_S, DatabaseClock
from sidecar.errors import LedgerUnavailable
from tests.support.clock import FakeClock

THERE_MS = 1_800_000_000_000


async def at(now_ms: int) -> int:
    """What the database says."""
    return now_ms


async def test_it_goes_by_the_database_and_by_time_as_it_passes() -> None:
    """L38: what the machine's wall clock says, or is set to, is of no account."""
    machine = FakeClock()
    said = [THERE_MS, THERE_MS, THERE_MS + 60_000]
    clock = await DatabaseClock.following(machine, lambda: at(said.pop(0)))
    assert clock.wall_ms() == THERE_MS
    machine.set_wall(5)
    machine.advance(2.5)
    assert clock.wall_ms() == THERE_MS + 2500
    await clock.look_once()
    assert clock.wall_ms() == THERE_MS + 60_000
    assert clock.monotonic() == machine.monotonic()


async def test_a_slow_answer_is_passed_over() -> None:
    """The instant it speaks of is not known well enough; half of a quick one's time is added."""
    machine = FakeClock()
    clock = await DatabaseClock.following(machine, lambda: at(THERE_MS))

    async def after(seconds: float) -> int:
        machine.advance(seconds)
        return THERE_MS + 500_000

    for seconds, expected in ((MAX_ROUND_TRIP_S + 1, THERE_MS + 2000), (0.5, THERE_MS + 500_250)):
        clock._ask = lambda seconds=seconds: after(seconds)  # type: ignore[misc]
        await clock.look_once()
        assert clock.wall_ms() == expected


async def test_without_an_answer_time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next answer is taken."""
    monkeypatch.setattr(database_clock, "ASK_EVERY_S", 0)
    machine, asked = FakeClock(), 0
    done = asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise LedgerUnavailable("away")
        if asked == 5:
            done.set()
        return THERE_MS + asked

    clock = await DatabaseClock.following(machine, ask)
    task = asyncio.create_task(clock.run())
    await done.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert clock.wall_ms() >= THERE_MS + 4
