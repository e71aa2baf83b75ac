"""`ports.Windows` as a model: what the script in Redis must do, in as few words as it can be said in."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from sidecar.core.governance.rate_limits import SLICES, Counts
from sidecar.core.governance.rate_orders import Answer, Order, Reply
from sidecar.errors import WindowsUnavailable


class PretendWindows:
    """Counts a fleet's windows together, by a clock of the test's.

    Attributes:
        away: whether it answers nothing.
        orders: all that came.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.away = False
        self.orders: list[Order] = []
        self._now_ms = now_ms
        self.forget()

    def forget(self) -> None:
        """Lose everything."""
        self._slices: dict[tuple[str, str], dict[tuple[int, str], int]] = defaultdict(dict)
        self._open: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
        self._last: dict[tuple[str, str, str], int] = {}

    async def order(self, order: Order) -> Reply:
        """After a turn of the loop."""
        await asyncio.sleep(0)
        self.orders.append(order)
        if self.away:
            raise WindowsUnavailable("away")
        return self.do(order)

    def do(self, order: Order) -> Reply:
        """All of it at once."""
        now, me = self._now_ms(), order.incarnation
        keys = [(order.customer, window.key) for window in order.windows]
        if any(self._last.get((*key, me), -1) >= order.sequence for key in keys):
            raise WindowsUnavailable("late")
        for key, window in zip(keys, order.windows, strict=True):
            self._last[*key, me] = order.sequence
            if window.counts is Counts.CONCURRENT:
                self._open[key][me] = window.mine[0][1], now + order.keep_ms
            else:
                self._slices[key].update({(number, me): amount for number, amount in window.mine})
        return Reply(now, tuple([self._ask(order, keys, ask.takes, now) for ask in order.asks]))

    def used(self, key: tuple[str, str], counts: Counts, slice_ms: int, now: int) -> int:
        """What is counted in a window."""
        if counts is Counts.CONCURRENT:
            return sum(calls for calls, until in self._open[key].values() if until >= now)
        slices = self._slices[key].items()
        return sum(amount for (number, _), amount in slices if abs(number - now // slice_ms) <= SLICES)

    def _ask(self, order: Order, keys: list[tuple[str, str]], takes: tuple[tuple[int, int], ...], now: int) -> Answer:
        for place, amount in takes:
            window = order.windows[place]
            used = self.used(keys[place], window.counts, window.slice_ms, now)
            if used + amount > window.limit:
                return Answer(place, used, 1)
        for place, amount in takes:
            window, me = order.windows[place], order.incarnation
            if window.counts is Counts.CONCURRENT:
                calls, until = self._open[keys[place]][me]
                self._open[keys[place]][me] = calls + 1, until
            else:
                slices, slot = self._slices[keys[place]], (now // window.slice_ms, me)
                slices[slot] = slices.get(slot, 0) + amount
        return Answer(-1)
