"""What is given up as memory runs out, in which order, and when it is taken back (F-34)."""

from __future__ import annotations

from typing import cast

import pytest

from sidecar.proxy.forward import Exchange
from sidecar.proxy.pressure import FEW_CALLS, LOOK_EVERY_S, Pressure, Step, step_at
from sidecar.proxy.sweep import Sweep, Watched


class Stream(Exchange):
    """An exchange that is idle or not, and can be ended."""

    __slots__ = ("_idle", "ended")

    def __init__(self, *, idle: bool) -> None:
        self._idle = idle
        self.ended = False

    def is_idle(self, now: float) -> bool:
        return self._idle and not self.ended

    def shed(self) -> None:
        self.ended = True


class Timer:
    """What is watched, in order."""

    def __init__(self) -> None:
        self.watched: list[Watched] = []

    def watch(self, thing: Watched) -> None:
        self.watched.append(thing)

    def newest_first(self) -> list[Watched]:
        return self.watched[::-1]


def pressure_of(percents: list[int | None], timer: Timer) -> Pressure:
    """One that reads these, one after another."""
    return Pressure(lambda: percents.pop(0), cast(Sweep, timer))


@pytest.mark.parametrize(
    ("percent", "before", "step"),
    [
        (69, Step.EASE, Step.EASE),
        (70, Step.EASE, Step.HITS_ONLY),
        (85, Step.EASE, Step.CLOSED),
        (95, Step.EASE, Step.SHEDDING),
        (130, Step.EASE, Step.SHEDDING),
        (90, Step.SHEDDING, Step.SHEDDING),
        (89, Step.SHEDDING, Step.CLOSED),
        (80, Step.CLOSED, Step.CLOSED),
        (79, Step.CLOSED, Step.HITS_ONLY),
        (65, Step.HITS_ONLY, Step.HITS_ONLY),
        (64, Step.SHEDDING, Step.EASE),
    ],
)
def test_steps(percent: int, before: Step, step: Step) -> None:
    """A step is reached at its share, and left five in a hundred below it."""
    assert step_at(percent, before) is step


def test_a_few_calls_are_let_in_whatever_the_step() -> None:
    """F-34: memory that does not go back to the kernel must not shut the sidecar for good."""
    pressure = pressure_of([72, 86, 10], timer := Timer())
    assert timer.watched == [pressure]
    assert pressure.takes_misses(10_000)
    assert pressure.takes_new(10_000)
    pressure.check(1.0)
    assert not pressure.takes_misses(FEW_CALLS + 1)
    assert pressure.takes_misses(FEW_CALLS)
    assert pressure.takes_new(10_000)
    pressure.check(2.0)
    assert not pressure.takes_new(FEW_CALLS + 1)
    assert not pressure.takes_misses(FEW_CALLS + 1)
    assert pressure.takes_new(FEW_CALLS)
    assert pressure.takes_misses(FEW_CALLS)
    pressure.check(2.0 + LOOK_EVERY_S / 2)
    assert not pressure.takes_new(FEW_CALLS + 1), "it looks every so often"
    pressure.check(3.0)
    assert pressure.takes_misses(10_000)


def test_idle_streams_are_ended_newest_first_a_part_at_each_look() -> None:
    """F-34: one of twenty, and those that bring something are left alone."""
    timer = Timer()
    pressure = pressure_of([96] * 3 + [None], timer)
    streams = [Stream(idle=number % 2 == 0) for number in range(80)]
    for stream in streams:
        timer.watch(stream)
    pressure.check(1.0)
    assert [number for number, stream in enumerate(streams) if stream.ended] == [76, 78]
    pressure.check(2.0)
    pressure.check(3.0)
    assert [number for number, stream in enumerate(streams) if stream.ended] == [72, 74, 76, 78]
    assert not any(stream.ended for stream in streams[1::2])
    pressure.check(4.0)
    assert pressure.step is Step.SHEDDING, "what cannot be read changes nothing"


def test_without_a_limit_nothing_is_refused() -> None:
    """And nothing is read."""
    assert Pressure().takes_new(10**6)
    assert Pressure().takes_misses(10**6)
