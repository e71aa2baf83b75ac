"""What a kind of call is expected to cost is learned from its latest charges, within bounds."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.expectations import (
    DENSE_FROM_BYTES,
    KINDS_MAX,
    LATEST,
    LEARNED_FROM,
    OUTGROWN_S,
    UNLEARNED_DENSITY,
    Expectations,
)
from sidecar.telemetry.metrics import Metrics

KIND = ("openai", "openai.chat", "gpt-4o", "usd")


def learned(*charges: int) -> Expectations:
    expected = Expectations()
    for charge in charges:
        expected.learn(KIND, charge)
    return expected


def test_a_few_calls_say_nothing() -> None:
    """One cheap call is no measure of the next."""
    assert learned(*range(LEARNED_FROM - 1)).expected_atoms("openai", "gpt-4o", "usd") is None
    assert learned(*range(LEARNED_FROM)).expected_atoms("openai", "gpt-4o", "usd") == LEARNED_FROM - 1


@given(charges=st.lists(st.integers(0, 2**62), min_size=LEARNED_FROM, max_size=3 * LATEST))
def test_95_of_100_of_the_latest_lie_under_it(charges: list[int]) -> None:
    """It is one of them, no more than 5 % lie above it, and none lower would do."""
    expected = learned(*charges).expected_atoms("openai", "gpt-4o", "usd", protocol="openai.chat")
    latest = charges[-LATEST:]
    assert expected in latest
    assert sum(charge > expected for charge in latest) * 100 <= 5 * len(latest)
    assert sum(charge >= expected for charge in latest) * 100 > 5 * len(latest)


def test_what_was_is_forgotten() -> None:
    """After so many calls at a new price the old one is not in it any more."""
    assert learned(*[10**9] * LATEST, *[7] * LATEST).expected_atoms("openai", "gpt-4o", "usd") == 7


def test_kinds_are_told_apart_and_bounded() -> None:
    """Another protocol, model or currency is another kind; without a protocol the dearest is told; the oldest goes."""
    expected = learned(*[5] * LATEST)
    for _ in range(LEARNED_FROM):
        expected.learn(("openai", "openai.responses", "gpt-4o", "usd"), 9)
    assert expected.expected_atoms("openai", "gpt-4o", "usd") == 9
    assert expected.expected_atoms("openai", "gpt-4o", "usd", protocol="openai.chat") == 5
    assert expected.expected_atoms("openai", "gpt-4o", "eur") is None
    assert expected.expected_atoms("openai", "gpt-4o", "usd", protocol="anthropic.messages") is None
    for number in range(KINDS_MAX):
        expected.learn(("openai", "openai.chat", f"m{random.Random(number).random()}", "usd"), 1)
    assert expected.expected_atoms("openai", "gpt-4o", "usd") is None


def test_it_is_among_the_metrics() -> None:
    """One gauge for each kind of which enough is known."""
    metrics = Metrics()
    metrics.family("spend_expected_cost_atoms", "help", ("provider", "protocol", "model", "currency"),
                   learned(*[5] * LATEST).all)  # fmt: skip
    wanted = b'spend_expected_cost_atoms{currency="usd",model="gpt-4o",protocol="openai.chat",provider="openai"} 5.0'
    assert wanted in metrics.render()


def test_l44_how_dense_a_stream_is_is_learned_from_its_densest() -> None:
    """A guess until enough is known; never more than a token a byte; short answers say nothing."""
    expected = Expectations()
    for tokens in (*range(20, 20 + LEARNED_FROM - 1), 26):
        expected.learn_density(KIND, 10**6, DENSE_FROM_BYTES - 1)
        assert expected.tokens_per_1000_bytes(KIND) == UNLEARNED_DENSITY
        expected.learn_density(KIND, tokens, 1000)
    assert expected.tokens_per_1000_bytes(KIND) == 26
    expected.learn_density(KIND, 10**6, 1000)
    assert expected.tokens_per_1000_bytes(KIND) == 1000
    for _ in range(LATEST):
        expected.learn_density(KIND, 301, 1001)
    assert expected.tokens_per_1000_bytes(KIND) == 301


def test_l0_a_kind_that_outgrew_its_hold_may_not_grow_for_a_while() -> None:
    """It alone, and for an hour after the last time; of how many that is known has a bound."""
    expected = Expectations()
    assert expected.may_grow(KIND, 0.0)
    expected.outgrew(KIND, 5.0)
    expected.outgrew(KIND, 10.0)
    assert not expected.may_grow(KIND, 10.0 + OUTGROWN_S)
    assert expected.may_grow(KIND, 10.1 + OUTGROWN_S)
    assert expected.may_grow(("other", *KIND[1:]), 10.0)
    for number in range(KINDS_MAX):
        expected.outgrew((str(number), *KIND[1:]), 20.0)
    assert expected.may_grow(KIND, 20.0)
    assert not expected.may_grow(("1", *KIND[1:]), 20.0)
