"""Requests to Cohere: what they may cost at most, what has no bound, and how their output is limited."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.pricing.usage import UsageState
from sidecar.providers.cloud_doors import (
    BEDROCK_INVOKE,
    COHERE_CHAT,
    COHERE_CHAT_V1,
    COHERE_EMBED,
    COHERE_GENERATE,
    COHERE_RERANK,
)
from sidecar.providers.dialect import BadRequest, Dialect, Ending
from sidecar.providers.registry import dialect_for
from sidecar.providers.token_estimates import EMBEDDED_TEXT_OWN, EMBEDDING_BASE, family_of

MODEL = "command-a-03-2025"
V2: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
V1: dict[str, Any] = {"model": MODEL, "message": "hi"}
EMBED: dict[str, Any] = {"model": "embed-v4.0", "texts": ["hi"], "input_type": "search_query"}


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v2/chat", COHERE_CHAT),
        ("/v1/chat", COHERE_CHAT_V1),
        ("/v2/embed", COHERE_EMBED),
        ("/v1/embed", COHERE_EMBED),
        ("/v1/generate", COHERE_GENERATE),
        ("/v2/rerank", COHERE_RERANK),
    ],
)
def test_each_version_has_its_door(path: str, dialect: Dialect) -> None:
    """Below an upstream's name as well."""
    assert dialect_for(path) is dialect
    assert dialect_for(f"/cohere{path}") is dialect


@pytest.mark.parametrize(("dialect", "body"), [(COHERE_CHAT, V2), (COHERE_CHAT_V1, V1), (COHERE_EMBED, EMBED)])
def test_text_is_bounded_by_its_bytes(dialect: Dialect, body: dict[str, Any]) -> None:
    """What the family's template adds is processed and not billed; it is in the bound all the same."""
    raw = json.dumps(body).encode()
    facts = dialect.read_request(raw)
    base = EMBEDDING_BASE + EMBEDDED_TEXT_OWN if dialect is COHERE_EMBED else family_of(body["model"]).base
    assert facts.ceiling.input_tokens == len(raw) + base
    assert not facts.ceiling.unbounded
    assert (facts.body, facts.stream) == (raw, False)
    with pytest.raises(BadRequest):
        dialect.read_request(json.dumps(body | {"model": 1}).encode())


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (COHERE_CHAT, V2 | {"new": 1}),
        (COHERE_CHAT, V2 | {"messages": [1]}),
        (COHERE_CHAT, V2 | {"messages": [{"role": "user", "content": [{"type": "new"}]}]}),
        (COHERE_CHAT_V1, V1 | {"connectors": [{"id": "web-search"}]}),
        (COHERE_CHAT_V1, V1 | {"conversation_id": "c"}),
        (COHERE_EMBED, EMBED | {"images": ["data:"]}),
    ],
)
def test_what_has_no_bound_says_so(dialect: Dialect, body: dict[str, Any]) -> None:
    """L0: what runs or is held at Cohere, and what is not known."""
    assert dialect.read_request(json.dumps(body).encode()).ceiling.unbounded


def test_pictures_tools_and_schemas_add_what_the_family_adds() -> None:
    """A picture's bytes are no text."""
    family = family_of(MODEL)
    url = f"data:image/png;base64,{'A' * 4000}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "x"}]
    raw = json.dumps(V2 | {"messages": [{"role": "user", "content": content}]}).encode()
    assert COHERE_CHAT.read_request(raw).ceiling.input_tokens == len(raw) - len(url) + family.base + family.image
    raw = json.dumps(V2 | {"tools": [{}, {}], "response_format": {"type": "json_object"}}).encode()
    added = family.base + family.first_tool + 2 * family.each_tool + family.structured
    assert COHERE_CHAT.read_request(raw).ceiling.input_tokens == len(raw) + added


def test_the_limit_is_spliced_in_unless_thinking_would_fill_it() -> None:
    """`max_tokens`, in both versions; an embedding has no output."""
    for dialect, body in ((COHERE_CHAT, V2), (COHERE_CHAT_V1, V1)):
        facts = dialect.read_request(json.dumps(body | {"max_tokens": 9000}).encode())
        limited = dialect.limit_output(facts, 300, own_field=True)
        assert limited is not None
        assert json.loads(limited.body) == body | {"max_tokens": 300}
        assert (facts.ceiling.output_limit, limited.ceiling.output_limit) == (9000, 300)
    thinking = COHERE_CHAT.read_request(json.dumps(V2 | {"thinking": {"token_budget": 500}}).encode())
    assert COHERE_CHAT.limit_output(thinking, 500, own_field=True) is None
    assert COHERE_CHAT.limit_output(thinking, 501, own_field=True) is not None
    embedding = COHERE_EMBED.read_request(json.dumps(EMBED).encode())
    assert embedding.ceiling.output_limit == 0
    assert COHERE_EMBED.limit_output(embedding, 300, own_field=True) is None


RERANK: dict[str, Any] = {"model": "rerank-v3.5", "query": "which", "documents": ["a"] * 3, "top_n": 2}
GENERATE: dict[str, Any] = {"model": "command", "prompt": "hi", "max_tokens": 20}


def read(dialect: Dialect, body: dict[str, Any]) -> Any:
    return dialect.read_request(json.dumps(body).encode(), "/model/cohere.rerank-v3-5:0/invoke")


@pytest.mark.parametrize(
    ("documents", "units"),
    [
        (["a"] * 3, 1),
        (["a"] * 100, 1),
        (["a"] * 101, 2),
        (["x" * 600] * 100, 3),
        ([], 1),
        ([{"text": "y" * 251}] * 100, 2),
    ],
)
def test_a_rerank_is_bounded_by_its_units(documents: list[Any], units: int) -> None:
    """A unit for a hundred documents; a long one is as many as it may be cut into. Bedrock's too."""
    for dialect in (COHERE_RERANK, BEDROCK_INVOKE):
        ceiling = read(dialect, RERANK | {"documents": documents}).ceiling
        assert (ceiling.input_tokens, ceiling.output_limit, ceiling.units) == (0, 0, (("search_units", units),))
        assert not ceiling.unbounded
    assert read(COHERE_RERANK, RERANK | {"documents": "a"}).ceiling.unbounded
    assert read(COHERE_RERANK, RERANK | {"other": 1}).ceiling.unbounded


def test_a_rerank_is_metered_by_its_units() -> None:
    """As the answer says them; one that says none, or a refusal, is no figure."""
    facts = read(COHERE_RERANK, RERANK)
    meta: dict[str, Any] = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    for answer, status, state, units in (
        ({"id": "r", "results": [], "meta": meta}, 200, UsageState.FINAL, {"search_units": 1}),
        ({"id": "r", "results": [], "meta": {"api_version": {}}}, 200, UsageState.ABSENT, {}),
        ({"message": "no"}, 400, UsageState.ERROR, {}),
    ):
        meter = COHERE_RERANK.meter(facts, status=status, lines=b"", content_encoding="")
        meter.feed(json.dumps(answer).encode())
        usage = meter.usage(Ending.COMPLETE)
        assert (usage.state, usage.units) == (state, units)


def test_generations_multiply_the_output() -> None:
    """On Bedrock too; what is held at the provider has no bound."""
    assert read(COHERE_GENERATE, GENERATE | {"num_generations": 3}).ceiling.choices == 3
    there = {"prompt": "hi", "max_tokens": 20, "num_generations": 4}
    ceiling = BEDROCK_INVOKE.read_request(json.dumps(there).encode(), "/model/cohere.command-text-v14/invoke").ceiling
    assert (ceiling.choices, ceiling.output_limit, ceiling.unbounded) == (4, 20, ())
    assert read(COHERE_GENERATE, GENERATE | {"preset": "mine"}).ceiling.unbounded
    with pytest.raises(BadRequest):
        read(COHERE_GENERATE, GENERATE | {"num_generations": 6})
    shorter = COHERE_GENERATE.limit_output(read(COHERE_GENERATE, GENERATE), 16, own_field=True)
    assert shorter is not None
    assert json.loads(shorter.body)["max_tokens"] == 16


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_generated_is_metered(stream: bool) -> None:
    """Whole, and as lines that end in the whole."""
    whole = {"id": "g", "generations": [{"id": "1", "text": "hello"}], "prompt": "hi", "meta": {
        "billed_units": {"input_tokens": 2, "output_tokens": 1}}}  # fmt: skip
    lines = [{"text": "hello", "is_finished": False, "event_type": "text-generation"},
             {"is_finished": True, "event_type": "stream-end", "response": whole}]  # fmt: skip
    meter = COHERE_GENERATE.meter(
        read(COHERE_GENERATE, GENERATE | {"stream": stream}), status=200, lines=b"", content_encoding=""
    )
    for part in lines if stream else [whole]:
        meter.feed(json.dumps(part).encode() + b"\n")
    usage = meter.usage(Ending.COMPLETE)
    assert (usage.state, usage.total().input_tokens, usage.total().output_tokens) == (UsageState.FINAL, 2, 1)
