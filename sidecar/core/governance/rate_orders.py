"""What a sidecar says to the place where a fleet counts its windows together, and what it hears.

One order is of one customer and is done at once: the sidecar tells what it counts itself in some windows (its
own figures, whole, so that a lost message or a lost memory mends itself with the next one), and asks whether
some calls may run. Each call is counted in all of its windows or in none.
"""

from __future__ import annotations

import msgspec

from sidecar.core.governance.rate_limits import Counts


class WindowState(msgspec.Struct, frozen=True):
    """One window as the asker has it.

    `key` names it among the customer's: the rate limit's id and the child. `mine` are (slice, amount) that
    the asker counts itself; of a limit on concurrent calls one pair, (0, calls under way).
    """

    key: str
    counts: Counts
    limit: int
    slice_ms: int
    mine: tuple[tuple[int, int], ...]


class Ask(msgspec.Struct, frozen=True):
    """May one call run? `takes` are (place of a window in the order, amount)."""

    takes: tuple[tuple[int, int], ...]


class Order(msgspec.Struct, frozen=True):
    """What a sidecar tells and asks of a customer's windows.

    `sequence` grows with each order of an incarnation: one that comes later than its successor is passed over.
    `keep_ms`: how long calls under way are believed without hearing of them again.
    """

    customer: str
    incarnation: str
    sequence: int
    windows: tuple[WindowState, ...]
    asks: tuple[Ask, ...]
    keep_ms: int


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What became of one ask.

    `denied_by` is the place of the window that had no room, -1: it may run. Then `used` is what was counted there, and
    `wait_ms` how long it takes until there is room, if nothing else is taken meanwhile.
    """

    denied_by: int
    used: int = 0
    wait_ms: int = 0


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """`now_ms` is the time there, which numbers the slices; `answers` are in the order of the asks."""

    now_ms: int
    answers: tuple[Answer, ...]
