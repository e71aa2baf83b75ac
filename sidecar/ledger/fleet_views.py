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


class SidecarView(msgspec.Struct, frozen=True):
    """A sidecar: when it was last heard, how it was then, and what it holds, over all customers.

    `heard_at_ms` is right to twenty seconds; null: not in the last day, or it has said that it stops. `leases` and
    `holds` (by currency) are all with something out, `quarantined_leases` and `quarantined` those of them whose life
    is over (L46).

    When it was heard it had `software` (`` where it does not say), and `outbox_calls` settled that were not booked yet,
    the oldest for `outbox_age_ms`; `outbox_bytes` is its outbox on disk, with what is kept for a day. Null: it has not
    said. The drift, by currency, over its open leases: `unbooked` was charged there by its own count and is not in the
    book, and `overbooked` was booked beyond that count on leases that are not silent: where its report was overtaken
    until the next one comes, and for longer where another books in its place from a copy of its files, or the book is
    wrong. A call is on leases of budgets and of grants at once, and counts on each.
    """

    sidecar: str
    heard_at_ms: int | None
    leases: int
    holds: tuple[Money, ...] = ()
    quarantined_leases: int = 0
    quarantined: tuple[Money, ...] = ()
    software: str = ""
    outbox_calls: int | None = None
    outbox_age_ms: int | None = None
    outbox_bytes: int | None = None
    unbooked: tuple[Money, ...] = ()
    overbooked: tuple[Money, ...] = ()


class OutWithView(msgspec.Struct, frozen=True):
    """What one sidecar holds of an account.

    It may admit calls on it until `pays_until_ms`, or longer if it is heard; `quarantined`: that is past, and it
    counts as spent until its holder or a person says more (L46).
    """

    sidecar: str
    amount: Money
    pays_until_ms: int
    quarantined: bool = False


class ExposureView(msgspec.Struct, frozen=True):
    """What can be spent of one account without asking the ledger, and by whom (L48).

    `kind`: budget, grant, or grace (a budget's overdraft). `exposure` = `live` + `quarantined` + `held` (by holds of
    the API), and what is known to be spent beyond these: on leases that are closed, and beyond what was lent. All that
    is known to be spent and is not booked yet is `unshipped`: it cannot be taken back. What is really consumed never
    exceeds `settled` + `unaccounted` + `exposure`. A call takes from a budget of each node above it, and from grants:
    rows are not to be added up. `sidecars` hold something, `holders` names at most a hundred leases.
    `unknown_since_ms`: the book has lost something, and what was spent since is unknown until each sidecar has spoken
    (L50a); null: it has not.
    """

    customer: str
    path: str
    account: str
    kind: str
    settled: Money
    unaccounted: Money
    live: Money
    quarantined: Money
    held: Money
    exposure: Money
    sidecars: int
    holders: tuple[OutWithView, ...] = ()
    unknown_since_ms: int | None = None
    unshipped: Money | None = None
