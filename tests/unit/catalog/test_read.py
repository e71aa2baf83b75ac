"""The catalog file: real prices, exactly, and every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app.settings import default_catalog
from sidecar.catalog.read import parse_catalog, read_catalog
from sidecar.catalog.strict_yaml import read_yaml
from sidecar.core.credits.amounts import parse_amount
from sidecar.core.pricing.features import FeaturePrice
from sidecar.core.pricing.rate_cards import Rates, charge
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.errors import ConfigurationError

NOW = 1_795_000_000_000  # 2026-11-18

CARD = """
currencies: {usd: {scale: 9}}
rate_cards:
  - id: p/m
    provider: p
    models: [m]
    from: "2026-01-01"
    per_million_tokens: {input: "3.00", output: "15.00"}
    max_output_tokens: 10
    context_window: 20
    source: a page
    checked_on: "2026-11-24"
"""


def problems_of(text: str | bytes) -> str:
    """What is wrong with a catalog, as one text."""
    with pytest.raises(ConfigurationError) as raised:
        parse_catalog("catalog.yaml", text if isinstance(text, bytes) else text.encode())
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize(
    ("provider", "model", "card", "rates"),
    [
        ("openai", "gpt-4o-mini", "openai/gpt-4o-mini", Rates(150_000, 600_000, 75_000)),
        ("openai", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini", Rates(150_000, 600_000, 75_000)),
        ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13", Rates(5_000_000, 15_000_000)),
        ("openai", "o3", "openai/o3@2025-06-10", Rates(2_000_000, 8_000_000, 500_000)),
        ("anthropic", "claude-3-7-sonnet-20250219", "anthropic/claude-3-7-sonnet",
         Rates(3_000_000, 15_000_000, 300_000, 3_750_000, 6_000_000)),
        ("anthropic", "claude-sonnet-4-20250514", "anthropic/claude-sonnet-4-0",
         Rates(3_000_000, 15_000_000, 300_000, 3_750_000, 6_000_000)),
        ("gemini", "gemini-2.5-flash", "gemini/gemini-2.5-flash",
         Rates(300_000, 2_500_000, 30_000, input_audio=1_000_000, cache_read_audio=100_000)),
        ("gemini", "gemini-3.8-flash", "gemini/gemini-3.8-flash",
         Rates(750_000, 3_750_000, 75_000, input_audio=750_000, cache_read_audio=75_000)),
        ("bedrock", "eu.amazon.nova-lite-v1:0", "bedrock/nova-lite", Rates(60_000, 240_000, 15_000, 60_000, 60_000)),
        ("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock/claude-haiku-4-5-regional",
         Rates(1_100_000, 5_500_000, 110_000, 1_375_000, 2_200_000)),
    ],
)  # fmt: skip
def test_shipped_prices(provider: str, model: str, card: str, rates: Rates) -> None:
    """Dollars per million tokens become whole pico-dollars per token; snapshots have their model's card."""
    found = read_catalog(Path(default_catalog())).rates.find(provider, model, NOW)
    assert found is not None
    assert (found.card_id, found.tiers[0].rates) == (card, rates)


@pytest.mark.parametrize(
    ("provider", "model", "tier", "tokens", "dollars"),
    [
        ("gemini", "gemini-2.5-flash", "ON_DEMAND", Tokens(input_tokens=10**6, output_tokens=10**6), "2.80"),
        ("gemini", "gemini-2.5-flash", None, Tokens(input_tokens=1917, input_audio_tokens=1917, output_tokens=0),
         "0.001917"),
        ("gemini", "gemini-2.5-pro", "standard", Tokens(input_tokens=200_000, output_tokens=1000), "0.26"),
        ("gemini", "gemini-2.5-pro", "standard", Tokens(input_tokens=200_001, output_tokens=0), "0.5000025"),
        ("gemini", "gemini-3.5-flash", "flex", Tokens(input_tokens=1000, output_tokens=1000), "0.00525"),
        ("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", None,
         Tokens(input_tokens=12_307, cache_write_tokens=12_304, output_tokens=550), "0.054399"),
    ],
)  # fmt: skip
def test_published_arithmetic(provider: str, model: str, tier: str | None, tokens: Tokens, dollars: str) -> None:
    """A charge is what the price pages say: by kind, by the length of the prompt, by the tier that served (L4)."""
    rates = read_catalog(Path(default_catalog())).rates
    card, usd = rates.find(provider, model, NOW), rates.currencies["usd"]
    assert card is not None
    charged = charge(Usage(UsageState.FINAL, (Line(tokens),), tier=tier), card, usd)
    assert (charged.atoms, charged.unpriced) == (parse_amount(dollars, usd), ())


def test_a_price_holds_from_its_day_on() -> None:
    """L51: o3 was five times as dear before 10 June 2025."""
    rates = read_catalog(Path(default_catalog())).rates
    before, after = (rates.find("openai", "o3", at) for at in (1_749_513_599_999, 1_749_513_600_000))
    assert before is not None
    assert after is not None
    assert (before.tiers[0].rates.input, after.tiers[0].rates.input) == (10_000_000, 2_000_000)


def test_long_contexts_and_search_models_are_told() -> None:
    """A dearer tier above 200,000 tokens; a model that searches on its own has no bound."""
    rates = read_catalog(Path(default_catalog())).rates
    sonnet, search = (
        rates.find("anthropic", "claude-sonnet-4-5", NOW),
        rates.find("openai", "gpt-4o-search-preview", NOW),
    )
    assert sonnet is not None
    assert search is not None
    assert [tier.above_input_tokens for tier in sonnet.tiers] == [0, 200_000]
    assert search.unbounded


def test_an_unknown_model_has_no_card() -> None:
    """L5: unknown is not free, and nothing is guessed from a name that only looks alike."""
    rates = read_catalog(Path(default_catalog())).rates
    for model in ("gpt-4o-mini ", "GPT-4o-mini", "gpt-4o-minі", "gpt-4o-mini-2024", "who-knows", ""):
        assert rates.find("openai", model, NOW) is None
    assert rates.find("anthropic", "gpt-4o-mini", NOW) is None


def test_the_digest_is_the_files() -> None:
    """An entry's SHA-256 names exactly one file."""
    one, two = parse_catalog("a", CARD.encode()), parse_catalog("a", CARD.encode() + b"\n")
    assert len(one.sha256) == 64
    assert one.sha256 != two.sha256
    assert one.rates.sha256 == one.sha256


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"3.00"', "3.00", "quotes"),
        ('"3.00"', '"-1"', "expected a price"),
        ('"3.00"', '"1e3"', "expected a price"),
        ('"3.00"', '"0.0000001"', "no finer"),
        ('"3.00"', '"99999999"', "at most"),
        ('"3.00"', '"0"', "free: true"),
        (', output: "15.00"', "", "per_million_tokens.output: expected a price"),
        ("models: [m]", "models: []", "list of model names"),
        ("models: [m]", "models: [m, m]", "another card"),
        ("models: [m]", "models: [gpt-4o-minі]", "expected a name"),
        ("provider: p", "provder: p", "unknown key"),
        ('"2026-01-01"', "2026-13-01", "a day"),
        ("context_window: 20", "context_window: 0", "whole number"),
        ("scale: 9", "scale: 13", "0 to 12"),
        ("currencies: {usd: {scale: 9}}", "currencies: {}", "at least one currency"),
    ],
)
def test_each_mistake_is_named_with_its_place(old: str, new: str, said: str) -> None:
    """B-C08: file, line, key, and what was expected."""
    report = problems_of(CARD.replace(old, new))
    assert said in report
    assert "catalog.yaml:" in report


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: [*x, *x]", "anchors"),  # B-C01
        ("[" * 20_000, "deeper"),  # B-C02
        ("a: 1\na: 2", "stands twice"),
        ("a: !!python/object:os.system x", "tags"),
        ("a: .inf", "quotes"),  # B-C05
        ("a: .nan", "quotes"),
        ("a: [1", "catalog.yaml:"),
        ("a: 1\n---\nb: 2", "catalog.yaml:"),
        ("? [a]\n: b", "plain text"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: 1" + b" " * (4 * 1024 * 1024), "larger"),
        ("- 1", "expected a mapping"),
        ("", "at least one currency"),
        ("a: " + "9" * 4400, "unknown key"),
    ],
)
def test_yaml_that_is_not_taken(text: str | bytes, said: str) -> None:
    """B-C01 … B-C05: bombs, depth, surprises: a clean report, at once."""
    assert said in problems_of(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("no", "no"), ("on", "on"), ("12:30:45", "12:30:45"), ("010", "010"), ("1_000", "1_000"), ("0x10", "0x10"),
     ("2026-11-24", "2026-11-24"), ("7", 7), ("-7", -7), ("true", True), ("'7'", "7"), ("~", None)],
)  # fmt: skip
def test_no_surprising_types(text: str, value: object) -> None:
    """B-C04: what YAML 1.1 would turn into something else stays text."""
    assert read_yaml("f", f"a: {text}".encode()).value == {"a": value}


FEATURES = (
    CARD
    + """
features:
  - {name: step, unit: steps, price: "0.000000001", currency: usd}
  - {name: view, unit: views, price: "0", free: true}
"""
)


def test_features_are_priced_in_atoms() -> None:
    """The smallest price is one atom, what is free says so, and a catalog may have none."""
    features = parse_catalog("catalog.yaml", FEATURES.encode()).rates.features
    assert features == {
        "step": FeaturePrice("step", "steps", "usd", 1),
        "view": FeaturePrice("view", "views", "usd", 0),
    }
    assert parse_catalog("catalog.yaml", CARD.encode()).rates.features == {}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{name: a b, unit: n, price: "1"}', "features.0.name: expected 1 to 128 of"),
        ('{name: a, unit: N, price: "1"}', "features.0.unit: expected a unit such as"),
        ('{name: a, unit: n, price: "1", currency: eur}', "features.0.currency: expected a currency of this catalog"),
        ("{name: a, unit: n, price: 1}", "features.0.price: expected a price in quotes"),
        ('{name: a, unit: n, price: "-1"}', "features.0.price: an amount cannot be negative"),
        ('{name: a, unit: n, price: "0.0000000001"}', "features.0.price: usd has 9 digits after the point"),
        ('{name: a, unit: n, price: "1000001"}', "features.0.price: expected at most 1000000"),
        ('{name: a, unit: n, price: "0"}', "features.0.price: a price of 0 needs `free: true` on the feature"),
        ('{name: a, unit: n, price: "1", free: true}', "features.0.free: what is free has a price of 0"),
        ('{name: a, unit: n, price: "1", each: x}', "features.0.each: unknown key"),
        (
            '{name: a, unit: n, price: "1"}\n  - {name: a, unit: n, price: "1"}',
            "features.1.name: a has a price already",
        ),
    ],
)
def test_mistakes_in_features_are_named(row: str, expected: str) -> None:
    """Each with its key and what was expected."""
    assert expected in problems_of(f"{CARD}\nfeatures:\n  - {row}\n")


def test_mistakes_of_all_sections_stand_in_one_report() -> None:
    """A feature's beside a rate card's."""
    text = CARD.replace('input: "3.00"', "input: 3") + "\nfeatures:\n  - {name: a, unit: n, price: x}\n"
    assert "rate_cards.0" in problems_of(text)
    assert "features.0.price" in problems_of(text)


def test_no_price_stands_above_a_window() -> None:
    """A window is a bound of what a model reads, so no published price may be for more than it."""
    rates = read_catalog(Path(default_catalog())).rates
    steps = [
        (card.card_id, tier.above_input_tokens, card.context_window)
        for card in rates.cards
        for tiers in (card.tiers, *card.service_tiers.values())
        for tier in tiers
    ]
    assert [step for step in steps if step[1] >= step[2]] == []
