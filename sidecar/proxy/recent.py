"""The latest decisions of this process, for whoever asks why (`spend explain`).

A denial takes nothing and so is written nowhere else; it is known for as long as it is
remembered here. An admission stands in the book once its settlement is booked, and here before.
"""

from __future__ import annotations

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
    """A call that was denied, and when (Unix ms). `protocol` is `` where nobody was known to ask."""

    denied: Denied
    subject: Subject | None
    provider: str
    model: str
    at_ms: int
    protocol: str = ""


Remembered = Denial | Admitted | UsageEvent
"""A call that was denied, is open, or was settled."""


class RecentDecisions:
    """What was decided last, by request id.

    Remembering runs for every call and finding for hardly any. So the open calls, which are few, have a
    dictionary; what is over stands in a ring that is searched from its newest end.
    """

    def __init__(self, size: int = REMEMBERED_DECISIONS) -> None:
        self._open: dict[str, Admitted] = {}
        # A settlement as its bytes: thousands of them as objects would push everything else out of the caches.
        self._over: list[tuple[str, Denial | bytes] | None] = [None] * size
        self._next = 0

    def opened(self, request_id: str, admitted: Admitted) -> None:
        """A call was admitted: known until it is `remember`ed as settled."""
        self._open[request_id] = admitted

    def remember(self, request_id: str, what: Denial | bytes) -> None:
        """Keep what became of a call; the oldest goes if there are too many.

        Bytes are a `UsageEvent` as the contract writes it.
        """
        self._open.pop(request_id, None)
        over, at = self._over, self._next
        over[at] = request_id, what
        at += 1
        self._next = at if at < len(over) else 0

    def find(self, request_id: str) -> Remembered | None:
        """What is remembered of a call; None if nothing (any more)."""
        admitted = self._open.get(request_id)
        if admitted is not None:
            return admitted
        over = self._over
        for at in range(self._next - 1, self._next - 1 - len(over), -1):  # below 0 is the ring's other end
            one = over[at]
            if one is not None and one[0] == request_id:
                return decode(one[1], UsageEvent) if isinstance(one[1], bytes) else one[1]
        return None
