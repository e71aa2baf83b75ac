"""Making a settlement last: what a call used is written before anybody learns that it is over.

Nothing here waits and nothing here gives up: the caller may have gone, the provider failed, the
process may be stopping.
"""

from __future__ import annotations

import logging

from sidecar.contract.codec import encode
from sidecar.contract.messages import UsageEvent
from sidecar.core.credits.holds import Split
from sidecar.errors import SpoolFull
from sidecar.leases.table import LeaseTable
from sidecar.ports import Spool
from sidecar.proxy.authorize import Admitted
from sidecar.proxy.outcomes import Outcome
from sidecar.proxy.settle import Settlement
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


def record(
    admitted: Admitted, settlement: Settlement, outcome: Outcome, *, spool: Spool, table: LeaseTable, metrics: Metrics
) -> tuple[UsageEvent, bytes]:
    """Charge the hold, free the rest of it, and write the usage event. Exactly once for each admission.

    The table goes first, since only it knows which grants pay; no other request gets a turn
    between the two. Where the disk fails after all, the hold is still charged here, the failure
    is counted and logged, and the call is settled at its whole hold when the spool is next read.

    Returns:
        The event, and its bytes as they were or should have been written.

    Raises:
        HoldAlreadyResolved: it was recorded before; nothing was changed.
    """
    charge_atoms = settlement.charge_atoms
    held = admitted.held
    split = Split((), charge_atoms or 0) if held is None else table.settle(held, charge_atoms)
    event = UsageEvent(
        admitted.admission,
        duration_ms=round(outcome.duration_s * 1000),
        status=outcome.status,
        ending=outcome.ending.value,
        usage=settlement.usage,
        charge_atoms=charge_atoms,
        paid=split.legs,
        excess_atoms=split.excess,
        flags=settlement.flags,
    )
    try:
        return event, spool.settle(event)
    except SpoolFull as problem:
        metrics.settle_errors.add()
        logger.error(
            "settlement_not_recorded",
            extra={"facts": {"request_id": admitted.admission.request_id, "reason": str(problem)}},
        )
        return event, encode(event)
