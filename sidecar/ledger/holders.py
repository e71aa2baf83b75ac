"""How far a change has come: which sidecars decide by it already (L35).

A sidecar holds spending power of a customer while it has an open lease that it may still admit on. With
every report on its leases it says by which revision of the customer it decides (`CustomerPart.heard`).
One that has nothing left to spend cannot admit without asking here, and need not be waited for.
"""

from __future__ import annotations

from typing import Final

from sidecar.ledger.reading import customer_row, now_of
from sidecar.ledger.views import HoldersView
from sidecar.ports import Transaction

MAX_NAMED: Final = 100
"""Sidecars that are named of those that have not heard yet."""


async def holders(tx: Transaction, customer: str, wall_ms: int) -> HoldersView:
    """The sidecars that hold spending power of a customer, and how many decide by its present revision.

    Raises:
        NotFound: there is no such customer.
    """
    row = await customer_row(tx, customer)
    found = await tx.fetch(
        "SELECT sidecar, incarnation, max(heard) AS heard FROM leases WHERE customer = ? AND closed = 0"
        " AND (heard >= ? OR (pays_until_ms > ? AND granted - returned - posted - resolved > 0))"
        " GROUP BY sidecar, incarnation ORDER BY sidecar, incarnation",
        (customer, row["revision"], now_of(row, wall_ms)),
    )
    waiting = [one["sidecar"] for one in found if one["heard"] < row["revision"]]
    return HoldersView(customer, row["revision"], len(found), len(found) - len(waiting), tuple(waiting[:MAX_NAMED]))
