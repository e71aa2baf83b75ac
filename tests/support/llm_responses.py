"""What the tests' provider answers to the further calls of OpenAI's API: responses, completions, embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.llm_provider import Served


def responses_answer(served: Served) -> dict[str, Any]:
    """A whole response; `incomplete` where its limit cut it, `queued` where it is to be made in the background."""
    if served.body.get("background"):
        return _response(served, []) | {"status": "queued", "usage": None}
    text = {"type": "output_text", "text": f"answer {served.number}", "annotations": [], "logprobs": []}
    return _response(served, [_message(served, [text])])


def responses_events(served: Served, chunks: int) -> Iterator[bytes]:
    """The events of a streamed response, the last of which repeats it whole."""
    number = 0

    def event(kind: str, **facts: Any) -> bytes:
        nonlocal number
        number += 1
        body = {"type": kind, "sequence_number": number, **facts}
        return f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode()

    begun = _response(served, []) | {"status": "in_progress", "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    item = _message(served, [])
    yield event("response.output_item.added", output_index=0, item=item | {"status": "in_progress"})
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield event("response.content_part.added", **place, part=empty)
    words = [f"word{index} " for index in range(chunks)]
    for word in words:
        yield event("response.output_text.delta", **place, delta=word, logprobs=[], obfuscation="xx")
    part = empty | {"text": "".join(words)}
    yield event("response.output_text.done", **place, text=part["text"], logprobs=[])
    yield event("response.content_part.done", **place, part=part)
    done = _message(served, [part])
    yield event("response.output_item.done", output_index=0, item=done)
    whole = _response(served, [done])
    yield event(f"response.{whole['status']}", response=whole)


def completion_answer(served: Served) -> dict[str, Any]:
    """A completion of a bare prompt."""
    choice = {"index": 0, "text": f"answer {served.number}", "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": served.input_tokens, "completion_tokens": served.output_tokens}
    head = {"id": f"cmpl-{served.number}", "object": "text_completion", "created": 1_790_000_000}
    total = served.input_tokens + served.output_tokens
    return {**head, "model": served.body["model"], "choices": [choice], "usage": usage | {"total_tokens": total}}


def embedding_answer(served: Served) -> dict[str, Any]:
    """A vector of one text."""
    usage = {"prompt_tokens": served.input_tokens, "total_tokens": served.input_tokens}
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
    return {"object": "list", "data": [vector], "model": served.body["model"], "usage": usage}


def _message(served: Served, content: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"id": f"msg_{served.number}", "type": "message", "status": "completed", "role": "assistant"}
    return head | {"content": content}


def _response(served: Served, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": served.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": served.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": served.input_tokens + served.output_tokens,
    }
    return {
        "id": f"resp_{served.number}",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": "incomplete" if served.is_cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if served.is_cut else None,
        "instructions": None,
        "max_output_tokens": served.body.get("max_output_tokens"),
        "metadata": {},
        "model": served.body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": served.body.get("previous_response_id"),
        "service_tier": "default",
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }
