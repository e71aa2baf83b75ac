"""The most a call can use, and so the most it can cost, before it runs (L0).

A ceiling is a *bound*: never exceeded by what the provider bills. For byte-level tokenizers a
text has at most as many tokens as it has UTF-8 bytes, so a request's bytes bound its prompt;
the output limit bounds its answer. What has no such bound says so by name, and a hard limit
refuses it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.rate_cards import ContextTier, RateCard, Rates, round_atom

RATES_REMEMBERED: Final = 1024
"""Sets of rates whose dearest is remembered; the one used longest ago goes first."""


WITHIN_WINDOW: Final = " (bounded by the model's window alone)"
"""Ends what is named in `Ceiling.unbounded` where it is read once and billed as input: documents, files by their id.

What one pass of a model reads is no longer than the model's window; a longer prompt is refused by the provider. What
a tool at the provider reads, or a further pass, has no such end.
"""


class Ceiling(msgspec.Struct, frozen=True):
    """The most tokens of each side that a request allows.

    `output_limit` is the request's own limit per choice, None where it sets none: then the
    model's. `cache_write` is the dearest lifetime that the request may write to a cache (``,
    `5m`, `1h`). `tier` and `geo` are what the request asks for, None where it leaves them to the
    provider. `unbounded` names each feature of the request whose cost nothing bounds. `units` has what is
    billed by the piece beside tokens, each with the most of it.
    """

    model: str
    input_tokens: int
    output_limit: int | None
    choices: int = 1
    tier: str | None = None
    geo: str | None = None
    cache_write: str = ""
    audio: bool = False
    unbounded: tuple[str, ...] = ()
    units: tuple[tuple[str, int], ...] = ()

    def longest(self, card: RateCard) -> int:
        """Output tokens of one choice at most: what was asked for, else the model's own limit."""
        return card.max_output_tokens if self.output_limit is None else self.output_limit

    def output_tokens(self, card: RateCard) -> int:
        """Output tokens at most, over all choices."""
        return self.longest(card) * self.choices


def within_window(ceiling: Ceiling, card: RateCard) -> Ceiling | None:
    """The ceiling of a call whose prompt nothing bounds but its model's window; None where something else is unbounded.

    A whole window is much: a page of a document is some 300 to 6,000 tokens. But no page has a most: its text may be
    as long as one likes.
    """
    if card.unbounded or not ceiling.unbounded:
        return None
    if not all(feature.endswith(WITHIN_WINDOW) for feature in ceiling.unbounded):
        return None
    return msgspec.structs.replace(ceiling, input_tokens=card.context_window, unbounded=())


class Unbounded(ValueError):
    """This call's cost has no bound; `features` says what in it has none."""

    def __init__(self, features: tuple[str, ...]) -> None:
        super().__init__(", ".join(features))
        self.features = features


class Bound(NamedTuple):
    """What prices every ceiling of one kind: one card, tier, place and kind of prompt.

    `served` has a row for each set of tiers that may serve, each of (input tokens above which it holds,
    input rate, output rate), ascending, in hundredths of a pico-unit times the place's percent;
    `atom` is one atom in the same unit.
    """

    served: tuple[tuple[tuple[int, int, int], ...], ...]
    atom: int

    def atoms(self, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens can cost, in atoms; rounded by the rule of a charge."""
        most = 0
        for steps in self.served:
            _, input_rate, output_rate = steps[0]
            if len(steps) > 1:
                for above, step_input, step_output in steps:
                    if input_tokens > above:
                        input_rate, output_rate = step_input, step_output
            cost = input_tokens * input_rate + output_tokens * output_rate
            if cost > most:  # noqa: PLR1730 - max() takes three times as long, and this runs for every call
                most = cost
        return max(1, (2 * most + self.atom) // (2 * self.atom)) if most > 0 else 0


def bound_of(ceiling: Ceiling, card: RateCard, currency: Currency) -> Bound:
    """What prices a ceiling, and every other that asks for the same tier, place and kind of prompt.

    Every input token is priced at the dearest rate that it could be billed at, every output token
    likewise, in the dearest context tier that the input may reach. The provider decides which service
    tier and which place serve a request that names none (by the project's or workspace's settings), so
    that is bounded by the dearest of those that the card prices. **What it rests on:** a tier that the
    card does not price is not in the bound. An account whose default is a dearer tier (`priority`) needs
    that tier's prices on its card; without them the charge is the hold, flagged `partly_unpriced`, and
    may be less than the provider's bill.

    Raises:
        Unbounded: a feature, the model, or the tier or place asked for has no bound.
    """
    features = ceiling.unbounded
    if card.unbounded:
        features = (*features, card.unbounded)
    served = card.tiers_that_may_serve(ceiling.tier)
    if not served:
        features = (*features, f"service tier {ceiling.tier}")
    percent = card.most_percent_for(ceiling.geo)
    if percent is None:
        features = (*features, f"inference_geo {ceiling.geo}: this model has no price for it")
    if features or percent is None:
        raise Unbounded(features)
    return Bound(
        tuple(_steps(tiers, ceiling.cache_write, ceiling.audio, percent) for tiers in served),
        round_atom(currency, parts=100),
    )


def price_ceiling(ceiling: Ceiling, card: RateCard, currency: Currency) -> int:
    """The most the call can cost, in atoms (see `bound_of`).

    Raises:
        Unbounded: as `bound_of`.
    """
    atoms = bound_of(ceiling, card, currency).atoms(ceiling.input_tokens, ceiling.output_tokens(card))
    return atoms + unit_atoms(ceiling, card, currency) if ceiling.units else atoms


def unit_atoms(ceiling: Ceiling, card: RateCard, currency: Currency) -> int:
    """The most that a ceiling's units can cost, rounded up, so that with the tokens' it is no less than the charge.

    Raises:
        Unbounded: the card has no price for a unit.
    """
    pico = 0
    for unit, count in ceiling.units:
        rate = card.unit_rates.get(unit)
        if rate is None:
            raise Unbounded((f"{unit}: this model has no price for it",))
        pico += rate * count
    return -(-pico // round_atom(currency, parts=1))


def _steps(
    tiers: tuple[ContextTier, ...], cache_write: str, audio: bool, percent: int
) -> tuple[tuple[int, int, int], ...]:
    """The highest input and output rate over the tiers that an input may reach, by its length."""
    input_rate = output_rate = 0
    steps: list[tuple[int, int, int]] = []
    for number, tier in enumerate(tiers):
        input_rate = max(input_rate, _dearest_input(tier.rates, cache_write, audio))
        output_rate = max(output_rate, _dearest_output(tier.rates, audio))
        steps.append((tier.above_input_tokens if number else -1, input_rate * percent, output_rate * percent))
    return tuple(steps)


@lru_cache(maxsize=RATES_REMEMBERED)
def _dearest_input(rates: Rates, cache_write: str, audio: bool) -> int:
    dearest = max(rates.input, rates.cache_read or 0, rates.input_image or 0)
    if cache_write:
        dearest = max(dearest, rates.cache_write or 0)
    if cache_write == "1h":
        dearest = max(dearest, rates.cache_write_1h or 0)
    if audio:
        if rates.input_audio is None:
            raise Unbounded(("audio input: this model has no price for it",))
        dearest = max(dearest, rates.input_audio)
    return dearest


@lru_cache(maxsize=RATES_REMEMBERED)
def _dearest_output(rates: Rates, audio: bool) -> int:
    dearest = max(rates.output, rates.output_image or 0)
    if audio:
        if rates.output_audio is None:
            raise Unbounded(("audio output: this model has no price for it",))
        dearest = max(dearest, rates.output_audio)
    return dearest
