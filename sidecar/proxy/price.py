"""What a call can cost at most: the pure half of a decision.

Unknown is never zero (L5): a model without a price is refused, or by policy counted without a
charge where credit covers it; a call without a bound is refused. Money is limited everywhere (a
customer with neither a wallet nor a hard budget may not call at all, L16a), so neither depends on
which limits apply, but for that one policy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from sidecar.core.credits.amounts import MAX_ATOMS, Currency
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.ceilings import Bound, Ceiling, Unbounded, bound_of, unit_atoms
from sidecar.core.pricing.rate_cards import RateBook, RateCard

REMEMBERED_BOUNDS: Final = 4096
"""Kinds of calls whose price is remembered with a rate book; all are forgotten at once when there would be more."""


class UnknownModel(StrEnum):
    """What becomes of a call to a model without a price."""

    DENY = "deny"
    METER = "meter"  # counted without a charge, where a wallet covers it and no hard budget would be blind to it


class Priced(msgspec.Struct, frozen=True):
    """The most a call can cost, and by which card."""

    card: RateCard
    currency: Currency
    ceiling_atoms: int


class Unpriced(msgspec.Struct, frozen=True):
    """A call to a model without a price that may run all the same: nothing is held for it, it is only counted."""


UNPRICED: Final = Unpriced()


def price(ceiling: Ceiling, rates: RateBook, *, provider: str, at_ms: int) -> Priced | Denied:
    """Price a call's ceiling in its card's currency, or deny the call because it has no price or no bound.

    Args:
        ceiling: of usage.
        rates: the rate cards in force.
        provider: whose cards.
        at_ms: the instant (Unix ms).
    """
    key = (provider, ceiling.model, ceiling.tier, ceiling.geo, ceiling.cache_write, ceiling.audio)
    known: _Known | None = None if ceiling.unbounded else rates.remembered.get(key)
    if known is None or not known.from_ms <= at_ms < known.until_ms:
        found = _look_up(ceiling, rates, provider, at_ms)
        if isinstance(found, Denied):
            return found
        known = found
        if len(rates.remembered) >= REMEMBERED_BOUNDS:
            rates.remembered.clear()
        rates.remembered[key] = known
    limit = known.card.max_output_tokens if ceiling.output_limit is None else ceiling.output_limit
    atoms = known.bound.atoms(ceiling.input_tokens, limit * ceiling.choices)
    if ceiling.units:
        try:
            atoms += unit_atoms(ceiling, known.card, known.currency)
        except Unbounded as unbounded:
            return _without_bound(unbounded)
    if atoms > MAX_ATOMS:
        return Denied(Reason.REQUEST_NOT_BOUNDABLE, "The most this call could cost is beyond any amount.")
    return Priced(known.card, known.currency, atoms)


class _Known(NamedTuple):
    """What prices a kind of call, from one instant until another."""

    card: RateCard
    currency: Currency
    bound: Bound
    from_ms: int
    until_ms: int


def _look_up(ceiling: Ceiling, rates: RateBook, provider: str, at_ms: int) -> _Known | Denied:
    card = rates.find(provider, ceiling.model, at_ms)
    currency = None if card is None else rates.currencies.get(card.currency)
    if card is None or currency is None:
        detail = "This model has no price: add a rate card for it, or set `unknown_model: meter` to count it uncharged."
        return Denied(Reason.MODEL_NOT_PRICED, detail)
    try:
        bound = bound_of(ceiling, card, currency)
    except Unbounded as unbounded:
        return _without_bound(unbounded)
    return _Known(card, currency, bound, at_ms, rates.next_change(provider, ceiling.model, at_ms))


def _without_bound(unbounded: Unbounded) -> Denied:
    detail = f"The cost of this call has no bound, and its money is limited: {', '.join(unbounded.features)}."
    return Denied(Reason.REQUEST_NOT_BOUNDABLE, detail)


def admit_unpriced(standing: Standing, subject: Subject, *, model: str, provider: str, at_ms: int) -> Unpriced | Denied:
    """Whether a model without a price may be called and only counted (`unknown_model: meter`).

    Only where no hard budget applies, which would be blind to it, and the customer's wallet is
    required and a live grant's scope covers the call.
    """
    placed = msgspec.structs.replace(subject, path=standing.path)
    if any(budget.hard for budget in standing.budgets_for(placed, model=model, provider=provider)):
        detail = "This model has no price, so a hard budget that applies could not count it: add a rate card for it."
        return Denied(Reason.MODEL_NOT_PRICED, detail)
    covered = any(grant.is_live(at_ms) for grant in standing.grants_for(placed, model=model))
    if standing.wallet is not Wallet.REQUIRED or not covered:
        detail = "This model has no price, and no credit of this customer covers it uncharged: add a rate card for it."
        return Denied(Reason.MODEL_NOT_PRICED, detail)
    return UNPRICED


def affordable_output_tokens(ceiling: Ceiling, priced: Priced, remaining_atoms: int) -> int | None:
    """The largest output limit (per choice) whose ceiling still fits, None if not even one token's does."""
    bound = bound_of(ceiling, priced.card, priced.currency)
    if ceiling.units:
        remaining_atoms -= unit_atoms(ceiling, priced.card, priced.currency)
    low, high = 0, ceiling.longest(priced.card)
    while low < high:
        middle = (low + high + 1) // 2
        if bound.atoms(ceiling.input_tokens, middle * ceiling.choices) <= remaining_atoms:
            low = middle
        else:
            high = middle - 1
    return low or None
