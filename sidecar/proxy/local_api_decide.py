"""What a model call and a report have in common for /spend/v1/: priced, and held by the same leases (L40)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.core.governance.decisions import Consulted, Denied, Reason
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.core.pricing.features import price_feature
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.leases.table import NO_LIMIT, Covered, Held, Uncovered
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.authorize import Authority
from sidecar.proxy.clamp import Clamp, shortened
from sidecar.proxy.denial_texts import MONEY, money_detail, plain_detail
from sidecar.proxy.local_api_problems import Refused
from sidecar.proxy.open_ended import OpenEnded
from sidecar.proxy.price import Priced, affordable_output_tokens, price


class Surveyor(Protocol):
    """What is needed of the lease keeper to tell a balance."""

    async def survey(self, subject: Subject) -> tuple[Covered, tuple[Consulted, ...]] | Uncovered:
        """Every budget and grant of a subject as it stands."""
        ...


class Wanted(msgspec.Struct, frozen=True):
    """What is asked about, with its price: `atoms` at most. `bound` and `ceiling` are a model call's.

    `unbounded` names what of it has no bound, and is not in `atoms`.
    """

    subject: Subject
    model: str
    provider: str
    atoms: int
    currency: Currency
    bound: Priced | None = None
    ceiling: Ceiling | None = None
    unbounded: tuple[str, ...] = ()


def feature_wanted(subject: Subject, name: str, quantity: int, rates: RateBook, *, unit: str = "") -> Wanted:
    """So many units of a feature.

    Raises:
        Refused: no such feature, another unit than its own, or more than an amount can be.
    """
    feature = rates.features.get(name)
    if feature is None:
        what = "not a feature of the catalog"
        raise Refused("feature_unknown", f"feature: {what}", problems={"feature": what})
    if unit and unit != feature.unit:
        what = f"this feature is counted in {feature.unit}"
        raise Refused("unit_mismatch", f"unit: {what}", problems={"unit": what})
    atoms = price_feature(feature, quantity)
    if atoms is None:
        what = "so many cost more than an amount can be"
        raise Refused("invalid_amount", f"quantity: {what}", problems={"quantity": what})
    placed = msgspec.structs.replace(subject, feature=name)
    return Wanted(placed, "", "", atoms, rates.currencies[feature.currency])


def model_wanted(
    subject: Subject, ceiling: Ceiling, provider: str, rates: RateBook, *, at_ms: int, open_ended: OpenEnded
) -> Wanted | Denied:
    """A call of a model; Denied where it has no price, or no bound and such may not run.

    Raises:
        Refused: no provider is named, and several have a model of this name.
    """
    if not provider:
        priced = _providers_of(rates, ceiling.model, at_ms)
        if len(priced) > 1:
            what = f"several have this model: name one of {', '.join(priced)}"
            raise Refused("invalid_body", f"provider: {what}", problems={"provider": what})
        provider = priced[0] if priced else ""
    bound = price(ceiling, rates, provider=provider, at_ms=at_ms)
    features: tuple[str, ...] = ()
    if isinstance(bound, Denied):
        let_in = open_ended.let_in(ceiling, rates, provider=provider, at_ms=at_ms)
        if let_in is None:
            return bound
        ceiling, bound, features = let_in
    return Wanted(subject, ceiling.model, provider, bound.ceiling_atoms, bound.currency, bound, ceiling, features)


def _providers_of(rates: RateBook, model: str, at_ms: int) -> list[str]:
    providers: Iterable[str] = dict.fromkeys(card.provider for card in rates.cards)
    return [provider for provider in providers if rates.find(provider, model, at_ms) is not None]


async def hold(wanted: Wanted, authority: Authority, *, request_id: str) -> Covered | Denied:
    """Hold what is wanted, by what is leased here or else with the ledger's help; nothing is held for what is free.

    After it returns Covered, whoever asked must settle or release `held` before anything is awaited.
    """
    covered = await _cover(wanted, authority)
    if isinstance(covered, Uncovered):
        return _denied(wanted, covered, request_id)
    return _in_its_currency(wanted, covered, authority, request_id)


async def hold_or_shorten(
    wanted: Wanted, authority: Authority, *, request_id: str
) -> tuple[Covered | Denied, Wanted, Clamp | None]:
    """As `hold`; a model call that does not fit is tried once more with the output limit that it would be given.

    Returns what became of it, what was held for, and how it was shortened, None where it was not.
    """
    covered = await _cover(wanted, authority)
    if not isinstance(covered, Uncovered):
        return _in_its_currency(wanted, covered, authority, request_id), wanted, None
    shorter = _shortened(wanted, covered, authority)
    if shorter is not None:
        again = await _cover(shorter[0], authority, since=authority.clock.monotonic())
        if isinstance(again, Covered):
            return _in_its_currency(shorter[0], again, authority, request_id), *shorter
    return _denied(wanted, covered, request_id), wanted, None


def _shortened(wanted: Wanted, uncovered: Uncovered, authority: Authority) -> tuple[Wanted, Clamp] | None:
    """The same call with a lower output limit, by the rules by which a call itself would get one."""
    bound, ceiling, standing = wanted.bound, wanted.ceiling, uncovered.standing
    if bound is None or ceiling is None or standing is None:
        return None
    placed = msgspec.structs.replace(wanted.subject, path=standing.path)
    budgets = standing.budgets_for(placed, model=wanted.model, provider=wanted.provider)
    found = shortened(
        RequestFacts(ceiling, stream=False, body=b""),
        None,
        bound,
        uncovered,
        shorten=_limited,
        may_clamp=all(budget.clamp for budget in budgets if budget.hard),
        floor_tokens=authority.clamp_floor_tokens,
    )
    if found is None:
        return None
    shorter, clamp = found
    atoms = price_ceiling(shorter.ceiling, bound.card, bound.currency)
    shorter_bound = msgspec.structs.replace(bound, ceiling_atoms=atoms)
    return msgspec.structs.replace(wanted, atoms=atoms, bound=shorter_bound, ceiling=shorter.ceiling), clamp


def _limited(facts: RequestFacts, tokens: int) -> RequestFacts:
    ceiling = msgspec.structs.replace(facts.ceiling, output_limit=tokens)
    return msgspec.structs.replace(facts, ceiling=ceiling)


async def _cover(wanted: Wanted, authority: Authority, *, since: float | None = None) -> Covered | Uncovered:
    covered = _at_hand(wanted, authority)
    if covered is not None:
        return covered
    return await authority.keeper.cover(
        wanted.subject,
        model=wanted.model,
        provider=wanted.provider,
        need_atoms=wanted.atoms,
        currency=wanted.currency.code,
        since=since,
    )


def _in_its_currency(wanted: Wanted, covered: Covered, authority: Authority, request_id: str) -> Covered | Denied:
    if covered.standing.currency != wanted.currency.code:
        if covered.held is not None:
            authority.table.release(covered.held)
        detail = f"This has no price in {covered.standing.currency}, which this customer pays with."
        return Denied(Reason.MODEL_NOT_PRICED, detail, request_id)
    return covered


def _at_hand(wanted: Wanted, authority: Authority) -> Covered | Uncovered | None:
    known = authority.keeper.standing(wanted.subject)
    if known is None:
        return None
    if not wanted.atoms or known.standing.currency != wanted.currency.code:
        return known
    taken = authority.table.take(
        known.standing,
        wanted.subject,
        model=wanted.model,
        provider=wanted.provider,
        atoms=wanted.atoms,
        now=authority.clock.monotonic(),
    )
    if isinstance(taken, Held):
        return Covered(known.standing, known.standing_age_ms, taken)
    if taken is NO_LIMIT:
        return Uncovered(Reason.NO_LIMIT_APPLIES, standing_age_ms=known.standing_age_ms)
    return None


def _denied(wanted: Wanted, uncovered: Uncovered, request_id: str) -> Denied:
    """The denial that this amounts to, in words."""
    reason, tokens = uncovered.reason, None
    affordable = uncovered.affordable_atoms
    if wanted.bound is not None and wanted.ceiling is not None and affordable is not None:
        tokens = affordable_output_tokens(wanted.ceiling, wanted.bound, affordable)
    detail = uncovered.detail
    if not detail and reason in MONEY:
        detail = money_detail(reason, uncovered.binding, wanted.atoms, wanted.currency, affordable_tokens=tokens)
    return Denied(
        reason,
        detail or plain_detail(reason),
        request_id,
        uncovered.binding,
        uncovered.consulted,
        wanted.atoms,
        wanted.currency.code,
        uncovered.standing_age_ms,
        uncovered.retry_after_ms,
        tokens,
        uncovered.owner,
    )
