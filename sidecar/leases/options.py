"""How the keeper keeps leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """All in seconds, on the monotonic clock.

    `refresh_every_s` is how often leases are renewed (L41); demand is what open calls need and what is spent
    in `cover_s` (L44). A request waits at most `miss_timeout_s` for the ledger, of that `settle_wait_s` for
    open calls to end, and first `recall_trip_s` for what others hold and do not use. A reading proves for
    `believe_s` that an account is short. While the ledger is away it is asked at most every `outage_retry_s`.
    A lease unused for `idle_after_s` goes back. Next period's leases are fetched `ahead_refreshes` refreshes
    early.
    """

    refresh_every_s: float = 10.0
    cover_s: float = 10.0
    miss_timeout_s: float = 2.0
    settle_wait_s: float = 0.25
    recall_trip_s: float = 0.06
    believe_s: float = 0.2
    outage_retry_s: float = 1.0
    idle_after_s: float = 30.0
    ahead_refreshes: int = 3
    close_timeout_s: float = 5.0


class LeaseNotes(Protocol):
    """Where it is written which leases there are, so that a restart can close them (L46): the spool."""

    def note_lease(self, customer: str, lease_id: str, granted_atoms: int, spent_atoms: int) -> None:
        """A lease was heard of or grew; must be noted before anything is admitted on it. Does not raise."""
        ...

    def note_ended(self, lease_id: str) -> None:
        """A lease is closed or at rest: nothing of it is left to give back. Does not raise."""
        ...


class Courier(Protocol):
    """Who takes reports to the ledger: the shipper."""

    booked_before: float
    """Everything settled before this instant (monotonic) is in the book."""

    def wake(self) -> None:
        """There is something to report now."""
        ...

    async def flush(self, timeout_s: float) -> bool:
        """Take everything there is to the ledger; False if that did not succeed in time."""
        ...
