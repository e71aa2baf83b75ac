"""Completions, embeddings and moderations of our own making, as several servers write them."""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.core.pricing.usage import Tokens, UsageState
from tests.recordings.exchange import Exchange, openai_usage, sse

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
MODERATIONS: Final = "/v1/moderations"
PROMPT: Final = {"model": "gpt-3.5-turbo-instruct", "prompt": "once", "max_tokens": 64}
STREAMED: Final = PROMPT | {"stream": True, "stream_options": {"include_usage": True}}
NOT_ASKED: Final = PROMPT | {"stream": True}
PLAIN: Final = Tokens(11, output_tokens=7)
INPUT: Final = {"model": "text-embedding-3-small", "input": ["a", "b"]}


def _chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "cmpl-1", "choices": [{"index": 0, "text": text, "finish_reason": None}], "model": "m"} | more


_TEXTS: Final = [_chunk("once"), _chunk(" upon", usage=None)]
_ALONE: Final = {"id": "cmpl-1", "choices": [], "usage": openai_usage(11, 7)}


def _embedded(usage: Any, **more: Any) -> bytes:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return json.dumps({"object": "list", "data": [vector], "model": "e", "usage": usage} | more).encode()


def _vector(name: str, answer: bytes, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    return Exchange(name, EMBEDDINGS, INPUT, answer, state, tokens, **more)


EXCHANGES: Final = (
    Exchange(
        "whole",
        COMPLETIONS,
        PROMPT,
        json.dumps(_chunk("once", usage=openai_usage(11, 7))).encode(),
        FINAL,
        PLAIN,
    ),
    Exchange("asked for", COMPLETIONS, STREAMED, sse(*_TEXTS, _ALONE, "[DONE]"), FINAL, PLAIN, finished=True),
    Exchange(
        "hidden where it was not asked for",
        COMPLETIONS,
        NOT_ASKED,
        sse(*_TEXTS, _ALONE, "[DONE]"),
        FINAL,
        PLAIN,
        finished=True,
        shown=sse(*_TEXTS, "[DONE]"),
    ),
    Exchange(
        "nobody tells: two pieces are counted",
        COMPLETIONS,
        NOT_ASKED,
        sse(*_TEXTS, "[DONE]"),
        ESTIMATED,
        Tokens(None, output_tokens=24),
        finished=True,
    ),
    Exchange(
        "Writer's bare values",
        COMPLETIONS,
        PROMPT | {"stream": True, "model": "gpt-3.5-turbo-instruct"},
        sse({"value": "Sure"}, {"value": ","}),
        ESTIMATED,
        Tokens(None, output_tokens=22),
    ),
    _vector("OpenAI's", _embedded({"prompt_tokens": 8, "total_tokens": 8}), Tokens(8)),
    _vector("Mistral's", _embedded(openai_usage(21, 0), id="e-1"), Tokens(21, output_tokens=0)),
    _vector("Voyage's total is its input", _embedded({"total_tokens": 12}), Tokens(12)),
    _vector("without usage", _embedded(None), None, ABSENT),
    _vector("a count below zero", _embedded({"prompt_tokens": -8}), None, ESTIMATED, notes=("usage_out_of_range",)),
    _vector("no count at all", _embedded({"tokens": 8}), None, ESTIMATED, notes=("usage_out_of_range",)),
    _vector("refused", b'{"error":{"message":"no"}}', None, ERROR, status=400, notes=("provider_error",)),
    Exchange("OpenAI's say nothing", MODERATIONS, {"input": "hi"}, b'{"id":"modr-1","results":[]}', ABSENT),
    Exchange(
        "Mistral's are billed",
        MODERATIONS,
        {"input": "hi", "model": "mistral-moderation-latest"},
        json.dumps({"id": "m-1", "usage": openai_usage(9, 0), "results": []}).encode(),
        FINAL,
        Tokens(9, output_tokens=0),
    ),
)  # fmt: skip
