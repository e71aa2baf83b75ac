"""Charges are exact, and never above a ceiling that was true."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.ceilings import Ceiling, Unbounded, price_ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates, charge, round_to_atoms
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState

USD = Currency("usd", 9)
SONNET = Rates(3_000_000, 15_000_000, cache_read=300_000, cache_write=3_750_000, cache_write_1h=6_000_000)


def card(*tiers: ContextTier, **fields: object) -> RateCard:
    """A card with these tiers."""
    base: dict[str, object] = {
        "card_id": "p/m", "provider": "p", "models": ("m",), "effective_from_ms": 0, "currency": "usd",
        "tiers": tiers, "max_output_tokens": 1000, "context_window": 10_000, "source": "s", "checked_on": "2026-11-24",
    }  # fmt: skip
    return RateCard(**(base | fields))  # type: ignore[arg-type]


def usage(tokens: Tokens, **fields: object) -> Usage:
    """One line's usage."""
    return Usage(UsageState.FINAL, (Line(tokens),), **fields)  # type: ignore[arg-type]


rates = st.builds(
    Rates,
    input=st.integers(1, 10**8),
    output=st.integers(1, 10**8),
    cache_read=st.none() | st.integers(0, 10**8),
    cache_write=st.none() | st.integers(0, 10**8),
    cache_write_1h=st.none() | st.integers(0, 10**8),
    input_audio=st.integers(0, 10**8),
    output_audio=st.integers(0, 10**8),
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Ceiling, Tokens]:
    """A ceiling, and a usage that keeps within it."""
    writes, audio = draw(st.sampled_from(["", "5m", "1h"])), draw(st.booleans())
    ceiling = Ceiling("m", draw(st.integers(0, 5000)), draw(st.none() | st.integers(0, 1000)), draw(st.integers(1, 3)),
                      cache_write=writes, audio=audio)  # fmt: skip
    given = draw(st.integers(0, ceiling.input_tokens))
    made = draw(st.integers(0, (1000 if ceiling.output_limit is None else ceiling.output_limit) * ceiling.choices))
    write = draw(st.integers(0, given)) if writes else 0
    tokens = Tokens(
        input_tokens=given,
        cache_read_tokens=draw(st.none() | st.integers(0, given - write)),
        cache_write_tokens=write or None,
        cache_write_1h_tokens=draw(st.integers(0, write)) if writes == "1h" else None,
        input_audio_tokens=draw(st.integers(0, given)) if audio else None,
        output_tokens=made,
        output_audio_tokens=draw(st.integers(0, made)) if audio else None,
        reasoning_tokens=draw(st.none() | st.integers(0, made)),
    )
    return ceiling, tokens


@given(rates, st.integers(0, 5000), st.none() | st.integers(0, 6000), st.none() | st.integers(0, 1000))
def test_plain_text_costs_the_same_however_it_is_computed(
    each: Rates, given_tokens: int, cached: int | None, made: int | None
) -> None:
    """An image that has no price of its own costs as its tokens do, and is computed the long way."""
    plain = Tokens(input_tokens=given_tokens, cache_read_tokens=cached, output_tokens=made)
    pictured = Tokens(input_tokens=given_tokens, cache_read_tokens=cached, output_tokens=made, input_image_tokens=1)
    priced = card(ContextTier(0, each))
    assert charge(usage(plain), priced, USD) == charge(usage(pictured), priced, USD)


@given(calls(), rates, rates)
def test_no_charge_exceeds_its_ceiling(call: tuple[Ceiling, Tokens], low: Rates, high: Rates) -> None:
    """L0: whatever a call within its bound turns out to have used, in whatever tier."""
    ceiling, tokens = call
    priced = card(ContextTier(0, low), ContextTier(1000, high))
    assert charge(usage(tokens), priced, USD).atoms <= price_ceiling(ceiling, priced, USD)


def test_published_arithmetic() -> None:
    """3 input, 12,304 cache-write and 550 output tokens on Claude 3.7 Sonnet cost $0.05439 (rounded there)."""
    tokens = Tokens(input_tokens=12_307, cache_write_tokens=12_304, cache_read_tokens=0, output_tokens=550)
    exact = charge(usage(tokens), card(ContextTier(0, SONNET)), USD)
    assert exact.atoms == 3 * 3_000 + 12_304 * 3_750 + 550 * 15_000 == 54_399_000
    assert exact.unpriced == ()


@given(st.integers(0, 10**15), st.integers(0, 12))
def test_rounding_is_half_up_and_never_to_nothing(pico: int, scale: int) -> None:
    """L4: exact, then rounded once; what is not zero costs at least one atom."""
    atom = Fraction(10 ** (12 - scale))
    expected = int(Fraction(pico) / atom + Fraction(1, 2))
    assert round_to_atoms(pico, Currency("c", scale)) == (max(1, expected) if pico else 0)


def test_a_call_is_rounded_once() -> None:
    """L4: two lines of half an atom each are one atom, not two."""
    priced = card(ContextTier(0, Rates(500, 500)))
    whole = Usage(UsageState.FINAL, (Line(Tokens(input_tokens=1)), Line(Tokens(output_tokens=1))))
    assert charge(whole, priced, USD).atoms == 1


def test_a_dearer_context_prices_the_whole_call() -> None:
    """Above the threshold every token costs more, at it none."""
    priced = card(ContextTier(0, Rates(1000, 1000)), ContextTier(200, Rates(2000, 2000)))
    atoms = [charge(usage(Tokens(input_tokens=n, output_tokens=10)), priced, USD).atoms for n in (200, 201)]
    assert atoms == [210, 422]


def test_what_has_no_price_is_named() -> None:
    """L5: a kind, a unit, a tier or a model without a price is said, never free."""
    priced = card(ContextTier(0, Rates(1000, 1000)))
    tokens = Tokens(input_tokens=10, cache_write_tokens=4, output_tokens=2, output_audio_tokens=1)
    whole = Usage(
        UsageState.FINAL,
        (Line(tokens), Line(Tokens(input_tokens=1), model="other", kind="advisor")),
        {"web_search_requests": 2},
        tier="priority",
    )
    book = RateBook([priced], [USD], sha256="")
    named = charge(whole, priced, USD, others=book).unpriced
    assert set(named) == {"cache_write", "output_audio", "unit:web_search_requests", "tier:priority", "model:other"}


def test_units_and_places_are_priced() -> None:
    """A web search at $10 for a thousand; a place that costs ten percent more."""
    priced = card(
        ContextTier(0, Rates(1000, 1000)), unit_rates={"web_search_requests": 10**10}, geo_percent={"us": 110}
    )
    assert charge(usage(Tokens(), units={"web_search_requests": 3}), priced, USD).atoms == 30_000_000
    assert charge(usage(Tokens(input_tokens=100), geo="us"), priced, USD).atoms == 110


def test_another_models_pass_is_priced_by_its_own_card() -> None:
    """An advisor's line names its model."""
    own, other = (
        card(ContextTier(0, Rates(1000, 1000))),
        card(ContextTier(0, Rates(5000, 5000)), card_id="p/other", models=("other",)),
    )
    whole = Usage(UsageState.FINAL, (Line(Tokens(input_tokens=1)), Line(Tokens(input_tokens=1), "other", "advisor")))
    assert charge(whole, own, USD, others=RateBook([own, other], [USD], sha256="")).atoms == 6


@pytest.mark.parametrize(
    ("ceiling", "fields"),
    [
        (Ceiling("m", 1, 1, unbounded=("a web search",)), {}),
        (Ceiling("m", 1, 1, tier="priority"), {}),
        (Ceiling("m", 1, 1, audio=True), {}),
        (Ceiling("m", 1, 1), {"unbounded": "it searches"}),
    ],
)
def test_what_has_no_bound_says_so(ceiling: Ceiling, fields: dict[str, object]) -> None:
    """L0: no number is made up for it."""
    with pytest.raises(Unbounded):
        price_ceiling(ceiling, card(ContextTier(0, Rates(1, 1)), **fields), USD)


def test_no_limit_of_its_own_means_the_models() -> None:
    """L0: the answer may be as long as the model can make it, for each choice."""
    priced = card(ContextTier(0, Rates(1000, 1000)))
    assert price_ceiling(Ceiling("m", 0, None, 3), priced, USD) == 3000
    assert price_ceiling(Ceiling("m", 0, 0, 3), priced, USD) == 0


PLAIN, DEAR = ContextTier(0, Rates(1000, 1000)), ContextTier(0, Rates(2000, 2000))


@pytest.mark.parametrize(
    ("asked", "served"),
    [(None, "priority"), (None, "flex"), (None, None), ("auto", "priority"), ("auto", "default"), ("", "priority"),
     ("flex", "flex"), ("flex", "default"), ("priority", "default"), ("priority", "priority"), ("default", "default"),
     ("standard_only", "standard")],
)  # fmt: skip
def test_the_bound_holds_in_whatever_tier_is_served(asked: str | None, served: str | None) -> None:
    """L0: what is not asked for is the project's default; what is asked for may be full and fall back to it."""
    flex = ContextTier(0, Rates(500, 500))
    priced = card(PLAIN, service_tiers={"flex": (flex,), "priority": (DEAR,)})
    billed = charge(usage(Tokens(input_tokens=10, output_tokens=10), tier=served), priced, USD)
    assert billed.unpriced == ()
    assert billed.atoms <= price_ceiling(Ceiling("m", 10, 10, tier=asked), priced, USD)


def test_a_tier_that_no_default_leads_to_is_not_in_the_bound() -> None:
    """`speed: fast` is asked for in the request itself; asked for the default, the default is the bound."""
    priced = card(PLAIN, service_tiers={"fast": (DEAR,), "priority": (ContextTier(0, Rates(1500, 1500)),)})
    bounds = {asked: price_ceiling(Ceiling("m", 10, 0, tier=asked), priced, USD) for asked in (None, "default", "fast")}
    assert bounds == {None: 15, "default": 10, "fast": 20}


@pytest.mark.parametrize(
    ("asked", "served"), [(None, "us"), (None, None), ("us", "us"), ("global", "global"), (None, "not_available")]
)
def test_the_bound_holds_in_whatever_place_is_served(asked: str | None, served: str | None) -> None:
    """L0: where the request names no place, the workspace may have a default that costs more."""
    priced = card(PLAIN, geo_percent={"us": 110, "in": 105})
    billed = charge(usage(Tokens(input_tokens=100, output_tokens=10), geo=served), priced, USD)
    assert billed.unpriced == ()
    assert billed.atoms <= price_ceiling(Ceiling("m", 100, 10, geo=asked), priced, USD)


def test_a_place_asked_for_is_bounded_by_its_own_price() -> None:
    """No more is held than the place costs; one without a price has no bound."""
    priced = card(PLAIN, geo_percent={"us": 110})
    asked = [price_ceiling(Ceiling("m", 100, 0, geo=geo), priced, USD) for geo in ("global", "us", None)]
    assert asked == [100, 110, 110]
    assert price_ceiling(Ceiling("m", 100, 0), card(PLAIN), USD) == 100
    with pytest.raises(Unbounded, match="inference_geo eu"):
        price_ceiling(Ceiling("m", 100, 0, geo="eu"), priced, USD)


def test_a_place_without_a_price_is_named() -> None:
    """L5: charged as the dearest place that the card knows, and said."""
    billed = charge(usage(Tokens(input_tokens=100), geo="eu"), card(PLAIN, geo_percent={"us": 110}), USD)
    assert (billed.atoms, billed.unpriced) == (110, ("geo:eu",))
