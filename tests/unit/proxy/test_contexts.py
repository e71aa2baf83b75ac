"""A call that continues an answer which went through here has a bound; any other has none (L0)."""

from __future__ import annotations

import json

import pytest

from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.providers.dialect import RequestFacts
from sidecar.providers.openai_responses import OpenAIResponses
from sidecar.proxy.contexts import ANSWERS_REMEMBERED, Contexts


def continuing(answer_id: str, **more: object) -> RequestFacts:
    body = {"model": "gpt-4o", "input": "go on", "previous_response_id": answer_id} | more
    return OpenAIResponses().read_request(json.dumps(body).encode())


def answered(answer_id: str, given: int | None = 100, made: int = 40, state: UsageState = UsageState.FINAL) -> Usage:
    return Usage(state, (Line(Tokens(given, output_tokens=made)),), provider_request_id=answer_id)


def test_what_was_said_before_bounds_what_is_billed_again() -> None:
    """Its input and its output, on top of the bytes."""
    contexts = Contexts()
    contexts.learn("gpt-4o", answered("resp_1"))
    asked = continuing("resp_1")
    bounded = contexts.bounded(asked)
    assert asked.ceiling.unbounded
    assert bounded.ceiling.unbounded == ()
    assert bounded.ceiling.input_tokens == asked.ceiling.input_tokens + 140
    assert bounded.body is asked.body


def test_other_features_without_a_bound_stay() -> None:
    """A search is one, whatever was said before."""
    contexts = Contexts()
    contexts.learn("gpt-4o", answered("resp_1"))
    (left,) = contexts.bounded(continuing("resp_1", tools=[{"type": "web_search"}])).ceiling.unbounded
    assert "web_search" in left


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("gpt-4o", answered("resp_2")), ("gpt-4.1", answered("resp_1")), ("gpt-4o", answered("resp_1", None)),
        ("gpt-4o", answered("resp_1", state=UsageState.ESTIMATED)), ("gpt-4o", Usage(UsageState.FINAL)),
    ],
)  # fmt: skip
def test_what_is_not_known_for_sure_gives_no_bound(model: str, usage: Usage) -> None:
    """Another answer, another model's tokens, a count of our own."""
    contexts = Contexts()
    contexts.learn(model, usage)
    asked = continuing("resp_1")
    assert contexts.bounded(asked) is asked


def test_only_so_many_are_remembered() -> None:
    """The one settled longest ago goes first."""
    contexts = Contexts()
    for number in range(ANSWERS_REMEMBERED + 1):
        contexts.learn("gpt-4o", answered(f"resp_{number}"))
    assert contexts.bounded(continuing("resp_0")).ceiling.unbounded
    assert not contexts.bounded(continuing("resp_1")).ceiling.unbounded
