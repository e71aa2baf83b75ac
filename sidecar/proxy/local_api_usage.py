"""Reports of usage that is no model call: charged like one, and once for each key (L27, L29).

The id under which a report is booked is made from its customer and its key, so a repetition has
the id of what it repeats: what is remembered here, or stands in the book, is answered again. The
body stands in the record from the admission on; a process that is killed between the two writes
of a report finds all of it in its outbox.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from sidecar.contract.codec import encode
from sidecar.contract.messages import Admission, UsageEvent
from sidecar.core.credits.amounts import Currency, format_amount
from sidecar.core.credits.holds import Split
from sidecar.core.governance.decisions import Consulted, Decision, Denied, Reason, pack_figures
from sidecar.core.governance.tenancy import Subject, format_path
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.errors import SpoolFull
from sidecar.leases.table import Covered
from sidecar.providers.dialect import Ending
from sidecar.proxy.authorize import Authority, write_admission
from sidecar.proxy.local_api_decide import Wanted, feature_wanted, hold
from sidecar.proxy.local_api_problems import Refused
from sidecar.proxy.local_api_types import Amount, UsageAnswer, UsageReport
from sidecar.proxy.recent import Denial, RecentDecisions
from sidecar.telemetry.metrics import Metrics

PROTOCOL: Final = "report"
"""In place of a provider's protocol, in the record of what was reported."""

REMEMBERED_DENIALS: Final = 1024
"""Refused reports whose key keeps its answer; the oldest is forgotten first."""

_LASTING: Final = frozenset(
    {Reason.BUDGET_EXCEEDED, Reason.REQUEST_EXCEEDS_BUDGET, Reason.CREDITS_EXHAUSTED, Reason.DEBT_LIMIT}
)
"""Denials that stay for their key (L28); any other may be asked again with the same one."""

logger = logging.getLogger(__name__)


class Past(msgspec.Struct, frozen=True):
    """A decision of the past: `view` is how it is shown, `report` the body where it was a report.

    `charge` is None for a denial, an open call, and what has no price. `subject` says who spent, as the view
    has it: its path begins with the customer.
    """

    view: Any
    customer: str
    report: bytes
    charge: Amount | None
    consulted: tuple[Consulted, ...]
    subject: dict[str, str] = {}

    def is_of(self, holder: Subject) -> bool:
        """Whether it is of whom a virtual key names: of its node or below, its user, and all else that it names."""
        said = self.subject
        names = ("user", "agent", "session", "feature", "product")
        return (
            self.customer == holder.customer
            and (not holder.path or str(holder.path[-1]) in said.get("path", "").split("/")[1:])
            and all(getattr(holder, name) in ("", said.get(name, "")) for name in names)
        )


PastDecisions = Callable[[str], Awaitable[Past | None]]
"""Finds a decision by its request's id, here or in the book; raises LedgerUnavailable."""


class Reports:
    """Takes reports. Use it from one event loop."""

    def __init__(self, authority: Authority, recent: RecentDecisions, metrics: Metrics, past: PastDecisions) -> None:
        self._authority = authority
        self._recent = recent
        self._metrics = metrics
        self._past = past
        self._running: dict[str, asyncio.Future[None]] = {}
        self._denied: dict[str, tuple[bytes, Denied]] = {}

    async def take(
        self, subject: Subject, report: UsageReport, request_id: str, key_id: str = ""
    ) -> UsageAnswer | Denied:
        """Charge a report, or answer as its key was answered before.

        Args:
            subject: who spends, as the application named it.
            report: what was used.
            request_id: of `report_id`.
            key_id: names the virtual key that it was let in by, `` for none (S-13).

        Raises:
            Refused: the feature or unit is not in the catalog, or the key came with another body before.
            LedgerUnavailable: nobody can say whether the key was used.
        """
        while (running := self._running.get(request_id)) is not None:
            await asyncio.wait((running,))
        turn = self._running[request_id] = asyncio.get_running_loop().create_future()
        try:
            return await self._take(subject, report, request_id, key_id)
        finally:
            del self._running[request_id]
            turn.set_result(None)

    async def _take(self, subject: Subject, report: UsageReport, request_id: str, key_id: str) -> UsageAnswer | Denied:
        refused = self._denied.get(request_id)
        if refused is not None:
            _check_same(refused[0], subject, report)
            return refused[1]
        past = await self._past(request_id)
        if past is not None and past.charge is not None:
            _check_same(past.report, subject, report)
            return _answer(request_id, past)
        rates = self._authority.rates_now()
        wanted = feature_wanted(subject, report.feature, report.quantity, rates, unit=report.unit)
        body = _body(subject, report, rates.features[report.feature].unit)
        covered = await hold(wanted, self._authority, request_id=request_id)
        if isinstance(covered, Covered):
            verdict = self._charge(wanted, covered, report, body, request_id=request_id, key_id=key_id)
            if isinstance(verdict, UsageAnswer):
                return verdict
        else:
            verdict = covered
        self._note_denied(verdict, wanted, body, request_id)
        return verdict

    def _charge(
        self, wanted: Wanted, covered: Covered, report: UsageReport, body: bytes, *, request_id: str, key_id: str
    ) -> UsageAnswer | Denied:
        """Write the admission, settle it and write that: one step, in which nothing is awaited."""
        authority, held = self._authority, covered.held
        rates, now_ms = authority.rates_now(), authority.clock.wall_ms()
        usage = Usage(UsageState.FINAL, units={rates.features[report.feature].unit: report.quantity}, raw=body)
        plan = authority.table.plan(covered.standing, wanted.subject, model="", provider="")
        at = authority.clock.monotonic() if held is None else held.taken_at
        decision = Decision(
            covered.source,
            wanted.atoms,
            covered.standing_age_ms,
            None if held is None else held.lease_age_ms,
            covered.standing.plan,
            f"feature:{report.feature}",
            rates.sha256,
            asked=plan.asked,
            figures=pack_figures(plan.look(at).figures),
            key_id=key_id,
        )
        admission = Admission(
            request_id,
            plan.placed,
            "",
            PROTOCOL,
            "",
            now_ms,
            wanted.currency.code,
            wanted.atoms,
            decision,
            () if held is None else held.budget_leases,
            () if held is None else held.slices,
            reported=usage,
        )
        denied = write_admission(admission, held, authority)
        if denied is not None:
            return denied
        split = Split((), 0) if held is None else authority.table.settle(held, wanted.atoms)
        event = UsageEvent(
            msgspec.structs.replace(admission, reported=None),
            duration_ms=0,
            status=0,
            ending=Ending.COMPLETE.value,
            usage=usage,
            charge_atoms=wanted.atoms,
            paid=split.legs,
            excess_atoms=split.excess,
        )
        try:
            recorded = authority.spool.settle(event)
        except SpoolFull as problem:  # it is charged here, and settled from its admission by the next start
            self._metrics.settle_errors.add()
            facts = {"request_id": request_id, "reason": str(problem)}
            logger.error("settlement_not_recorded", extra={"facts": facts})
            recorded = encode(event)
        self._recent.remember(request_id, recorded)
        self._metrics.decisions.add("admitted", covered.source.value)
        charge = format_amount(wanted.atoms, wanted.currency)
        facts = {"request_id": request_id, "customer": wanted.subject.customer, "feature": report.feature}
        logger.info("usage_reported", extra={"facts": facts | {"quantity": report.quantity, "charge": charge}})
        shown = Amount(wanted.currency.code, wanted.atoms, wanted.currency.scale, charge)
        past = Past(None, wanted.subject.customer, body, shown, decision.told().consulted)
        return _answer(request_id, past)

    def _note_denied(self, denied: Denied, wanted: Wanted, body: bytes, request_id: str) -> None:
        self._metrics.decisions.add("denied", denied.reason.value)
        now_ms = self._authority.clock.wall_ms()
        self._recent.remember(request_id, Denial(denied, wanted.subject, "", "", now_ms))
        if denied.reason in _LASTING:
            self._denied[request_id] = body, denied
            if len(self._denied) > REMEMBERED_DENIALS:
                del self._denied[next(iter(self._denied))]


def report_id(customer: str, key: str) -> str:
    """The id of a customer's report with a key: the same wherever and whenever it comes."""
    digest = hashlib.sha256(b"\0".join((b"report", customer.encode(), key.encode()))).hexdigest()
    return f"req_{digest[:40]}"


def _body(subject: Subject, report: UsageReport, unit: str) -> bytes:
    """What a repetition is held against: the report with its unit, and who spends."""
    said = {"feature": report.feature, "unit": unit, "quantity": report.quantity, "subject": _said(subject)}
    return msgspec.json.encode(said, order="sorted")


def _said(subject: Subject) -> dict[str, str]:
    """What a subject says of itself beside the customer, which is in the id, and the feature, which is the body's."""
    facts = {name: getattr(subject, name) for name in ("user", "agent", "session", "product")}
    facts["path"] = format_path(subject.path)
    return {name: value for name, value in facts.items() if value}


def _check_same(body: bytes, subject: Subject, report: UsageReport) -> None:
    """Hold a repetition against what its key came with before.

    Raises:
        Refused: they differ; it names the first field that does.
    """
    before = _read(body)
    now: dict[str, Any] = {"feature": report.feature, "quantity": report.quantity}
    if report.unit:
        now["unit"] = report.unit
    said, known = _said(subject), before.get("subject", {})
    differing = [name for name, value in now.items() if before.get(name) != value]
    differing += [f"Spend-{name.title()}" for name in sorted({*said, *known}) if said.get(name) != known.get(name)]
    if differing:
        what = "differs from what this key came with before"
        raise Refused("idempotency_mismatch", f"{differing[0]}: {what}", problems=dict.fromkeys(differing, what))


def _answer(request_id: str, past: Past) -> UsageAnswer:
    if past.charge is None:
        raise ValueError("a report has a charge")
    body = _read(past.report)
    left = _left(past.consulted)
    currency = past.charge
    return UsageAnswer(
        request_id,
        past.customer,
        body["feature"],
        body["unit"],
        body["quantity"],
        past.charge,
        None if left is None else _like(left, currency),
    )


def _read(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


def _left(consulted: tuple[Consulted, ...]) -> int | None:
    """What the tightest hard budget still had, or the grants together if that is less; None where nothing is known."""
    budgets = [c.remaining for c in consulted if c.kind == "budget" and c.hard and c.remaining is not None]
    grants = [c.remaining for c in consulted if c.kind == "grant" and c.remaining is not None]
    return min([*budgets, *([sum(grants)] if grants else [])], default=None)


def _like(atoms: int, other: Amount) -> Amount:
    return Amount(other.currency, atoms, other.scale, format_amount(atoms, Currency(other.currency, other.scale)))
