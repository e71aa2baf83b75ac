"""Exchanges of our own making yield the usage they must, however their bytes are cut (L4, L5, F-27, F-28)."""

from __future__ import annotations

import msgspec
import pytest

from tests.recordings import (
    anthropic_exchanges,
    bedrock_exchanges,
    cohere_exchanges,
    completions_exchanges,
    gemini_exchanges,
    images_exchanges,
    ollama_exchanges,
    openai_exchanges,
    responses_exchanges,
    variation_exchanges,
)
from tests.recordings.exchange import Exchange, cuts, metered

EXCHANGES = (
    *openai_exchanges.EXCHANGES,
    *responses_exchanges.EXCHANGES,
    *completions_exchanges.EXCHANGES,
    *images_exchanges.EXCHANGES,
    *ollama_exchanges.EXCHANGES,
    *anthropic_exchanges.EXCHANGES,
    *gemini_exchanges.EXCHANGES,
    *bedrock_exchanges.EXCHANGES,
    *cohere_exchanges.EXCHANGES,
    *variation_exchanges.EXCHANGES,
)


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
def test_an_exchange_yields_its_usage(exchange: Exchange) -> None:
    """Whole, byte by byte and cut anywhere: the same usage, and the caller sees what it should."""
    expected_shown = exchange.answer if exchange.shown is None else exchange.shown
    whole = metered(exchange, [exchange.answer])
    for pieces in cuts(exchange.answer, seed=exchange.name):
        result = metered(exchange, pieces)
        usage = result.usage
        assert usage == whole.usage
        assert usage.state == exchange.state
        if exchange.tokens is not None:
            total = usage.total()
            if exchange.tokens.input_tokens is None:  # the bound, which is shown elsewhere
                total = msgspec.structs.replace(total, input_tokens=None)
            assert total == exchange.tokens
        if exchange.lines:
            assert usage.lines == exchange.lines
        assert usage.units == exchange.units
        assert (usage.tier, usage.geo, usage.reported_cost) == (exchange.tier, exchange.geo, exchange.cost)
        assert usage.notes == exchange.notes
        assert result.finished == exchange.finished
        if result.shown != expected_shown:
            # A cut is asked for without a flush: only what is held back may be missing.
            assert exchange.ending.value != "complete"
            assert expected_shown.startswith(result.shown)


def test_names_are_told_apart() -> None:
    """Each exchange has a name of its own within its protocol, and there are enough of them."""
    names = [(exchange.path, exchange.name) for exchange in EXCHANGES]
    assert len(set(names)) == len(names) >= 40
