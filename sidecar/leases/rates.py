"""Rate limits as a call meets them: room in every window that applies, or in none (L21, L37).

Where the fleet has a place to count together (Redis), a call asks there, in one message that it may share with
others of its customer (`rate_lanes`). Where it has none, or that does not answer, each sidecar counts by itself
and admits its share: a fleet of n admits a limit's nth part here. Without it a limit is never open.

**What is never exceeded.** While Redis answers, the limit; while it does not, the limit too, as the sum of the shares.
In the one window in which it goes, comes back or forgets, at most twice the limit: what was counted together
before, and the shares (or, after it forgot, the limit) once more. What a sidecar took counts against its own share
wherever it took it, and it tells Redis of it with its next order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.core.governance.rate_limits import Counts, NoRoom, RateLimit, SlidingCount, rate_applies, share_of
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.ports import Clock

MAX_PLANS: Final = 8192
"""Calls whose windows are remembered; all are forgotten at once when there would be more."""

MAX_WINDOWS: Final = 65_536
"""Windows counted at once. Where there would be more, those that count nothing are forgotten, or calls are refused."""

CONCURRENT_WAIT_MS: Final = 1000
"""What a caller is asked to wait where only calls under way stand in the way."""

PURGE_EVERY_MS: Final = 1000

Key = tuple[str, str, str]
"""Customer, rate limit, child."""


class Window:
    """One rate limit's window as this sidecar counts it: what it took, by slices, and its calls under way."""

    __slots__ = ("child", "count", "customer", "key", "limit", "open")

    def __init__(self, customer: str, limit: RateLimit, child: str) -> None:
        self.customer = customer
        self.limit = limit
        self.child = child
        self.key = f"{limit.limit_id}:{child}"
        self.count = SlidingCount()
        self.open = 0


class Taken:
    """Room that a call took. Settle it exactly once; a second time does nothing."""

    __slots__ = ("_rates", "amounts", "open", "slices", "windows")

    def __init__(
        self, rates: RateKeeper, windows: tuple[Window, ...], amounts: tuple[int, ...], slices: tuple[int, ...]
    ) -> None:
        self._rates = rates
        self.windows = windows
        self.amounts = amounts
        self.slices = slices
        self.open = True

    def settle(self, tokens: int | None) -> None:
        """The call has ended: its slot is free, and what it really used stands where its estimate stood.

        Args:
            tokens: None where nobody knows: then the estimate stays.
        """
        if self.open:
            self.open = False
            self._rates.correct(self, tokens, ran=True)

    def give_back(self) -> None:
        """The call did not run: it took nothing."""
        if self.open:
            self.open = False
            self._rates.correct(self, 0, ran=False)


class RateKeeper:
    """Counts this sidecar's windows, and decides by its share of them. Use it from one event loop.

    Attributes:
        on_change: called with each window whose count changed otherwise than by asking; must not raise.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sidecars, self._rank = 1, 0
        self._plans: dict[tuple[Subject, str, str], tuple[Standing, tuple[Window, ...] | None]] = {}
        self._windows: dict[Key, Window] = {}
        self._ahead_ms = clock.wall_ms() - round(clock.monotonic() * 1000)
        self._purged_ms = 0
        self.on_change: Callable[[Window], None] = _nothing

    @property
    def sidecars(self) -> int:
        """How many sidecars share the limits, as the ledger last told."""
        return self._sidecars

    def share(self, sidecars: int, rank: int) -> None:
        """So many sidecars share the limits, this one at such a place among them; nonsense is passed over."""
        if 0 <= rank < sidecars:
            self._sidecars, self._rank = sidecars, rank

    def now_ms(self) -> int:
        """The time by which slices are numbered: that of where windows are counted together, once it was heard."""
        return round(self._clock.monotonic() * 1000) + self._ahead_ms

    def heard_time(self, now_ms: int, at: float) -> None:
        """It was `now_ms` there at an instant here (monotonic seconds)."""
        self._ahead_ms = now_ms - round(at * 1000)

    def plan(self, standing: Standing, subject: Subject, *, model: str, provider: str) -> tuple[Window, ...] | None:
        """The windows that a call must have room in; None: there are too many to count.

        Args:
            standing: whose rate limits apply.
            subject: who asks, on its canonical path.
            model: as the request names it.
            provider: likewise.
        """
        known = self._plans.get((subject, model, provider))
        if known is not None and known[0] is standing:
            return known[1]
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        limits = [one for one in standing.rate_limits if rate_applies(one, subject, model=model, provider=provider)]
        windows = self._find(standing.customer, [(limit, limit.child_of(subject)) for limit in limits])
        if windows is not None:
            self._plans[subject, model, provider] = standing, windows
        return windows

    def take_here(self, windows: tuple[Window, ...], tokens: int) -> Taken | NoRoom:
        """Take room by this sidecar's share alone, in every window or in none."""
        now_ms = self.now_ms()
        amounts = amounts_of(windows, tokens)
        for window, amount in zip(windows, amounts, strict=True):
            limit = window.limit
            share = share_of(limit.limit, self._sidecars, self._rank)
            used = self.used(window, now_ms)
            if used + amount > share:
                wait_ms = self._wait_ms(window, share - amount, now_ms)
                return NoRoom(limit, window.child, used, max(0, share - used), wait_ms)
        slices = tuple([now_ms // window.limit.slice_ms for window in windows])
        return self.note(windows, amounts, slices)

    def note(self, windows: tuple[Window, ...], amounts: tuple[int, ...], slices: tuple[int, ...]) -> Taken:
        """Count what a call was admitted with."""
        for window, amount, number in zip(windows, amounts, slices, strict=True):
            if window.limit.counts is Counts.CONCURRENT:
                window.open += 1
            else:
                window.count.add(number, amount)
        return Taken(self, windows, amounts, slices)

    def correct(self, taken: Taken, tokens: int | None, *, ran: bool) -> None:
        """Count what became of it, in the slices that it was counted in."""
        for window, amount, number in zip(taken.windows, taken.amounts, taken.slices, strict=True):
            counts = window.limit.counts
            if counts is Counts.CONCURRENT:
                window.open -= 1
            elif not ran:
                window.count.add(number, -amount)
            elif counts is Counts.TOKENS and tokens is not None and tokens != amount:
                window.count.add(number, tokens - amount)
            else:
                continue
            self.on_change(window)

    def used(self, window: Window, now_ms: int) -> int:
        """What this sidecar counts in a window."""
        if window.limit.counts is Counts.CONCURRENT:
            return window.open
        return window.count.used(now_ms // window.limit.slice_ms)

    def counted(self) -> list[Window]:
        """The windows in which anything counts."""
        now_ms = self.now_ms()
        return [window for window in self._windows.values() if window.open or self.used(window, now_ms)]

    def __len__(self) -> int:
        return len(self._windows)

    # inside

    def _find(self, customer: str, wanted: list[tuple[RateLimit, str]]) -> tuple[Window, ...] | None:
        found: list[Window] = []
        for limit, child in wanted:
            key = (customer, limit.limit_id, child)
            window = self._windows.get(key)
            if window is None:
                if len(self._windows) >= MAX_WINDOWS and not self._purge():
                    return None
                window = self._windows[key] = Window(customer, limit, child)
            window.limit = limit
            found.append(window)
        return tuple(found)

    def _purge(self) -> bool:
        """Forget the windows in which nothing counts; whether there is room now."""
        now_ms = self.now_ms()
        if now_ms - self._purged_ms < PURGE_EVERY_MS:
            return False
        self._purged_ms = now_ms
        self._plans.clear()  # they hold windows
        self._windows = {
            key: window for key, window in self._windows.items() if window.open or self.used(window, now_ms)
        }
        return len(self._windows) < MAX_WINDOWS

    def _wait_ms(self, window: Window, room: int, now_ms: int) -> int | None:
        """How long until no more than `room` is counted; None: it never will, for `room` is below nothing."""
        if room < 0:
            return None
        limit = window.limit
        if limit.counts is Counts.CONCURRENT:
            return CONCURRENT_WAIT_MS
        current = now_ms // limit.slice_ms
        return (current + window.count.room_in_slices(current, room)) * limit.slice_ms - now_ms


def amounts_of(windows: tuple[Window, ...], tokens: int) -> tuple[int, ...]:
    """What a call takes of each window."""
    return tuple([tokens if window.limit.counts is Counts.TOKENS else 1 for window in windows])


def _nothing(_window: Window) -> None:
    """What happens when nobody listens."""
