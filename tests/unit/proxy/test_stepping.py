"""Coroutines without a task: what waits goes on from the callback that it waited for."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.proxy.stepping import Pause, Stepper, aside


def stepped(work: object, ends: list[str]) -> Stepper:
    stepper = Stepper(work, lambda: ends.append("over"))  # type: ignore[arg-type]
    stepper.resume()
    return stepper


def test_it_runs_until_it_waits_and_goes_on_inside_the_call_that_ends_the_pause() -> None:
    """No loop is needed: everything happens in the callers' own calls, in order."""
    pause: Pause[int] = Pause()
    seen: list[int] = []
    ends: list[str] = []

    async def work() -> None:
        seen.append(0)
        seen.append(await pause)
        seen.append(await pause)  # it is over: it does not wait again

    stepped(work(), ends)
    assert (seen, ends) == ([0], [])
    pause.set(7)
    pause.set(8)
    assert (seen, ends) == ([0, 7, 7], ["over"])


def test_a_failed_pause_raises_where_it_is_waited_for() -> None:
    """The exception is the waiter's to handle."""
    pause: Pause[int] = Pause()
    seen: list[str] = []

    async def work() -> None:
        try:
            await pause
        except ValueError:
            seen.append("heard")

    stepped(work(), [])
    pause.fail(ValueError())
    assert seen == ["heard"]


def test_a_resumption_that_nobody_waits_for_is_passed_over() -> None:
    """While it runs, and while its pause has not ended."""
    pause: Pause[int] = Pause()
    ends: list[str] = []
    stepper: list[Stepper] = []

    async def work() -> None:
        if stepper:
            stepper[0].resume()
        await pause

    stepper.append(stepped(work(), ends))
    stepper[0].resume()
    assert ends == []
    pause.set(1)
    assert ends == ["over"]


async def test_futures_sleeps_and_tasks_are_waited_for_as_in_a_task() -> None:
    """A plain future, a sleep of 0, a timeout (which asyncio wants a task for) aside."""
    future = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    seen: list[object] = []

    async def slow() -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.01)
        return "slept"

    async def work() -> None:
        seen.append(await future)
        await asyncio.sleep(0)
        seen.append(await aside(slow()))

    Stepper(work(), over.set).resume()
    asyncio.get_running_loop().call_soon(future.set_result, "set")
    await over.wait()
    assert seen == ["set", "slept"]


async def test_in_a_task_everything_is_awaited_there() -> None:
    """The same code serves a caller that has a task: tests, and what is not hot."""
    pause: Pause[str] = Pause()
    asyncio.get_running_loop().call_soon(pause.set, "set")

    async def work() -> str:
        return await aside(asyncio.sleep(0, "aside")) + await pause

    assert await work() == "asideset"


async def test_cancelling_cancels_what_went_aside_and_discards_what_comes_all_the_same() -> None:
    """L20: a hold that was got for somebody who has gone must not stay."""
    begun, over = asyncio.Event(), asyncio.Event()
    discarded: list[str] = []

    async def stubborn() -> str:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "got it all the same"
        return "never"

    async def work() -> None:
        await aside(stubborn(), discard=discarded.append)

    stepper = Stepper(work(), over.set)
    stepper.resume()
    await begun.wait()
    stepper.cancel()
    assert over.is_set()
    await asyncio.sleep(0.01)
    assert discarded == ["got it all the same"]


def test_a_fault_ends_it_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The connection is then closed by whoever is told of the end."""
    ends: list[str] = []

    async def work() -> None:
        raise ValueError("ours")

    stepped(work(), ends)
    assert ends == ["over"]
    assert "stepped_work_failed" in caplog.text
