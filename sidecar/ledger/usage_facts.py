"""What the book knows of a settled call, beside the amounts it moved, whichever way it is kept.

An entry of one call, as they were once written, has the fields of `UsageFacts` for its facts. A call
that was booked with others is kept as it was recorded (`booked_calls`), and read as the same.
"""

from __future__ import annotations

import msgspec

from sidecar.core.governance.decisions import Decision
from sidecar.core.pricing.usage import Usage

KIND = "usage"
"""Of the entry of a settled call."""


class UsageFacts(msgspec.Struct, frozen=True):
    """A settled call. `path` is canonical, as text.

    `charge_atoms` None: no price was known. `debt_atoms` is the part of the charge that nothing
    could pay. `flags` are the sidecar's, and of the ledger's own: `late` (its lease was closed),
    `lease_unknown`, `path_unknown`, `overrun` (more than its leases held), `charge_refused`.
    """

    request_id: str
    path: str
    user: str
    agent: str
    session: str
    feature: str
    product: str
    provider: str
    protocol: str
    model: str
    state: str
    tier: str
    status: int
    ending: str
    duration_ms: int
    currency: str
    charge_atoms: int | None
    held_atoms: int
    debt_atoms: int
    sidecar: str
    incarnation: str
    budget_leases: tuple[str, ...]
    paid: tuple[tuple[str, int], ...]
    burn_order: str
    usage: Usage
    decision: Decision
    flags: tuple[str, ...]


class UsageBody(msgspec.Struct, frozen=True):
    """A settled call and its place in the journal: of an entry's text, what a reader of usage needs."""

    customer: str
    sequence: int
    recorded_at_ms: int
    occurred_at_ms: int
    facts: UsageFacts


_DECODER = msgspec.json.Decoder(UsageBody)


def read_usage(body: str) -> UsageBody:
    """Read the text of an entry of one call, as they were written before calls were booked together."""
    return _DECODER.decode(body)
