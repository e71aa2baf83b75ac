"""Admissions and settlements of made-up calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sidecar.contract.codec import decode
from sidecar.contract.messages import Admission, UsageEvent
from sidecar.core.governance.decisions import Decision, Source
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState


def admission(
    request_id: str,
    atoms: int = 100,
    *,
    customer: str = "acme",
    budgets: tuple[str, ...] = (),
    slices: tuple[tuple[str, int], ...] = (),
    source: Source = Source.LEASE,
    admitted_at_ms: int = 1_795_521_600_000,
) -> Admission:
    """A call that may run, on these leases."""
    decision = Decision(source, atoms, 0, 0, "plan@1", "card", "sha")
    return Admission(
        request_id, Subject(customer), "openai", "chat", "m", admitted_at_ms, "usd", atoms, decision, budgets, slices
    )


def event(admitted: Admission, charge_atoms: int, paid: tuple[tuple[str, int], ...] = ()) -> UsageEvent:
    """Its settlement."""
    usage = Usage(UsageState.FINAL, (Line(Tokens(input_tokens=3, output_tokens=4)),), raw=b'{"total_tokens":7}')
    return UsageEvent(admitted, 20, 200, "complete", usage, charge_atoms, paid)


def read_back(recorded: Mapping[str, Sequence[msgspec.Raw]]) -> list[UsageEvent]:
    """Events, by customer, as they were recorded."""
    return [decode(bytes(one), UsageEvent) for some in recorded.values() for one in some]
