"""After an outage a fleet's backlog does not come in the way of credit (F-59)."""

from __future__ import annotations

import heapq
import random

from sidecar.contract.messages import MAX_EVENTS_PER_SYNC
from sidecar.ledger.pace import MAX_PAUSE_S, MIN_WINDOW, UNHINDERED, Pace, Window

SYNC_S, EVENT_S = 0.004, 0.0001
"""What a sync costs the only processor of a pretend ledger, and each settlement in it."""


def test_a_few_are_not_hindered() -> None:
    """As many as one may carry, and at once."""
    pace = Pace()
    for _ in range(UNHINDERED):
        pace.begin()
    assert [pace.end(3.0) for _ in range(UNHINDERED)] == [Window(MAX_EVENTS_PER_SYNC, 0)] * UNHINDERED
    assert pace.under_way == 0


def test_many_bring_less_and_wait() -> None:
    """The more there are, within bounds."""
    windows: list[Window] = []
    for many in (9, 20, 200, 100_000):
        pace = Pace()
        pace.under_way = many
        windows.append(pace.end(0.5))
    assert windows == sorted(windows, key=lambda one: (-one.events, one.pause_ms))
    assert windows[0] == Window(MAX_EVENTS_PER_SYNC * 8 // 9, 444)
    assert windows[-1].events == MIN_WINDOW
    assert windows[-1].pause_ms <= MAX_PAUSE_S * 1000


def drain(sidecars: int, backlog: int, *, heeded: bool) -> tuple[float, float]:
    """A fleet with a backlog each, a ledger that applies syncs one after another: how long until all is sent, and how
    long somebody who wants credit waits behind what is under way, on average over that time."""
    chance, pace, now = random.Random(59), Pace(), 0.0
    left = dict.fromkeys(range(sidecars), backlog)
    coming = [(chance.random() * 0.1, one, MAX_EVENTS_PER_SYNC) for one in left]
    heapq.heapify(coming)
    queue: list[tuple[float, int, int]] = []
    waited = 0.0
    while coming or queue:
        while coming and (not queue or coming[0][0] <= now):
            at, one, window = heapq.heappop(coming)
            now = max(now, at) if not queue else now
            queue.append((at, one, min(window, left[one])))
            pace.begin()
        at, one, events = queue.pop(0)
        took = SYNC_S + EVENT_S * events
        waited += took * sum(SYNC_S + EVENT_S * size for _, _, size in queue)
        now += took
        left[one] -= events
        told = pace.end(now - at)
        if left[one]:
            asked = told if heeded else Window()
            heapq.heappush(coming, (now + asked.pause_ms / 1000 * chance.uniform(1.0, 1.5), one, asked.events))
    return now, waited / now


def test_two_hundred_drain_at_the_ledgers_rate_and_credit_does_not_queue_behind_them() -> None:
    """F-59: the backlog takes little longer than its work; the queue is a small part of what it was."""
    work = 200 * 5000 * EVENT_S
    together_s, queued_s = drain(200, 5000, heeded=False)
    paced_s, paced_queued_s = drain(200, 5000, heeded=True)
    assert together_s < 1.1 * work
    assert paced_s < 1.5 * work
    assert paced_queued_s < queued_s / 4
