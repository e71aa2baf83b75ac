"""An event loop on a pretend clock, in which whole processes can be paused and killed.

Nothing waits: when all that is due has run, the clock jumps to what is due next. Every callback belongs to
the process in whose context it was made (`OWNER`). A paused process's callbacks are kept until it goes on, a
dead one's never run: no `finally`, no `except`, as after `kill -9`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")

OWNER: ContextVar[Process | None] = ContextVar("OWNER", default=None)


class State(Enum):
    """What a process is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


class Process:
    """One process: what it starts, and what is started by that, is paused and dies with it."""

    def __init__(self, loop: PretendLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.state = State.RUNNING
        self.waiting: deque[asyncio.Handle] = deque()
        self.on_resume: Callable[[], None] = _nothing
        self._context = copy_context()
        self._context.run(OWNER.set, self)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in this process."""
        return self.loop.create_task(work, context=self._context.copy())

    def call(self, work: Callable[[], T]) -> T:
        """Do something in this process, here and now."""
        return self._context.copy().run(work)

    def pause(self) -> None:
        """As SIGSTOP."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED

    def go_on(self) -> None:
        """As SIGCONT: what became due meanwhile runs now."""
        if self.state is State.PAUSED:
            self.state = State.RUNNING
            self.on_resume()
            self.on_resume = _nothing
            self.loop.resume(self)

    def kill(self) -> None:
        """As SIGKILL."""
        self.state = State.DEAD
        self.waiting.clear()


class Stuck(RuntimeError):
    """Nothing is due and nothing ever will be: somebody waits for what does not come."""


class PretendLoop(asyncio.BaseEventLoop):
    """A loop that never sleeps, and starts no thread."""

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.thread_s = 0.004
        """What a thread takes: it is a disk's time, since only an fsync is done in one."""
        self._turn = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._tasks: set[asyncio.Task[Any]] = set()  # a dead process's too: nothing else would keep them
        self._processes: list[Process] = []
        self.happened: Counter[str] = Counter()
        """How often what happened in this simulation; see `coverage`."""

    def new_process(self, name: str) -> Process:
        """Another process on some machine."""
        process = Process(self, name)
        self._processes.append(process)
        return process

    def create_task(self, coro: Any, **more: Any) -> asyncio.Task[Any]:
        """As asyncio's."""
        task = super().create_task(coro, **more)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def finish(self) -> None:
        """Unwind whatever has not ended, dead processes' work too, and close; nobody must look at what it does."""
        for process in self._processes:
            process.state = State.RUNNING
            self.resume(process)
        for _ in range(3):
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                self.run_until_complete(asyncio.wait(tasks, timeout=100.0))
        for task in self._tasks:  # a dead process's, whose next step was dropped: nobody can step them any more
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coro = task.get_coro()
            with suppress(RuntimeError):
                coro.close()
        self.close()

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def call_at(  # type: ignore[override]  # as wide as we need it
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's; of what is due at one instant, what was asked for first comes first."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._turn += 1
        heapq.heappush(self._timers, (when, self._turn, handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """What would be done in a thread is done at once, and heard of `thread_s` later."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            self.call_later(self.thread_s, _tell, future, func(*args), None)
        except OSError as problem:
            self.call_later(self.thread_s, _tell, future, None, problem)
        return future

    def resume(self, process: Process) -> None:
        """Let what a paused process has missed run, in its order."""
        self._ready.extend(process.waiting)
        process.waiting.clear()

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Stuck("nothing is due")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                ready.append(handle)
        for _ in range(len(ready)):
            one = ready.popleft()
            if one.cancelled():
                continue
            owner = one._context.get(OWNER)  # type: ignore[attr-defined]  # a handle's context is not public
            if owner is None or owner.state is State.RUNNING:
                one._run()
            elif owner.state is State.PAUSED:
                owner.waiting.append(one)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """They are passed over when they are due."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""


def _nothing() -> None:
    """What more is to be done when a process goes on."""


def _tell(future: asyncio.Future[Any], result: object, problem: OSError | None) -> None:
    if future.done():
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)
