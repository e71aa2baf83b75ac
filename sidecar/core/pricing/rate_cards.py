"""Dated prices, and what a usage costs by them.

Rates are whole pico-units (10⁻¹² of the currency's unit) per token or per unit: $3 per million
tokens is 3,000,000. A charge is computed exactly and rounded once, half-up, to the currency's
atoms (L4). A kind of token for which a card has no rate of its own falls back to its parent's
rate only where that cannot be too low; otherwise the charge says which kinds it could not
price, and the caller settles by policy (L5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.features import FeaturePrice
from sidecar.core.pricing.usage import Tokens, Usage

FOR_EVER_MS = 2**62
"""Later than any instant."""

_ATOM_PICO: tuple[int, ...] = tuple(10 ** (12 - scale) for scale in range(13))
"""One atom in pico-units, by its currency's scale."""

_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$", re.ASCII)


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pico-units per token. `cache_write` is the shortest lifetime's rate (5 minutes at Anthropic).

    None: no rate of its own. A cached read then costs as fresh input; cache writes, audio and
    images are unpriced.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    input_audio: int | None = None
    output_audio: int | None = None
    cache_read_audio: int | None = None
    input_image: int | None = None
    output_image: int | None = None


class ContextTier(msgspec.Struct, frozen=True):
    """Rates for the whole call once its input is longer than `above_input_tokens`."""

    above_input_tokens: int
    rates: Rates


class RateCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one provider charges for some models from a day on.

    `models` are exact names; a name also covers its dated snapshots (`-20250929`, `-2024-08-06`).
    `service_tiers` holds whole sets of tiers by the provider's word (`flex`, `priority` …); the
    default set is `tiers`, ascending, whose first entry is above 0 tokens. `geo_percent` scales a
    charge served in a place (`us`: 110); a place it does not name has no price, but for those in
    DEFAULT_PLACES, which cost as the front page says. `unit_rates` are pico-units per unit outside tokens.
    `max_output_tokens` is the model's own limit; `unbounded`, where not empty, says why no call
    to it can be bounded. `source` and `checked_on` say where the prices were read, and when.
    """

    card_id: str
    provider: str
    models: tuple[str, ...]
    effective_from_ms: int
    currency: str
    tiers: tuple[ContextTier, ...]
    max_output_tokens: int
    context_window: int
    source: str
    checked_on: str
    family: str = "other"
    service_tiers: dict[str, tuple[ContextTier, ...]] = {}
    geo_percent: dict[str, int] = {}
    unit_rates: dict[str, int] = {}
    unbounded: str = ""

    def tiers_for(self, tier: str | None) -> tuple[ContextTier, ...] | None:
        """The tiers of a service tier; None where this card has no price for it."""
        if tier in DEFAULT_TIERS:
            return self.tiers
        return self.service_tiers.get(tier or "")

    def tiers_that_may_serve(self, tier: str | None) -> tuple[tuple[ContextTier, ...], ...]:
        """Every set of tiers by which a request that asks for `tier` may be billed; () if the one asked has no price.

        Asked for nothing, or for `auto`, a provider serves the default of the project, which may be any tier
        that this card prices, but for those of ASKED_TIERS. A tier that was asked for by name may be full,
        and is served as the default then. One that this card does not price cannot be foreseen: should it
        be served, `charge` names it.
        """
        if tier in UNDECIDED_TIERS:
            others = (tiers for name, tiers in self.service_tiers.items() if name not in ASKED_TIERS)
            return (self.tiers, *others)
        asked = self.tiers_for(tier)
        if asked is None:
            return ()
        return (asked,) if asked is self.tiers else (asked, self.tiers)

    def percent_for(self, geo: str | None) -> int | None:
        """What a charge served in a place is scaled by; None where this card has no price for the place."""
        percent = self.geo_percent.get(geo or "")
        return 100 if percent is None and geo in DEFAULT_PLACES else percent

    def most_percent_for(self, geo: str | None) -> int | None:
        """The most that a request for a place may be scaled by; for none the dearest: accounts have defaults."""
        if geo is None:
            return max((100, *self.geo_percent.values()))
        return self.percent_for(geo)


UNDECIDED_TIERS = frozenset({None, "", "auto"})
"""What a request says that leaves its tier to the provider, and so to the project's or organisation's settings."""

DEFAULT_TIERS = UNDECIDED_TIERS | {"default", "standard", "standard_only", "ON_DEMAND"}
"""The words by which providers name the tier whose prices are on the front page."""

UNBILLED_UNITS = frozenset(
    {"mcp_calls", "processed_input_tokens", "processed_output_tokens", "processed_cached_tokens"}
)
"""What is counted and has no price by the piece: a call of a server elsewhere costs the tokens that it brings; what
Cohere processed is told beside what it bills.

Source: docs.cohere.com "How does Cohere's pricing work", developers.openai.com/api/docs/guides/tools-connectors-mcp,
checked 2026-11.
"""

ASKED_TIERS = frozenset({"fast", "batch"})
"""Tiers that no default leads to: `speed: fast` stands in the request, batches have an endpoint of their own. No
provider says so in as many words."""

DEFAULT_PLACES = frozenset({None, "", "global", "not_available"})
"""The words for a place that is served at the front page's prices; `not_available`: a model that knows no places.

Source of `global`: platform.claude.com/docs/en/build-with-claude/data-residency, checked 2026-11. `not_available` is
taken for what its name says; no source for it was found.
"""


class RateBook:
    """All rate cards in force, found by provider, model and instant; and the features that are priced by the piece.

    Immutable once made. `sha256` is the digest of the catalog that it was read from; a
    usage entry names it, so that every charge can be computed again.
    """

    def __init__(
        self,
        cards: Iterable[RateCard],
        currencies: Iterable[Currency],
        *,
        sha256: str,
        features: Iterable[FeaturePrice] = (),
    ) -> None:
        self.sha256 = sha256
        self.remembered: dict[object, Any] = {}
        """What others worked out from these cards, each under a key of its own kind; forgotten with the book."""
        self.features = {feature.name: feature for feature in features}
        self.cards = tuple(cards)
        self.currencies = {currency.code: currency for currency in currencies}
        self._by_name: dict[tuple[str, str], list[RateCard]] = {}
        for card in self.cards:
            for name in card.models:
                self._by_name.setdefault((card.provider, name), []).append(card)
        for dated in self._by_name.values():
            dated.sort(key=lambda card: card.effective_from_ms, reverse=True)

    def find(self, provider: str, model: str, at_ms: int) -> RateCard | None:
        """The card in force for a model at an instant (Unix ms), or None: unknown is not free."""
        for card in self._dated(provider, model):
            if card.effective_from_ms <= at_ms:
                return card
        return None

    def next_change(self, provider: str, model: str, at_ms: int) -> int:
        """The next instant (Unix ms) from which `find` gives another card; FOR_EVER_MS if none is known."""
        later = (card.effective_from_ms for card in self._dated(provider, model) if card.effective_from_ms > at_ms)
        return min(later, default=FOR_EVER_MS)

    def _dated(self, provider: str, model: str) -> Sequence[RateCard]:
        """A model's cards, the latest first."""
        return self._by_name.get((provider, model)) or self._by_name.get((provider, _DATED.sub("", model))) or ()


class Charge(msgspec.Struct, frozen=True):
    """What a usage costs, in atoms; `unpriced` names the kinds that no rate covered."""

    currency: str
    atoms: int
    unpriced: tuple[str, ...] = ()


def charge(
    usage: Usage, card: RateCard, currency: Currency, *, others: RateBook | None = None, at_ms: int = 0
) -> Charge:
    """Price a usage by a card, exactly, rounded once half-up (L4).

    A line naming another model is priced by that model's card in `others`, if there is one; a
    line that is not is priced by `card` and named in `unpriced`. The served tier and place decide; one
    the card has no price for is named in `unpriced`, the tier then priced as the default, the place as
    the dearest that the card knows.
    """
    pico = 0
    unpriced: list[str] = []
    for line in usage.lines:
        line_card = card
        if line.model is not None and line.kind != "main" and others is not None:
            found = others.find(card.provider, line.model, at_ms)
            if found is None:
                unpriced.append(f"model:{line.model}")
            line_card = found or card
        tiers = line_card.tiers_for(usage.tier)
        if tiers is None:
            unpriced.append(f"tier:{usage.tier}")
            tiers = line_card.tiers
        cost, missing = _line_pico(line.tokens, tiers)
        unpriced.extend(missing)
        percent = line_card.percent_for(usage.geo)
        if percent is None:
            unpriced.append(f"geo:{usage.geo}")
            percent = max((100, *line_card.geo_percent.values()))
        pico += cost * percent  # hundredths of a pico-unit, so that nothing is rounded here
    for unit, count in usage.units.items():
        rate = card.unit_rates.get(unit)
        if rate is None and count and unit not in UNBILLED_UNITS:
            unpriced.append(f"unit:{unit}")
        pico += (rate or 0) * count * 100
    named = tuple(dict.fromkeys(unpriced)) if unpriced else ()
    return Charge(currency.code, round_to_atoms(pico, currency, parts=100), named)


def round_to_atoms(pico: int, currency: Currency, *, parts: int = 1) -> int:
    """Pico-units (each cut into `parts`) to atoms, half-up; what is not zero costs at least one atom."""
    atom = round_atom(currency, parts=parts)
    return max(1, (2 * pico + atom) // (2 * atom)) if pico > 0 else 0


def round_atom(currency: Currency, *, parts: int) -> int:
    """One atom in pico-units, each cut into `parts`."""
    return _ATOM_PICO[currency.scale] * parts


def rates_at(tiers: tuple[ContextTier, ...], input_tokens: int) -> Rates:
    """The rates of the highest tier whose threshold the input exceeds."""
    chosen = tiers[0].rates
    for tier in tiers[1:]:
        if input_tokens > tier.above_input_tokens:
            chosen = tier.rates
    return chosen


def _line_pico(tokens: Tokens, tiers: tuple[ContextTier, ...]) -> tuple[int, list[str]]:
    """The exact cost of one model pass, and the kinds it could not price."""
    unpriced: list[str] = []
    whole_input, whole_output = tokens.input_tokens or 0, tokens.output_tokens or 0
    rates = rates_at(tiers, whole_input)

    if not (
        tokens.cache_write_tokens
        or tokens.input_audio_tokens
        or tokens.input_image_tokens
        or tokens.cache_read_audio_tokens
        or tokens.output_audio_tokens
        or tokens.output_image_tokens
    ):  # nearly every call: text in, some of it from the cache, text out
        read = min(tokens.cache_read_tokens or 0, whole_input)
        read_rate = rates.input if rates.cache_read is None else rates.cache_read
        return (whole_input - read) * rates.input + read * read_rate + whole_output * rates.output, unpriced

    read = min(tokens.cache_read_tokens or 0, whole_input)
    write = min(tokens.cache_write_tokens or 0, whole_input - read)
    write_1h = min(tokens.cache_write_1h_tokens or 0, write)
    audio_read = min(tokens.cache_read_audio_tokens or 0, read)
    fresh = whole_input - read - write
    audio = max(0, min((tokens.input_audio_tokens or 0) - audio_read, fresh))
    image = max(0, min(tokens.input_image_tokens or 0, fresh - audio)) if rates.input_image is not None else 0

    def priced(count: int, rate: int | None, kind: str, fallback: int) -> int:
        if rate is None and count:
            unpriced.append(kind)
        return count * (fallback if rate is None else rate)

    pico = (fresh - audio - image) * rates.input
    pico += priced(audio, rates.input_audio, "input_audio", rates.input)
    pico += image * (rates.input_image or 0)
    read_rate = rates.input if rates.cache_read is None else rates.cache_read
    pico += (read - audio_read) * read_rate
    audio_read_rate = rates.input_audio if rates.cache_read_audio is None else rates.cache_read_audio
    pico += priced(audio_read, audio_read_rate, "cache_read_audio", read_rate)
    pico += priced(write - write_1h, rates.cache_write, "cache_write", rates.input)
    pico += priced(write_1h, rates.cache_write_1h, "cache_write_1h", rates.cache_write or rates.input)

    audio_out = min(tokens.output_audio_tokens or 0, whole_output)
    image_out = min(tokens.output_image_tokens or 0, whole_output - audio_out)
    pico += (whole_output - audio_out - image_out) * rates.output
    pico += priced(audio_out, rates.output_audio, "output_audio", rates.output)
    pico += priced(image_out, rates.output_image, "output_image", rates.output)
    return pico, unpriced
