"""What can go wrong, one function each; and how it heals. Ids are those of `FAULTS.md`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.scenarios.loop import State
from tests.scenarios.pods import Pod
from tests.scenarios.world import World

if TYPE_CHECKING:
    from tests.scenarios.history import History

Fault = Callable[["History", Pod], Awaitable[None]]

FAULTS: dict[str, Fault] = {}


def fault(work: Fault) -> Fault:
    """Enter one under its name."""
    FAULTS[work.__name__] = work
    return work


async def happen(history: History) -> None:
    """Something goes wrong."""
    weights = history.mix.weights
    names = [name for name in FAULTS if weights.get(name)]
    if not names:
        return
    name = history.rng.choices(names, [weights[one] for one in names])[0]
    pod = history.rng.choice(history.world.pods)
    history.world.note("FAULT", f"{name} {pod.name}")
    await FAULTS[name](history, pod)


async def heal(world: World) -> None:
    """Nothing is wrong any more."""
    world.note("FAULT", "none any more: everything heals")
    world.weather.lost = world.weather.doubled = world.weather.late = 0.0
    for host in world.ledgers:
        host.process.go_on()
        if host.process.state is State.DEAD:
            host.start()
    for pod in world.pods:
        pod.way.is_cut_there = pod.way.is_cut_back = False
        if pod.life is None:
            continue
        pod.life.process.go_on()
        if pod.life.process.state is State.DEAD:
            pod.start()


def later(history: History, seconds: float, work: Callable[[], None]) -> None:
    """Do something in a while."""
    history.world.loop.call_later(seconds, work)


@fault
async def cut_off(history: History, pod: Pod) -> None:
    """F-03: a partition, of one direction or of both."""
    there, back = history.rng.choice(((True, True), (True, False), (False, True)))
    pod.way.is_cut_there, pod.way.is_cut_back = there, back

    def mend() -> None:
        pod.way.is_cut_there = pod.way.is_cut_back = False

    later(history, history.rng.uniform(2, 90), mend)


@fault
async def crash(history: History, pod: Pod) -> None:
    """F-31: `kill -9`; the volume survives, and the next start is on it."""
    if pod.life is None or pod.life.process.state is State.DEAD:
        return
    pod.kill()
    await asyncio.sleep(0)
    later(history, history.rng.uniform(0.5, 30), lambda: restart(pod))


def restart(pod: Pod) -> None:
    """Start it, if nobody has."""
    if pod.life is None or pod.life.process.state is State.DEAD:
        pod.start()
