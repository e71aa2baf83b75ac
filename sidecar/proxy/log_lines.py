"""The facts of the one line that each request leaves in the log. Never a prompt, an answer, a key or a header."""

from __future__ import annotations

from typing import Any, Final

from sidecar.contract.messages import UsageEvent
from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Subject, format_path
from sidecar.proxy.outcomes import Outcome

MAX_MODEL_CHARACTERS = 64
"""Of a model's name, which is the caller's word."""


REFUSAL_LINES_PER_S: Final = 5
"""At most so many lines about bad requests in a second; the rest are only counted."""


class LineBudget:
    """Lines that somebody else can make us write: so many a second, or whoever sends nonsense fills the disk."""

    __slots__ = ("_left", "_since")

    def __init__(self) -> None:
        self._left = REFUSAL_LINES_PER_S
        self._since = 0.0

    def allows(self, now: float) -> bool:
        """Whether one more may be written at this instant (monotonic seconds, coarse)."""
        if now - self._since >= 1.0:
            self._since, self._left = now, REFUSAL_LINES_PER_S
        self._left -= 1
        return self._left >= 0


def settled_line(
    event: UsageEvent, outcome: Outcome, currency: Currency | None, *, overhead_s: float
) -> dict[str, Any]:
    """For `request_settled`; `currency` None where the model has no price. What is None is left out of the line."""
    admission = event.admission
    age_ms = admission.decision.lease_age_ms
    return {
        **_who(admission.request_id, admission.subject, admission.provider, admission.model),
        "key": admission.decision.key_id or None,
        "source": admission.decision.source.value,
        "ceiling": _amount(admission.decision.ceiling_atoms, currency),
        "charge": _amount(event.charge_atoms, currency),
        "usage": event.usage.state.value,
        "status": outcome.status,
        "cause": outcome.cause.value,
        "detail": outcome.detail or None,
        "flags": ",".join(event.flags) or None,
        "lease_age_s": None if age_ms is None else age_ms / 1000,
        "overhead_ms": round(overhead_s * 1000, 3),
        "duration_ms": event.duration_ms,
    }


def denied_line(
    denied: Denied, subject: Subject | None, currency: Currency | None, *, provider: str, model: str, overhead_s: float
) -> dict[str, Any]:
    """For `request_denied`; `subject` None where the request did not say who is spending."""
    binding = denied.binding
    return {
        **_who(denied.request_id, subject, provider, model),
        "reason": denied.reason.value,
        "binding": None if binding is None else binding.owner,
        "ceiling": _amount(denied.ceiling_atoms, currency),
        "lease_age_s": None if binding is None or binding.lease_age_ms is None else binding.lease_age_ms / 1000,
        "overhead_ms": round(overhead_s * 1000, 3),
    }


def _who(request_id: str, subject: Subject | None, provider: str, model: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"request_id": request_id}
    if subject is not None:
        facts["customer"] = subject.customer
        facts["path"] = format_path(subject.path) or None
        for name in ("user", "agent", "session", "feature", "product"):
            facts[name] = getattr(subject, name) or None
    facts["provider"] = provider
    facts["model"] = model[:MAX_MODEL_CHARACTERS] or None
    return facts


def _amount(atoms: int | None, currency: Currency | None) -> str | None:
    return None if atoms is None or currency is None else f"{format_amount(atoms, currency)} {currency.code}"
