"""Leases whose holder has not been heard for longer than it may spend without talking (L46).

What they hold is reserved and counts as spent: a holder that comes back, or starts again on its
own outbox, gives it back; one whose outbox was lost or damaged never does.
"""

from __future__ import annotations

from typing import Final

from sidecar.ledger.showing import Shower
from sidecar.ledger.views import SilentLeaseView
from sidecar.ports import Transaction

SLACK_MS: Final = 60_000
"""A lease that has run out with its period goes back a little later: so long it is not called silent."""

MAX_SHOWN: Final = 200
"""Leases shown: enough to see which sidecars they were lent to."""


async def silent_leases(tx: Transaction, show: Shower, now_ms: int, customer: str = "") -> list[SilentLeaseView]:
    """The open leases in quarantine at an instant (Unix ms), longest silent first, at most MAX_SHOWN.

    `customer`: only of this one; `` for all.
    """
    rows = await tx.fetch(
        "SELECT l.customer, l.lease_id, l.account, l.sidecar, l.pays_until_ms, a.currency,"
        " l.granted - l.returned - l.posted AS escrow"
        " FROM leases AS l JOIN accounts AS a ON a.customer = l.customer AND a.account = l.account"
        " WHERE (? = '' OR l.customer = ?) AND l.closed = 0 AND l.resolution = '' AND l.pays_until_ms < ?"
        " AND l.granted - l.returned - l.posted > 0"
        " ORDER BY l.pays_until_ms, l.customer, l.lease_id LIMIT ?",
        (customer, customer, now_ms - SLACK_MS, MAX_SHOWN),
    )
    return [
        SilentLeaseView(
            customer=row["customer"],
            lease_id=row["lease_id"],
            account=row["account"],
            sidecar=row["sidecar"],
            silent_since_ms=row["pays_until_ms"],
            held=show.money(row["escrow"], row["currency"]),
        )
        for row in rows
    ]
