"""The latest decisions of this process, for whoever asks why (`spend explain`).

A denial takes nothing and so is written nowhere else; it is known for as long as it is
remembered here. An admission stands in the book once its settlement is booked, and here before.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from sidecar.contract.codec import decode
from sidecar.contract.messages import UsageEvent
from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Subject
from sidecar.proxy.authorize import Admitted

REMEMBERED_DECISIONS: Final = 4096
"""How many are remembered; the oldest is forgotten first."""


class Denial(msgspec.Struct, frozen=True):
    """A call that was denied, and when (Unix ms)."""

    denied: Denied
    subject: Subject | None
    provider: str
    model: str
    at_ms: int


Remembered = Denial | Admitted | UsageEvent
"""A call that was denied, is open, or was settled."""


class RecentDecisions:
    """What was decided last, by request id."""

    def __init__(self, size: int = REMEMBERED_DECISIONS) -> None:
        self._size = size
        # A settlement as its bytes: thousands of them as objects would push everything else out of the caches.
        self._by_id: dict[str, Denial | Admitted | bytes] = {}
        self._order: deque[str] = deque()  # not the dictionary's: finding its first key walks over all deleted ones

    def remember(self, request_id: str, what: Denial | Admitted | bytes) -> None:
        """Keep a decision, in place of an earlier one about the same call; the oldest goes if there are too many.

        Bytes are a `UsageEvent` as the contract writes it.
        """
        by_id = self._by_id
        if request_id not in by_id:
            self._order.append(request_id)
            if len(by_id) >= self._size:
                del by_id[self._order.popleft()]
        by_id[request_id] = what

    def find(self, request_id: str) -> Remembered | None:
        """What is remembered of a call; None if nothing (any more)."""
        found = self._by_id.get(request_id)
        return decode(found, UsageEvent) if isinstance(found, bytes) else found

    def __len__(self) -> int:
        return len(self._by_id)
