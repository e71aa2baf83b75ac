"""What really happens in histories: a fault that is drawn and meets nothing tests nothing.

Each fact is counted where it bites (`PretendLoop.happened`), not where it is drawn: a pause counts if leases ended
meanwhile, a cut if it swallowed a message. `python -m tests.scenarios.run --seeds 500 --coverage` prints the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

LEAST: Final = {
    "call": 1_000,
    "message lost": 500,
    "message doubled": 1_000,
    "message overtaken": 10_000,
    "message 30 s late and more": 500,
    "message into a cut of one way": 50,
    "message into a cut of both ways": 50,
    "sidecar paused past its leases' end": 1,
    "sleep that the monotonic clock does not know": 1,
    "sidecar killed": 20,
    "sidecar killed with calls open": 5,
    "sidecar stopped in good order": 40,
    "holder's clock jumped": 3,
    "disk lost with leases out": 3,
    "power lost": 6,
    "tail that was not synced lost": 1,
    "outbox damaged": 2,
    "write failed, the disk full": 10,
    "fsync failed": 1,
    "twin started on a copy": 2,
    "call on a twin, the other running": 20,
    "ledger killed": 4,
    "ledger stood still": 4,
    "transaction failed": 20,
    "commit of which nobody learns": 20,
    "ledger's clock jumped": 3,
    "book lost its end, failed over": 1,
    "book lost its end, restored": 1,
    "book and a disk lost in one history": 1,
    "call while the book lacks something": 20,
    "call above its hold": 50,
    "call on grace": 20,
    "call by a dearer catalog": 20,
    "grant ended while it was lent": 1,
    "grant voided while it was lent": 1,
    "period turned while it was lent from": 20,
    "limit lowered below what is spent and lent": 1,
    "node moved while it was lent to": 1,
    "team frozen": 3,
}
"""How often each must happen in any `OF` histories that are run in a row: less, and the tests no longer test it."""

OF: Final = 50


def missing(happened: Counter[str]) -> list[str]:
    """What happened too seldom in `OF` histories."""
    return [f"{what}: {happened[what]} of {least}" for what, least in LEAST.items() if happened[what] < least]


def table(histories: Iterable[Counter[str]]) -> str:
    """How often each fact happened in all, and in how many histories at all."""
    often, within, number = Counter[str](), Counter[str](), 0
    for happened in histories:
        number += 1
        often.update(happened)
        within.update(what for what, times in happened.items() if times)
    names = [*LEAST, *sorted(often.keys() - LEAST.keys())]
    lines = [f"{'':<46} {'times':>9} {'histories':>10}"]
    lines += [f"{what:<46} {often[what]:>9} {within[what]:>6} of {number}" for what in names]
    return "\n".join(lines)
