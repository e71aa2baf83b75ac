"""A prompt's bound is lowered by what a count proves, and by nothing else (L0)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.dialect import RequestFacts
from sidecar.providers.exact_tokens import (
    CL100K,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGE_TOKENS,
    O200K,
    RESPONSES,
    TEXT_BYTES_MAX,
    TEXTS_MAX,
    Countable,
    countable,
    counted,
    vocabulary_of,
)
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.providers.registry import dialect_named
from sidecar.providers.token_estimates import EMBEDDED_TEXT_OWN, EMBEDDING_BASE, OPENAI, family_of

HI = {"role": "user", "content": "hi"}


def asked(*messages: dict[str, Any], model: str = "gpt-4o", **fields: Any) -> RequestFacts:
    """A request's facts."""
    body = {"model": model, "max_tokens": 5, "messages": list(messages or [HI]), **fields}
    return OpenAIChat().read_request(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4o", O200K), ("gpt-4o-mini", O200K), ("gpt-4o-2024-08-06", O200K), ("gpt-4.1-nano", O200K),
        ("gpt-5", O200K), ("gpt-5-mini-2025-08-07", O200K), ("gpt-5.1", O200K), ("o3-mini", O200K), ("o4-mini", O200K),
        ("gpt-4", CL100K), ("gpt-4-turbo", CL100K), ("gpt-4-0613", CL100K), ("gpt-3.5-turbo-16k", CL100K),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", O200K), ("ft:gpt-3.5-turbo:acme", CL100K),
        ("gpt-6", None), ("gpt-50", None), ("gpt-4o-audio-preview", None), ("gpt-4o-search-preview", None),
        ("gpt-4-vision-preview", None), ("gpt-5-codex", None), ("gpt-oss-20b", None), ("llama-3", None),
        ("openai/gpt-4o", None), ("GPT-4o", None), ("o1x", None), ("", None),
    ],
)  # fmt: skip
def test_which_model_has_which_vocabulary(model: str, vocabulary: str | None) -> None:
    """A name that is not known to have one has none: a later model may split words otherwise."""
    assert vocabulary_of(model) == vocabulary


def test_texts_and_names_are_counted_each_by_itself() -> None:
    """Strings, a single part of text, and names; escapes are taken out of them first."""
    found = countable(
        asked(
            {"role": "system", "content": "one"},
            {"role": "user", "name": "ada", "content": [{"type": "text", "text": 'tw\n"o"'}]},
            temperature=0.5,
            stream=True,
            tools=None,
        )
    )
    assert found is not None
    assert found.vocabulary == O200K
    assert found.texts == ["one", 'tw\n"o"', "ada"]
    assert found.frame_tokens == OPENAI.base + 2 * MESSAGE_TOKENS


@pytest.mark.parametrize(
    "facts",
    [
        asked({"role": "user", "content": "a <|endoftext|> b"}),
        asked({"role": "user", "name": "<|x", "content": "a"}),
        asked({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}),
        asked({"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}),
        asked({"role": "user", "content": None}),
        asked({"role": "user", "content": {"a": 1}}),
        asked({"role": "user", "content": 1}),
        asked({"role": "user"}),
        asked({"role": "who", "content": "a"}),
        asked({"role": "tool", "tool_call_id": "c1", "content": "a"}),
        asked({"role": "assistant", "content": "a", "tool_calls": [{"id": "c1"}]}),
        asked({"role": "assistant", "content": "a", "refusal": "b"}),
        asked(HI, tools=[{"type": "function", "function": {"name": "f"}}]),
        asked(HI, functions=[{"name": "f"}]),
        asked(HI, response_format={"type": "json_object"}),
        asked(HI, prediction={"type": "content", "content": "a"}),
        asked(HI, web_search_options={}),
        asked(HI, modalities=["text", "audio"]),
        asked(HI, brand_new_field=1),
        asked(HI, model="gpt-6"),
        asked(HI, model="claude-3-haiku"),
        asked(*[HI] * (TEXTS_MAX + 1)),
        asked({"role": "user", "content": "a" * (TEXT_BYTES_MAX + 1)}),
        OpenAIChat().read_request(b'{"model":"gpt-4o","max_tokens":5}'),
    ],
)
def test_what_cannot_be_counted_keeps_its_bound(facts: RequestFacts) -> None:
    """Special tokens spelled out, joined parts, media, tools and their calls, what is unknown, what is too long."""
    assert countable(facts) is None


def test_the_bound_falls_to_what_is_proved_and_never_rises() -> None:
    """The rest of the request stays as it was: output limit, body, everything."""
    facts = asked({"role": "user", "content": "word " * 1000})
    found = countable(facts)
    assert found is not None
    lower = counted(facts, found, 1001)
    assert lower is not None
    assert lower.ceiling.input_tokens == 1001 + found.frame_tokens < facts.ceiling.input_tokens
    assert lower.ceiling.output_limit == facts.ceiling.output_limit
    assert lower.body == facts.body
    assert counted(facts, found, facts.ceiling.input_tokens - found.frame_tokens) is None
    assert counted(facts, found, -1) is None


def other(protocol: str, **body: Any) -> Countable | None:
    """What is to be counted of a request by another protocol."""
    dialect = dialect_named(protocol)
    assert dialect is not None
    return countable(dialect.read_request(json.dumps({"model": "gpt-4o", **body}).encode()), protocol)


@pytest.mark.parametrize(
    ("protocol", "body", "texts"),
    [
        (RESPONSES, {"input": "a", "instructions": "b"}, ["b", "a"]),
        (RESPONSES, {"input": [HI, {"type": "message", **HI}]}, ["hi", "hi"]),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, ["hi"]),
        (COMPLETIONS, {"prompt": "a"}, ["a"]),
        (COMPLETIONS, {"prompt": ["a", "b"], "n": 2}, ["a", "b"]),
        (EMBEDDINGS, {"model": "text-embedding-3-small", "input": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_other_protocols_are_counted_too(protocol: str, body: dict[str, Any], texts: list[str]) -> None:
    """Each item or text by itself, with a frame for each."""
    found = other(protocol, **body)
    assert found is not None
    frame = family_of(body.get("model", "gpt-4o")).base + MESSAGE_TOKENS * len(texts)
    if protocol == EMBEDDINGS:  # no conversation is around a text
        frame = EMBEDDING_BASE + EMBEDDED_TEXT_OWN * len(texts)
    assert (found.texts, found.frame_tokens) == (texts, frame)


@pytest.mark.parametrize(
    ("protocol", "body"),
    [
        (RESPONSES, {"input": "a", "tools": [{"type": "function", "name": "f"}]}),
        (RESPONSES, {"input": "a", "previous_response_id": "resp_1"}),
        (RESPONSES, {"input": [{"type": "function_call_output", "output": "a"}]}),
        (RESPONSES, {"input": "<|endoftext|>"}),
        (RESPONSES, {"input": "a", "reasoning": {"mode": "pro"}}),
        (RESPONSES, {"instructions": None}),
        (COMPLETIONS, {"prompt": [1, 2]}),
        (COMPLETIONS, {"prompt": "a", "suffix": "b"}),
        (EMBEDDINGS, {"model": "text-embedding-3-small", "input": [[1, 2]]}),
        (EMBEDDINGS, {"model": "text-embedding-4", "input": "a"}),
    ],
)
def test_what_cannot_be_proved_there_is_not_counted(protocol: str, body: dict[str, Any]) -> None:
    """Tools, history, special tokens, ids for texts, what is joined in an unknown way: the bound stays."""
    assert other(protocol, **body) is None
