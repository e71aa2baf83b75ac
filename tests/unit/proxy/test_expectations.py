"""What a kind of call is expected to cost is learned from its latest charges, within bounds."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.expectations import KINDS_MAX, LATEST, LEARNED_FROM, Expectations
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
