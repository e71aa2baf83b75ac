"""What goes with a sync beside the settled calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sidecar.contract.messages import AnyPart, LeaseReport, PartReply


class LeaseReports(Protocol):
    """What goes with a sync beside the events: the keeper."""

    @property
    def has_due(self) -> bool:
        """Whether there is something to report."""
        ...

    def declare(self) -> None:
        """The book has become another: report every lease to it (L50a)."""
        ...

    @property
    def is_declared(self) -> bool:
        """Whether it has answered a report on each that there was then."""
        ...

    def due(self) -> Mapping[str, Sequence[LeaseReport]]:
        """Reports to send now, by customer."""
        ...

    def revision(self, customer: str) -> int:
        """The revision of a customer by which calls are decided here; 0 where none was heard of."""
        ...

    def heard(self, part: AnyPart, reply: PartReply, sent_at: float) -> None:
        """A part that was sent at an instant (monotonic) has been answered."""
        ...

    def missed(self) -> None:
        """A sync was not answered."""
        ...
