"""Google's other doors: embeddings, interactions, and Anthropic's messages on Vertex."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.pricing.usage import Tokens, UsageState
from sidecar.providers.cloud_doors import ANTHROPIC_ON_VERTEX, GEMINI_EMBED, GEMINI_GENERATE, GEMINI_INTERACTIONS
from sidecar.providers.dialect import BadRequest, Ending, RequestFacts
from sidecar.providers.metering import JSON_BYTES_MAX
from sidecar.providers.registry import dialect_for
from sidecar.providers.token_estimates import family_of

EMBED = "/v1beta/models/gemini-embedding-001:embedContent"
TALK: dict[str, Any] = {"model": "gemini-3-flash-preview", "input": "hi"}
ON_VERTEX = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"
CLAUDES: dict[str, Any] = {
    "anthropic_version": "vertex-2023-10-16", "max_tokens": 900, "messages": [{"role": "user", "content": "hi"}],
}  # fmt: skip


def embedding(body: dict[str, Any], path: str = EMBED) -> RequestFacts:
    assert dialect_for(path) is GEMINI_EMBED
    return GEMINI_EMBED.read_request(json.dumps(body).encode(), path)


def talk(**more: Any) -> RequestFacts:
    return GEMINI_INTERACTIONS.read_request(json.dumps(TALK | more).encode(), "/v1beta/interactions")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EMBED, {"content": {"parts": [{"text": "hi"}]}, "taskType": "RETRIEVAL_QUERY", "output_dimensionality": 9}),
        ("/v1beta/models/gemini-embedding-001:batchEmbedContents",
         {"requests": [{"model": "m", "content": {"parts": [{"text": "hi"}]}, "task_type": "x"}]}),
        ("/v1/projects/p/locations/l/publishers/google/models/gemini-embedding-001:predict",
         {"instances": [{"content": "hi", "task_type": "x"}], "parameters": {}}),
    ],
)  # fmt: skip
def test_embeddings_are_bounded_by_their_bytes_and_have_no_output(path: str, body: dict[str, Any]) -> None:
    """One text, many, and Vertex's way."""
    ceiling = embedding(body, path).ceiling
    assert ceiling.input_tokens >= len(json.dumps(body)) + family_of("gemini-embedding-001").base
    assert (ceiling.model, ceiling.output_limit, ceiling.unbounded) == ("gemini-embedding-001", 0, ())
    assert embedding(body | {"new": 1}, path).ceiling.unbounded
    assert GEMINI_EMBED.limit_output(embedding(body, path), 300, own_field=True) is None


@pytest.mark.parametrize(
    "body",
    [
        {"content": {"parts": [{"fileData": {}}]}}, {"requests": [{"content": {"parts": [{"fileData": {}}]}}]},
        {"requests": [1]}, {"requests": [{"new": 1}]}, {"instances": [{"image": {}}]}, {"instances": 1},
    ],
)  # fmt: skip
def test_what_is_to_be_embedded_and_is_no_text_has_no_bound(body: dict[str, Any]) -> None:
    """Files, pictures, and what is not known."""
    assert embedding(body).ceiling.unbounded


def test_only_models_for_embeddings_are_metered_as_such() -> None:
    """`predict` is every model's on Vertex: pictures and others are not metered."""
    assert dialect_for("/v1/projects/p/locations/l/publishers/google/models/imagen-4.0:predict") is None


@pytest.mark.parametrize(
    "more",
    [
        {"previous_interaction_id": "i"}, {"new": 1}, {"generation_config": {"new": 1}}, {"tools": 1},
        {"tools": [{"type": "google_search"}]}, {"input": [{"type": "image", "uri": "gs://x"}]},
        {"input": [{"type": "text", "data": "x"}]},
    ],
)  # fmt: skip
def test_what_is_remembered_or_runs_at_google_has_no_bound(more: dict[str, Any]) -> None:
    """L0: what an earlier interaction, a tool or a file brings is not in the request."""
    assert talk(**more).ceiling.unbounded


def test_an_interaction_is_bounded_clamped_and_told_apart() -> None:
    """Functions, the limit; in the background its usage comes later; an agent cannot be metered."""
    family = family_of(TALK["model"])
    asked = talk(tools=[{"type": "function", "name": "f"}], stream=True, generation_config={"max_output_tokens": 900})
    assert asked.ceiling.input_tokens == len(asked.body) + family.base + family.first_tool + family.each_tool
    assert (asked.ceiling.output_limit, asked.stream, asked.later, asked.ceiling.unbounded) == (900, True, "", ())
    limited = GEMINI_INTERACTIONS.limit_output(asked, 300, own_field=True)
    assert limited is not None
    assert json.loads(limited.body)["generation_config"] == {"max_output_tokens": 300}
    assert talk(background=True).later == "background"
    with pytest.raises(BadRequest):
        GEMINI_INTERACTIONS.read_request(b'{"agent":"deep-research","input":"x"}', "/v1beta/interactions")


def test_claude_on_vertex_is_read_as_anthropics_own() -> None:
    """The model is the path's, by the name that the rate cards have; the stream is the body's."""
    assert dialect_for(ON_VERTEX) is ANTHROPIC_ON_VERTEX
    facts = ANTHROPIC_ON_VERTEX.read_request(json.dumps(CLAUDES | {"stream": True}).encode(), ON_VERTEX)
    assert (facts.model, facts.stream) == ("claude-sonnet-4-5-20250929", True)
    assert (facts.ceiling.output_limit, facts.ceiling.unbounded) == (900, ())
    limited = ANTHROPIC_ON_VERTEX.limit_output(facts, 300, own_field=True)
    assert limited is not None
    assert json.loads(limited.body)["max_tokens"] == 300
    counting = ON_VERTEX.replace("claude-sonnet-4-5@20250929", "count-tokens")
    assert dialect_for(counting) is None


def test_the_usage_at_the_end_of_a_very_long_answer_is_found() -> None:
    """A picture of some megabytes comes before it; only the end is kept."""
    path = "/v1beta/models/gemini-2.5-flash-image:generateContent"
    facts = GEMINI_GENERATE.read_request(b'{"contents":[]}', path)
    meter = GEMINI_GENERATE.meter(facts, status=200, lines=b"", content_encoding="")
    meter.feed(b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"')
    for _ in range(JSON_BYTES_MAX // 65_536 + 2):
        meter.feed(b"A" * 65_536)
    meter.feed(b'"}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":1290,'
               b'"totalTokenCount":1301},"modelVersion":"m"}')  # fmt: skip
    usage = meter.usage(Ending.COMPLETE)
    assert usage.state is UsageState.FINAL
    assert usage.total() == Tokens(input_tokens=11, output_tokens=1290)
