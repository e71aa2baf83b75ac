"""The most a call can use, and so the most it can cost, before it runs (L0).

A ceiling is a *bound*: never exceeded by what the provider bills. For byte-level tokenizers a
text has at most as many tokens as it has UTF-8 bytes, so a request's bytes bound its prompt;
the output limit bounds its answer. What has no such bound says so by name, and a hard limit
refuses it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.rate_cards import ContextTier, RateCard, Rates, round_to_atoms

RATES_REMEMBERED: Final = 1024
"""Sets of rates whose dearest is remembered; the one used longest ago goes first."""


class Ceiling(msgspec.Struct, frozen=True):
    """The most tokens of each side that a request allows.

    `output_limit` is the request's own limit per choice, None where it sets none: then the
    model's. `cache_write` is the dearest lifetime that the request may write to a cache (``,
    `5m`, `1h`). `tier` and `geo` are what the request asks for, None where it leaves them to the
    provider. `unbounded` names each feature of the request whose cost nothing bounds.
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

    def output_tokens(self, card: RateCard) -> int:
        """Output tokens at most, over all choices."""
        limit = card.max_output_tokens if self.output_limit is None else self.output_limit
        return limit * self.choices


class Unbounded(ValueError):
    """This call's cost has no bound; `features` says what in it has none."""

    def __init__(self, features: tuple[str, ...]) -> None:
        super().__init__(", ".join(features))
        self.features = features


def price_ceiling(ceiling: Ceiling, card: RateCard, currency: Currency) -> int:
    """The most the call can cost, in atoms; rounded up by the same rule as a charge.

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
    output_tokens = ceiling.output_tokens(card)
    pico = 0
    for tiers in served:
        input_rate, output_rate = _dearest(ceiling, tiers)
        pico = max(pico, ceiling.input_tokens * input_rate + output_tokens * output_rate)
    return round_to_atoms(pico * percent, currency, parts=100)


def _dearest(ceiling: Ceiling, tiers: tuple[ContextTier, ...]) -> tuple[int, int]:
    """The highest input and output rate over the tiers that the input may reach."""
    input_rate = output_rate = 0
    for tier in tiers:
        if ceiling.input_tokens > tier.above_input_tokens or tier is tiers[0]:
            input_rate = max(input_rate, _dearest_input(tier.rates, ceiling.cache_write, ceiling.audio))
            output_rate = max(output_rate, _dearest_output(tier.rates, ceiling.audio))
    return input_rate, output_rate


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
