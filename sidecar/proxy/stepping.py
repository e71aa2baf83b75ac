"""Running a coroutine without a task, for what nearly never waits.

A task costs several microseconds for each request: its own making, a trip through the loop's queue for
each wake-up, and whatever the caches forget meanwhile. A request that finds its leases here and a
connection idle waits exactly once, for the provider. So its coroutine is stepped by hand: in the callback
that brought the request until it waits on a `Pause`, and from the callback that ends the pause to its end.

What waits in earnest (a connection to be made, the ledger, a body that trickles) goes `aside`, into a task
of its own: asyncio's timeouts want one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_UNSET: Final = object()


class _Now:
    """Whether what runs now is stepped; else it runs in a task. (Asking asyncio costs more than the step.)"""

    stepping = False


class Pause(Generic[T]):
    """Something to wait for once, by one waiter: `set` or `fail` ends it; a second end is passed over."""

    __slots__ = ("_error", "_resume", "_value")

    def __init__(self) -> None:
        self._value: T | object = _UNSET
        self._error: BaseException | None = None
        self._resume: Callable[[], object] | None = None

    def set(self, value: T) -> None:
        """End it; whoever waits goes on at once, inside this call."""
        if self._value is _UNSET and self._error is None:
            self._value = value
            self._go_on()

    def fail(self, error: BaseException) -> None:
        """End it by an exception."""
        if self._value is _UNSET and self._error is None:
            self._error = error
            self._go_on()

    def _go_on(self) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            resume()

    def _when_over(self, resume: Callable[[], object]) -> None:
        self._resume = resume

    def __await__(self) -> Generator[Any, None, T]:
        while self._value is _UNSET and self._error is None:
            if _Now.stepping:
                yield self  # the stepper asks to be told
            else:
                future = asyncio.get_running_loop().create_future()
                self._resume = partial(_wake, future)
                yield from future
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # it is set: there is no other way here


async def aside(work: Coroutine[Any, Any, T], *, discard: Callable[[T], object] | None = None) -> T:
    """Await `work` in a task: its own if the caller has none. Cancelled with its caller.

    `discard` gets a result that comes when the caller has been cancelled already: what it stands for
    would have no owner.
    """
    if not _Now.stepping:
        return await work
    over: Pause[None] = Pause()
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda _: over.set(None))
    try:
        await over
    except BaseException:
        task.cancel()
        if discard is not None:
            task.add_done_callback(lambda done: _discard(done, discard))
        raise
    return task.result()


def _discard(task: asyncio.Task[T], discard: Callable[[T], object]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Stepper:
    """Steps one coroutine to its end, and calls `on_end` then; an exception but `CancelledError` is a fault of ours."""

    __slots__ = ("_on_end", "_running", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], on_end: Callable[[], object]) -> None:
        self._work: Coroutine[Any, Any, None] | None = work
        self._on_end = on_end
        self._running = False

    def resume(self, _: object = None) -> None:
        """Let it run until it waits again; does nothing while it runs."""
        if not self._running:
            self._step(None)

    def cancel(self) -> None:
        """Raise `CancelledError` where it waits; does nothing after its end, or while it runs."""
        if not self._running:
            self._step(asyncio.CancelledError())

    def _step(self, error: BaseException | None) -> None:
        work = self._work
        if work is None:
            return
        self._running = True
        outer, _Now.stepping = _Now.stepping, True
        try:
            waits_for = work.send(None) if error is None else work.throw(error)
        except (StopIteration, asyncio.CancelledError):
            self._end()
            return
        except BaseException:
            logger.exception("stepped_work_failed")
            self._end()
            return
        finally:
            _Now.stepping = outer
        self._running = False
        if type(waits_for) is Pause:
            waits_for._when_over(self.resume)
        elif waits_for is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self.resume)
        else:
            waits_for._asyncio_future_blocking = False
            waits_for.add_done_callback(self.resume)

    def _end(self) -> None:
        self._work = None
        self._running = False
        self._on_end()
