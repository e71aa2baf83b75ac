"""Which requests' streams show all that they bill."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.growing_streams import end_for, may_grow, most_tokens
from sidecar.providers.registry import DIALECTS, dialect_named
from sidecar.providers.token_estimates import output_estimate
from tests.unit.providers.streams_to_end import STREAMS

CHAT = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": 'say "tools" twice'}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
GEMINI_PATH = "/v1beta/models/gemma-3-27b-it:streamGenerateContent?alt=sse"


def grows(protocol: str, body: dict[str, Any], target: str = "") -> bool:
    dialect = dialect_named(protocol)
    assert dialect is not None
    return may_grow(protocol, dialect.read_request(json.dumps(body).encode(), target))


def test_a_plain_stream_may_grow() -> None:
    """Words in a prompt are no fields."""
    assert grows("openai.chat", CHAT)
    assert grows("gemini.generate", GEMINI, GEMINI_PATH)


@pytest.mark.parametrize(
    "more",
    [
        {"stream": False},
        {"n": 2},
        {"model": "o3"},
        {"reasoning_effort": "high"},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"functions": [{"name": "f", "parameters": {}}]},
        {"prediction": {"type": "content", "content": "x"}, "max_completion_tokens": 9},
        {"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"}},
        {"not_known": 1},
    ],
)
def test_what_may_bill_unseen_or_in_several_answers_does_not(more: dict[str, Any]) -> None:
    """L0: its bound is held whole."""
    assert not grows("openai.chat", CHAT | more)


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"functionDeclarations": [{"name": "f"}]}]},
        {"generationConfig": {"responseModalities": ["IMAGE"]}},
        {"generation_config": {"response_modalities": ["AUDIO"]}},
        {"generationConfig": {"candidateCount": 2}},
    ],
)
def test_nor_in_geminis_own_words(more: dict[str, Any]) -> None:
    """Within its configuration too, in either spelling."""
    assert not grows("gemini.generate", GEMINI | more, GEMINI_PATH)


def test_every_stream_that_may_grow_has_an_end_that_is_tested() -> None:
    """And what has none is held for whole."""
    assert {dialect.name for dialect in DIALECTS if dialect.name in STREAMS} == set(STREAMS)
    facts = dialect_named("openai.chat").read_request(json.dumps(CHAT).encode())  # type: ignore[union-attr]
    assert end_for("gemini.interactions", facts) is None
    assert not may_grow("gemini.interactions", facts)
    assert all(end_for(protocol, facts) is not None for protocol in STREAMS if protocol != "bedrock.invoke")


INVOKED = "/model/{}/invoke-with-response-stream"
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
TITAN = {"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 9}}
NOVA = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    ("model", "body", "may"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", CLAUDE, True),
        ("anthropic.claude-v2", {"prompt": "hi", "max_tokens_to_sample": 9}, False),
        ("us.amazon.nova-lite-v1:0", NOVA, True),
        ("us.amazon.nova-lite-v1:0", NOVA | {"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}, False),
        ("meta.llama3-2-1b-instruct-v1:0", {"prompt": "hi", "max_gen_len": 9}, True),
        ("amazon.titan-text-express-v1", TITAN, False),
    ],
)
def test_of_invoked_models_those_whose_end_is_known_may(model: str, body: dict[str, Any], may: bool) -> None:
    """By the family; the others are held for whole."""
    assert grows("bedrock.invoke", body, INVOKED.format(model)) == may
    assert not grows("bedrock.invoke", body, f"/model/{model}/invoke")


def test_the_first_version_of_coheres_chat_may() -> None:
    """Nothing at the provider takes part in it."""
    assert grows("cohere.chat_v1", {"message": "hi", "model": "command-r-08-2024", "stream": True})
    assert not grows("cohere.chat_v1", {"message": "hi", "model": "command-r-08-2024"})


def test_what_is_held_is_never_less_than_what_is_charged_for_it() -> None:
    """L25: a stream that is ended is charged what was counted, and that is covered."""
    for pieces in (0, 1, 7, 1000):
        for visible in (0, 1, 100, 99_999):
            assert most_tokens(pieces, visible) >= output_estimate(pieces, visible)
