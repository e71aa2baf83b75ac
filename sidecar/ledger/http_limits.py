"""How often the ledger's API may be asked: a bucket for each asker, and no more of them than fit a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

SUMS_COST: Final = 10.0
VERIFY_COST: Final = 25.0
"""As how many requests of its token a page of sums counts, which reads a thousand calls, and a look at a whole book."""

MAX_BUCKETS: Final = 4096
"""Askers remembered; the one that was quiet for longest makes room."""


class Buckets:
    """Each asker may ask `burst` times at once, and `rate_per_s` times a second for ever."""

    def __init__(self, rate_per_s: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._monotonic = monotonic
        self._left: OrderedDict[object, tuple[float, float]] = OrderedDict()  # asker: (left, at)

    def __len__(self) -> int:
        """How many askers are remembered."""
        return len(self._left)

    def wait_s(self, asker: object) -> float:
        """How long until this asker may ask once; 0 where it may now. Takes nothing."""
        return max(0.0, (1.0 - self._now(asker)) / self._rate)

    def take(self, asker: object, cost: float = 1.0) -> float:
        """Ask once, for what counts as `cost`: 0 where that is allowed; else, taking nothing, how long to wait (s)."""
        left = self._now(asker)
        if left < cost:
            return (cost - left) / self._rate
        self._left[asker] = (left - cost, self._monotonic())
        self._left.move_to_end(asker)
        if len(self._left) > MAX_BUCKETS:
            self._left.popitem(last=False)
        return 0.0

    def _now(self, asker: object) -> float:
        left, at = self._left.get(asker, (self._burst, 0.0))
        return min(self._burst, left + (self._monotonic() - at) * self._rate)
