"""Asking where the fleet counts together: one message for all calls of a customer that wait, one at a time.

A call with rate limits costs one round trip, and no call without any comes here. While a customer's message is
under way, what else is asked for it gathers and goes with the next: a crowd costs as many messages as there
are round trips in its time, and a message is one script, so that each call is counted in all of its windows or
in none. A message that is not answered in its deadline decides nothing: its calls are decided by this sidecar's
share, and what they took is told with the next. After a few such the breaker opens, and nothing is waited for.

Shares of the windows that are spent here without asking (as leases of money are) would save the round trip, and
refuse near a limit what another sidecar still holds; a window is small and lasts a minute, so it is not done.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from sidecar.core.governance.rate_limits import Counts, NoRoom
from sidecar.core.governance.rate_orders import Answer, Ask, Order, Reply, WindowState
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import WindowsUnavailable
from sidecar.leases.breaker import Breaker, State
from sidecar.leases.rates import CONCURRENT_WAIT_MS, RateKeeper, Taken, Window, amounts_of
from sidecar.ports import Clock, Windows

MAX_ASKS: Final = 256
"""Calls that share a message at most."""

MAX_STATES: Final = 128
"""Windows in a message at most; a single call may have more."""

MAX_FLIGHTS: Final = 64
"""Messages under way at once, over all customers."""

TIDY_S: Final = 0.02
"""What became of a call is told after so long, unless another asks before."""

BEAT_S: Final = 10.0
"""How often everything that counts is told anew: what was forgotten there is mended, and calls under way go on."""

KEEP_MS: Final = 30_000
"""Calls under way of a sidecar that is heard no more are counted for so long."""

logger = logging.getLogger("sidecar.rates")

_Waiting = tuple[tuple[Window, ...], int, asyncio.Future["Taken | NoRoom"]]


class _Lane:
    """One customer's: calls that wait, windows whose count is to be told, and whether a message is under way."""

    __slots__ = ("changed", "customer", "running", "timer", "waiting")

    def __init__(self, customer: str) -> None:
        self.customer = customer
        self.waiting: deque[_Waiting] = deque()
        self.changed: dict[Window, None] = {}
        self.running = False
        self.timer: asyncio.TimerHandle | None = None


class SharedRates:
    """Decides by what the fleet counts together, or, without an answer, by `rates` alone. Use it from one event loop.

    Args:
        rates: this sidecar's own count.
        windows: where the fleet counts; None: nowhere, and every decision is one step.
        clock: monotonic time.
        incarnation: a random number drawn at this start (L43).
        breaker: leaves alone what does not answer.

    Attributes:
        asked: messages sent.
        unanswered: those that were not answered in time, or made no sense.
        problem: of the last of these.
    """

    def __init__(
        self, rates: RateKeeper, windows: Windows | None, clock: Clock, *, incarnation: str, breaker: Breaker
    ) -> None:
        self.rates = rates
        self.breaker = breaker
        self.unanswered = 0
        self.asked = 0
        self.problem = ""
        self._windows = windows
        self._clock = clock
        self._incarnation = incarnation
        self._sequence = 0
        self._lanes: dict[str, _Lane] = {}
        self._flights = asyncio.Semaphore(MAX_FLIGHTS)
        self._tasks: set[asyncio.Task[None]] = set()
        if windows is not None:
            rates.on_change = self._changed

    def take_now(
        self, standing: Standing, subject: Subject, *, model: str, provider: str, tokens: int
    ) -> Taken | NoRoom | None:
        """Decide without asking, where that is how it is done now; None: `take` asks.

        Args:
            standing: whose rate limits apply.
            subject: who asks, on its canonical path.
            model: as the request names it.
            provider: likewise.
            tokens: the most that the call may use.
        """
        windows = self.rates.plan(standing, subject, model=model, provider=provider)
        if windows is None:
            return NoRoom(None)
        for window, amount in zip(windows, amounts_of(windows, tokens), strict=True):
            limit = window.limit
            if amount > limit.limit:  # no room is ever enough: not worth a word, nor anybody's place
                used = self.rates.used(window, self.rates.now_ms())
                return NoRoom(limit, window.child, used, max(0, limit.limit - used))
        if windows and self._windows is not None and self.breaker.allows(self._clock.monotonic()):
            return None
        return self.rates.take_here(windows, tokens)

    async def take(
        self, standing: Standing, subject: Subject, *, model: str, provider: str, tokens: int
    ) -> Taken | NoRoom:
        """Ask for room in every window, or none; after `take_now` gave None."""
        windows = self.rates.plan(standing, subject, model=model, provider=provider)
        if not windows:
            return NoRoom(None)
        future: asyncio.Future[Taken | NoRoom] = asyncio.get_running_loop().create_future()
        lane = self._lane(windows[0].customer)
        lane.waiting.append((windows, tokens, future))
        self._start(lane)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                discard(future.result())
            raise

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and all that changed is told."""
        return not self._lanes

    async def run(self) -> None:
        """Tell anew what counts, until cancelled."""
        if self._windows is None:
            return
        while True:
            await asyncio.sleep(BEAT_S)
            for window in self.rates.counted():
                self._changed(window)

    # inside

    def _lane(self, customer: str) -> _Lane:
        lane = self._lanes.get(customer)
        if lane is None:
            lane = self._lanes[customer] = _Lane(customer)
        return lane

    def _changed(self, window: Window) -> None:
        lane = self._lane(window.customer)
        lane.changed[window] = None
        if not lane.running and lane.timer is None:
            lane.timer = asyncio.get_running_loop().call_later(TIDY_S, self._tidy, lane)

    def _tidy(self, lane: _Lane) -> None:
        lane.timer = None
        if lane.running or not lane.changed:
            return
        if self.breaker.allows(self._clock.monotonic()):
            self._start(lane)
        else:
            self._drop(lane)  # what counts is told at the next beat

    def _start(self, lane: _Lane) -> None:
        if not lane.running:
            lane.running = True
            task = asyncio.get_running_loop().create_task(self._serve(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _drop(self, lane: _Lane) -> None:
        """Forget a lane in which nothing waits."""
        if lane.timer is not None:
            lane.timer.cancel()
        self._lanes.pop(lane.customer, None)

    async def _serve(self, lane: _Lane) -> None:
        try:
            while lane.waiting or lane.changed:
                some, states = _gather(lane)
                try:
                    await self._fly(lane, some, states)
                except Exception:
                    logger.exception("rate_message_failed")
                    self._decide_here(some)
        finally:
            lane.running = False
            self._decide_here(lane.waiting)
            self._drop(lane)

    async def _fly(self, lane: _Lane, some: Sequence[_Waiting], states: dict[Window, int]) -> None:
        """Send one message, and do by its answer."""
        if self._windows is None or self._is_left_alone():
            return self._decide_here(some)
        async with self._flights:
            if self._is_left_alone():  # meanwhile: one deadline is waited for, not one after another
                return self._decide_here(some)
            self._sequence += 1
            self.asked += 1
            order = self._order(lane.customer, some, states)
            sent_at = self._clock.monotonic()
            try:
                reply = await self._windows.order(order)
            except WindowsUnavailable as problem:
                self.unanswered += 1
                self.problem = str(problem)
                if self.breaker.failed(self._clock.monotonic(), random.random()):
                    logger.warning("rates_not_shared", extra={"facts": {"problem": str(problem)}})
                return self._decide_here(some)
        if self.breaker.worked():
            logger.warning("rates_shared_again", extra={"facts": {"sidecars": self.rates.sidecars}})
            for window in self.rates.counted():
                self._changed(window)
        self.rates.heard_time(reply.now_ms, (sent_at + self._clock.monotonic()) / 2)
        return self._conclude(some, states, reply)

    def _is_left_alone(self) -> bool:
        return self.breaker.state is State.OPEN

    def _order(self, customer: str, some: Sequence[_Waiting], states: dict[Window, int]) -> Order:
        now_ms = self.rates.now_ms()
        asks = tuple(
            Ask(
                tuple(
                    (states[window], amount)
                    for window, amount in zip(windows, amounts_of(windows, tokens), strict=True)
                )
            )
            for windows, tokens, _ in some
        )
        told = tuple(_state(window, self.rates.used(window, now_ms)) for window in states)
        return Order(customer, self._incarnation, self._sequence, told, asks, KEEP_MS)

    def _conclude(self, some: Sequence[_Waiting], states: dict[Window, int], reply: Reply) -> None:
        for (windows, tokens, future), answer in zip(some, reply.answers, strict=True):
            if answer.denied_by < 0:
                slices = tuple([reply.now_ms // window.limit.slice_ms for window in windows])
                found: Taken | NoRoom = self.rates.note(windows, amounts_of(windows, tokens), slices)
            else:
                found = _refused(windows, states, answer)
            _tell(future, found)

    def _decide_here(self, some: Sequence[_Waiting]) -> None:
        for windows, tokens, future in some:
            if not future.done():
                _tell(future, self.rates.take_here(windows, tokens))


def discard(found: Taken | NoRoom) -> None:
    """Nobody is there any more to use what was taken."""
    if isinstance(found, Taken):
        found.give_back()


def _tell(future: asyncio.Future[Taken | NoRoom], found: Taken | NoRoom) -> None:
    if future.done():
        discard(found)
    else:
        future.set_result(found)


def _gather(lane: _Lane) -> tuple[list[_Waiting], dict[Window, int]]:
    """What goes with the next message: calls in their order, and each window's place in it."""
    some: list[_Waiting] = []
    states: dict[Window, int] = {}
    while lane.waiting and len(some) < MAX_ASKS:
        one = lane.waiting[0]
        if one[2].done():  # its caller has gone
            lane.waiting.popleft()
            continue
        new = [window for window in one[0] if window not in states]
        if some and len(states) + len(new) > MAX_STATES:
            break
        for window in new:
            states[window] = len(states)
        some.append(lane.waiting.popleft())
    for window in list(lane.changed):
        if window not in states:
            if len(states) >= MAX_STATES:
                break
            states[window] = len(states)
        del lane.changed[window]
    return some, states


def _state(window: Window, used: int) -> WindowState:
    limit = window.limit
    if limit.counts is Counts.CONCURRENT:
        mine: tuple[tuple[int, int], ...] = ((0, used),)
    else:
        mine = tuple(sorted(window.count.slices.items()))
    return WindowState(window.key, limit.counts, limit.limit, limit.slice_ms, mine)


def _refused(windows: tuple[Window, ...], states: dict[Window, int], answer: Answer) -> NoRoom:
    window = next(window for window in windows if states[window] == answer.denied_by)
    limit = window.limit
    wait_ms = CONCURRENT_WAIT_MS if limit.counts is Counts.CONCURRENT else answer.wait_ms
    return NoRoom(limit, window.child, answer.used, max(0, limit.limit - answer.used), wait_ms)
