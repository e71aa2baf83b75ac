"""The simulator itself: that it is deterministic, and that what it pretends is what it says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from hashlib import sha256

import pytest

from tests.scenarios.history import run
from tests.scenarios.loop import PretendLoop, Stuck


def digest(seed: int) -> str:
    return sha256("\n".join(map(str, run(seed).history.world.trace)).encode()).hexdigest()


def test_a_seed_gives_one_history() -> None:
    """Twice in a process, and in another process with other hashes of strings, line by line the same."""
    program = "from tests.scenarios.test_simulator import digest; print(digest(3), end='')"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert digest(3) == digest(3) == other.stdout
    assert digest(3) != digest(4)


@pytest.fixture
def loop() -> PretendLoop:
    return PretendLoop()


def test_time_passes_at_once_and_in_order(loop: PretendLoop) -> None:
    """An hour takes no time; what is due at one instant runs in the order in which it was asked for."""
    seen: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.time()))

    async def all_of_them() -> None:
        await asyncio.gather(wait("a", 3600), wait("b", 60), wait("c", 60))

    loop.run_until_complete(all_of_them())
    loop.close()
    assert seen == [("b", 60.0), ("c", 60.0), ("a", 3600.0)]


def test_who_waits_for_nothing_is_told(loop: PretendLoop) -> None:
    """A simulation that hangs says so instead."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        loop.run_until_complete(wait())
    loop.finish()


def test_a_paused_process_runs_later_and_a_dead_one_never(loop: PretendLoop) -> None:
    """F-36: what it started stands still with it; a killed one does not even unwind."""
    seen: list[str] = []

    async def tick(name: str) -> None:
        try:
            for _ in range(3):
                await asyncio.sleep(1)
                seen.append(f"{name} {loop.time():g}")
        finally:
            seen.append(f"{name} unwound")

    async def start(name: str) -> None:
        await asyncio.create_task(tick(name))

    async def main() -> None:
        paused, killed = loop.new_process("paused"), loop.new_process("killed")
        paused.start(start("p"))
        killed.start(start("k"))
        await asyncio.sleep(1.5)
        paused.pause()
        killed.kill()
        await asyncio.sleep(5)
        paused.go_on()
        await asyncio.sleep(5)

    loop.run_until_complete(main())
    assert seen == ["p 1", "k 1", "p 6.5", "p 7.5", "p unwound"]
    loop.finish()
