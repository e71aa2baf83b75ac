"""The demo provider's answers to the rest of what a newcomer tries of OpenAI's: responses, embeddings, its models.

Source: the API reference of OpenAI (responses, their streaming events, embeddings, models), checked 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sidecar.demo.answers import Answer

MODELS: Final = ("claude-haiku-4-5", "gpt-4o-mini", "text-embedding-3-small")
"""Told by the list of models; any other name is answered as well."""

_VECTOR: Final = (0.6, 0.0, -0.8)
_VECTOR_BASE64: Final = "mpkZPwAAAADNzEy/"
"""The same, as little-endian floats of four bytes: clients ask for it so and unpack it themselves."""


def response_answer(body: Mapping[str, Any], made: Answer, created_s: int) -> dict[str, Any]:
    """A response of one message."""
    return _response(body, made, created_s, [_message(made, [_text(made.text)], _status(made))])


def response_events(body: Mapping[str, Any], made: Answer, created_s: int) -> Iterator[bytes]:
    """A stream of its events, a word in each delta; the last repeats the whole response."""
    number = -1

    def event(kind: str, **facts: Any) -> bytes:
        nonlocal number
        number += 1
        data = json.dumps({"type": kind, "sequence_number": number, **facts}, separators=(",", ":"))
        return f"event: {kind}\ndata: {data}\n\n".encode()

    begun = _response(body, made, created_s, []) | {"status": "in_progress", "incomplete_details": None, "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    yield event("response.output_item.added", output_index=0, item=_message(made, [], "in_progress"))
    place = {"item_id": f"msg_demo_{made.name}", "output_index": 0, "content_index": 0}
    yield event("response.content_part.added", **place, part=_text(""))
    for order, word in enumerate(made.words):
        yield event("response.output_text.delta", **place, delta=word if order == 0 else f" {word}", logprobs=[])
    yield event("response.output_text.done", **place, text=made.text, logprobs=[])
    yield event("response.content_part.done", **place, part=_text(made.text))
    yield event("response.output_item.done", output_index=0, item=_message(made, [_text(made.text)], _status(made)))
    yield event(f"response.{_status(made)}", response=response_answer(body, made, created_s))


def embedding_answer(body: Mapping[str, Any], input_tokens: int) -> dict[str, Any]:
    """The same short vector for each text: nothing was embedded."""
    texts = body.get("input")
    count = len(texts) if isinstance(texts, list) and texts and not isinstance(texts[0], int) else 1
    vector: Any = _VECTOR_BASE64 if body.get("encoding_format") == "base64" else list(_VECTOR)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)],
        "model": str(body.get("model")),
        "usage": {"prompt_tokens": input_tokens, "total_tokens": input_tokens},
    }


def models_answer() -> dict[str, Any]:
    """The list of models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1_720_000_000, "owned_by": "demo"} for name in MODELS],
    }


def _status(made: Answer) -> str:
    return "incomplete" if made.cut else "completed"


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(made: Answer, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
    head = {"id": f"msg_demo_{made.name}", "type": "message", "status": status, "role": "assistant"}
    return {**head, "content": content}


def _response(body: Mapping[str, Any], made: Answer, created_s: int, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"resp_demo_{made.name}",
        "object": "response",
        "created_at": created_s,
        "status": _status(made),
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if made.cut else None,
        "instructions": None,
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": {},
        "model": str(body.get("model")),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": made.input_tokens,
            "input_tokens_details": {"cached_tokens": made.cached_tokens},
            "output_tokens": made.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": made.input_tokens + made.output_tokens,
        },
    }
