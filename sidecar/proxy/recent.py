"""The latest decisions of this process, for whoever asks why (`spend explain`).

A denial takes nothing and so is written nowhere else; it is known for as long as it is
remembered here. An admission stands in the book once its settlement is booked, and here before.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.contract.messages import Admission, UsageEvent
from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Subject

REMEMBERED_DECISIONS: Final = 4096
"""How many are remembered; the oldest is forgotten first."""


class Denial(msgspec.Struct, frozen=True):
    """A call that was denied, and when (Unix ms)."""

    denied: Denied
    subject: Subject | None
    provider: str
    model: str
    at_ms: int


class Open(msgspec.Struct, frozen=True):
    """A call that was admitted and has not been settled yet."""

    admission: Admission


class Settled(msgspec.Struct, frozen=True):
    """A call that was settled; the ledger may not have heard of it yet."""

    event: UsageEvent


Remembered = Denial | Open | Settled


class RecentDecisions:
    """What was decided last, by request id."""

    def __init__(self, size: int = REMEMBERED_DECISIONS) -> None:
        self._size = size
        self._by_id: dict[str, Remembered] = {}

    def remember(self, request_id: str, what: Remembered) -> None:
        """Keep a decision, in place of an earlier state of the same call; the oldest goes if there are too many."""
        by_id = self._by_id
        by_id[request_id] = what
        if len(by_id) > self._size:
            del by_id[next(iter(by_id))]

    def find(self, request_id: str) -> Remembered | None:
        """What is remembered of a call; None if nothing (any more)."""
        return self._by_id.get(request_id)

    def __len__(self) -> int:
        return len(self._by_id)
