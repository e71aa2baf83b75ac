"""What the ledger shows of its sidecars: who holds what, and whom it waits for."""

from __future__ import annotations

import msgspec

from sidecar.ledger.views import Money


class AwaitedView(msgspec.Struct, frozen=True):
    """A sidecar that has not told yet what it knows of a span that the book has lost."""

    sidecar: str
    started_at_ms: int


class LearningView(msgspec.Struct, frozen=True):
    """The history of the book, and, where it has lost something, since when what was spent is unknown (L50a).

    `since_ms` null: nothing is unknown, and the ledger lends. Else it lends when it has heard all of `awaited`.
    """

    history_id: str
    since_ms: int | None = None
    why: str = ""
    awaited: tuple[AwaitedView, ...] = ()


class LeaseView(msgspec.Struct, frozen=True):
    """Spending power of a sidecar that is not heard any more (L46), and what became of it.

    `state`: `quarantined`, reserved and waiting; `unaccounted`, after the write-off age; `spent`, or `returned`,
    because somebody said so. All but `returned` count as spent.
    """

    customer: str
    lease_id: str
    account: str
    sidecar: str
    state: str
    silent_since_ms: int
    amount: Money
