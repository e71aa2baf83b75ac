"""How fast a sidecar should send what it has settled, told it with every answer.

After an outage a whole fleet has a backlog. None of it is urgent, for it is on disk; what is urgent is credit, and
that must not queue behind it. So where many syncs with settlements are under way, each is told to bring fewer the next
time, and to wait a while before that. What it wants to borrow or give back it may send at any time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.contract.messages import MAX_EVENTS_PER_SYNC

UNHINDERED: Final = 8
"""So many syncs with settlements at once need no pacing."""

PAUSE_FOR_EACH: Final = 8
"""For each sync beyond those, the time that so many take is waited."""

MIN_WINDOW: Final = 64
"""Settlements in a sync, however many sidecars there are: below that its commit is what costs."""

MAX_PAUSE_S: Final = 5.0


class Window(NamedTuple):
    """At most `events` settlements in the next sync that carries any, and none before `pause_ms` have passed."""

    events: int = MAX_EVENTS_PER_SYNC
    pause_ms: int = 0


class Pace:
    """The syncs with settlements that are under way in one process."""

    def __init__(self) -> None:
        self.under_way = 0

    def begin(self) -> None:
        """One has come."""
        self.under_way += 1

    def end(self, took_s: float) -> Window:
        """It has been applied, after so many seconds; gives what its sender is to be told."""
        many = self.under_way
        self.under_way -= 1
        if many <= UNHINDERED:
            return Window()
        pause_s = min(MAX_PAUSE_S, PAUSE_FOR_EACH * (many - UNHINDERED) * took_s / many)
        return Window(max(MIN_WINDOW, MAX_EVENTS_PER_SYNC * UNHINDERED // many), round(pause_s * 1000))
