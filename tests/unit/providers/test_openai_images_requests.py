"""Requests for pictures: what they can cost at most, in tokens or by the piece; and published sums of money."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.app.settings import default_catalog
from sidecar.catalog.read import read_catalog
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.providers.dialect import BadRequest, Ending, RequestFacts
from sidecar.providers.openai_images import OpenAIImages
from sidecar.proxy.price import Priced, affordable_output_tokens, price
from sidecar.proxy.settle import Prices, settle

IMAGES = OpenAIImages()
RATES = read_catalog(Path(default_catalog())).rates
NOW_MS = 1_795_500_000_000


def facts(**fields: Any) -> RequestFacts:
    return IMAGES.read_request(json.dumps({"model": "dall-e-3", "prompt": "a cat"} | fields).encode())


@pytest.mark.parametrize(
    ("fields", "limit", "choices", "units"),
    [
        ({"model": "gpt-image-1"}, 6_240, 1, ()), ({"model": "gpt-image-1", "n": 3, "stream": True}, 6_240, 3, ()),
        ({"model": "gpt-image-1.5", "partial_images": 3}, 6_540, 1, ()), ({"model": "gpt-image-2"}, None, 1, ()),
        ({}, 0, 1, (("image_standard_1024x1024", 1),)), ({"n": 4}, 0, 4, (("image_standard_1024x1024", 4),)),
        ({"quality": "hd", "size": "1024x1792"}, 0, 1, (("image_hd_1024x1792", 1),)),
        ({"quality": "HD!", "size": "x" * 60}, 0, 1, ((("image_hd_" + "x" * 60)[:64], 1),)),
    ],
)  # fmt: skip
def test_what_a_picture_can_cost(
    fields: dict[str, Any], limit: int | None, choices: int, units: tuple[tuple[str, int], ...]
) -> None:
    """L0: by the table of its model, by the card's own limit, or by the piece."""
    ceiling = facts(**fields).ceiling
    assert (ceiling.output_limit, ceiling.choices, ceiling.units, ceiling.unbounded) == (limit, choices, units, ())


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"model": None}, "model"), ({"n": 0}, "n"), ({"partial_images": -1}, "partial_images"), ({"size": 5}, "size"),
     ({"stream": "yes"}, "stream")],
)  # fmt: skip
def test_what_cannot_be_taken_names_its_field(fields: dict[str, Any], param: str) -> None:
    """B-P49."""
    with pytest.raises(BadRequest) as caught:
        facts(**fields)
    assert caught.value.param == param


def test_a_picture_is_not_shortened_and_a_new_field_has_no_bound() -> None:
    """Half a picture is none."""
    assert IMAGES.limit_output(facts(), 5, own_field=True) is None
    assert facts(reference="x").ceiling.unbounded


def held(asked: RequestFacts) -> Priced:
    priced = price(asked.ceiling, RATES, provider="openai", at_ms=NOW_MS)
    assert isinstance(priced, Priced)
    return priced


def settled(asked: RequestFacts, usage: Usage) -> tuple[int | None, int, tuple[str, ...]]:
    priced = held(asked)
    prices = Prices(asked.ceiling, priced.card, priced.currency, RATES, NOW_MS)
    done = settle(priced.ceiling_atoms, prices, usage, ending=Ending.COMPLETE, status=200)
    return done.charge_atoms, priced.ceiling_atoms, done.flags


def test_pictures_by_the_piece_cost_what_is_published() -> None:
    """Two of DALL·E 3 in hd at 1024 × 1792: $0.24, held and charged; of which one came: $0.12."""
    asked = facts(quality="hd", size="1024x1792", n=2)
    for pictures, charge in ((2, 240_000_000), (1, 120_000_000)):
        usage = Usage(UsageState.FINAL, units={"image_hd_1024x1792": pictures})
        assert settled(asked, usage) == (charge, 240_000_000, ())
    assert affordable_output_tokens(asked.ceiling, held(asked), 10**9) is None


def test_a_picture_by_tokens_costs_what_is_published() -> None:
    """One of GPT image 1, medium, square: 1,056 tokens at $40 a million is $0.04224, and 50 of text at $5."""
    usage = Usage(UsageState.FINAL, (Line(Tokens(50, output_tokens=1056, output_image_tokens=1056)),))
    charge, ceiling, flags = settled(facts(model="gpt-image-1"), usage)
    assert (charge, flags) == (42_240_000 + 250_000, ())
    assert ceiling > 6_240 * 40_000


def test_a_size_without_a_price_is_refused() -> None:
    """L5: unknown is not free."""
    found = price(facts(size="7x7").ceiling, RATES, provider="openai", at_ms=NOW_MS)
    assert not isinstance(found, Priced)
    assert "image_standard_7x7" in found.detail
    assert found.reason.value == "request_not_boundable"


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "atoms"),
    [
        ("openai", "text-embedding-3-small", Tokens(1_000_000), 20_000_000),
        ("openai", "gpt-4o-mini", Tokens(1_000_000, cache_read_tokens=500_000, output_tokens=1000), 113_100_000),
        ("groq", "llama-3.3-70b-versatile", Tokens(1_000_000, output_tokens=1_000_000), 1_380_000_000),
        ("mistral", "mistral-embed", Tokens(1_000_000), 100_000_000),
        ("xai", "grok-3", Tokens(1_000_000, cache_read_tokens=1_000_000, output_tokens=0), 750_000_000),
        ("openai", "omni-moderation-latest", Tokens(5), 0),
    ],
)  # fmt: skip
def test_a_charge_is_the_published_arithmetic(provider: str, model: str, tokens: Tokens, atoms: int) -> None:
    """L4: tokens times the published rates, to the atom."""
    card = RATES.find(provider, model, NOW_MS)
    assert card is not None
    asked = OpenAIImages().read_request(json.dumps({"model": model, "prompt": "x"}).encode())
    prices = Prices(asked.ceiling, card, RATES.currencies["usd"], RATES, NOW_MS)
    done = settle(10**12, prices, Usage(UsageState.FINAL, (Line(tokens),)), ending=Ending.COMPLETE, status=200)
    assert done.charge_atoms == atoms
