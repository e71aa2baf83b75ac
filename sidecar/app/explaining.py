"""What a sidecar in this process remembers of a call, as the ledger's API shows it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sidecar.contract.messages import Admission, UsageEvent
from sidecar.core.credits.amounts import Currency
from sidecar.core.governance.tenancy import Subject, format_path
from sidecar.ledger.showing import whole_path
from sidecar.ledger.views import ExplainView, Money, money
from sidecar.proxy.authorize import Admitted
from sidecar.proxy.expectations import Expectations
from sidecar.proxy.recent import Denial, RecentDecisions


def explain_recent(request_id: str, recent: RecentDecisions, currencies: Mapping[str, Currency]) -> ExplainView | None:
    """A denial, a call still open, or one settled that the book has not got yet; None: not remembered."""
    known = recent.find(request_id)
    if isinstance(known, Denial):
        return _denial(request_id, known, currencies)
    if isinstance(known, Admitted):
        return _call(known.admission, "open", currencies)
    if isinstance(known, UsageEvent):
        return _settled(known, currencies)
    return None


def with_expected(view: ExplainView, expected: Expectations, currencies: Mapping[str, Currency]) -> ExplainView:
    """The same call with what those of its model and protocol are expected to cost, if enough were settled here."""
    told = view.ceiling or view.charge
    currency = None if told is None else currencies.get(told.currency)
    if currency is None:
        return view
    atoms = expected.expected_atoms(view.provider, view.model, currency.code, protocol=view.protocol)
    return view if atoms is None else msgspec.structs.replace(view, expected=money(atoms, currency))


def _settled(event: UsageEvent, currencies: Mapping[str, Currency]) -> ExplainView:
    view = _call(event.admission, "settled", currencies)
    return msgspec.structs.replace(
        view,
        charge=_money(event.charge_atoms, event.admission.currency, currencies),
        usage=event.usage,
        flags=event.flags,
    )


def _denial(request_id: str, known: Denial, currencies: Mapping[str, Currency]) -> ExplainView:
    denied = known.denied
    return ExplainView(
        request_id=request_id,
        outcome="denied",
        customer="" if known.subject is None else known.subject.customer,
        subject={} if known.subject is None else _subject(known.subject),
        provider=known.provider,
        model=known.model,
        protocol=known.protocol,
        ceiling=_money(denied.ceiling_atoms, denied.currency, currencies),
        held=None,
        charge=None,
        decision=None,
        reason=denied.reason.value,
        detail=denied.detail,
        consulted=denied.consulted,
    )


def _call(admission: Admission, outcome: str, currencies: Mapping[str, Currency]) -> ExplainView:
    decision = admission.decision.told()
    return ExplainView(
        request_id=admission.request_id,
        outcome=outcome,
        customer=admission.subject.customer,
        subject=_subject(admission.subject),
        provider=admission.provider,
        model=admission.model,
        protocol=admission.protocol,
        ceiling=_money(decision.ceiling_atoms, admission.currency, currencies),
        held=_money(admission.held_atoms, admission.currency, currencies),
        charge=None,
        decision=decision,
        consulted=decision.consulted,
    )


def _subject(subject: Subject) -> dict[str, str]:
    facts = {name: str(getattr(subject, name)) for name in subject.__struct_fields__ if name != "path"}
    facts["path"] = whole_path(subject.customer, format_path(subject.path))  # as the ledger writes it
    return {name: value for name, value in facts.items() if value}


def _money(atoms: int | None, code: str, currencies: Mapping[str, Currency]) -> Money | None:
    currency = currencies.get(code)
    return None if atoms is None or currency is None else money(atoms, currency)
