"""A stream of each protocol, in pieces of one event each, whose end is to be written at any of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidecar.providers.binary_stream import write_message

WORDS: Final = ("Once ", "there ", "were ", "sheep.")


def sse(name: str, **facts: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **facts})}\n\n".encode()


def data(facts: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(facts).encode() + b"\n\n"


def invoked(facts: dict[str, Any]) -> bytes:
    return amazons("chunk", {"bytes": base64.b64encode(json.dumps(facts).encode()).decode(), "p": "abc"})


def amazons(kind: str, facts: dict[str, Any]) -> bytes:
    headers = {b":event-type": kind.encode(), b":content-type": b"application/json", b":message-type": b"event"}
    return write_message(headers, json.dumps(facts).encode())


_CHAT: Final = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
_TEXT: Final = {"id": "t1", "object": "text_completion", "created": 7, "model": "m"}
_RESPONSE: Final = {
    "id": "r1", "object": "response", "created_at": 7, "model": "m", "status": "in_progress", "output": [],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None,
    "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0,
}  # fmt: skip
_ITEM: Final = {"id": "i1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
_PART: Final = {"type": "output_text", "text": "", "annotations": []}
_AT: Final = {"item_id": "i1", "output_index": 0, "content_index": 0}
_MESSAGE: Final[Mapping[str, Any]] = {
    "id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
    "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 1},
}  # fmt: skip

STREAMS: Final[Mapping[str, Sequence[bytes]]] = {
    "openai.chat": [
        data({**_CHAT, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
        *(data({**_CHAT, "choices": [{"index": 0, "delta": {"content": word}}]}) for word in WORDS),
    ],
    "openai.completions": [
        data({**_TEXT, "choices": [{"index": 0, "text": word, "finish_reason": None}]}) for word in WORDS
    ],
    "openai.responses": [
        sse("response.created", response=_RESPONSE, sequence_number=0),
        sse("response.output_item.added", output_index=0, item=_ITEM, sequence_number=1),
        sse("response.content_part.added", **_AT, part=_PART, sequence_number=2),
        *(
            sse("response.output_text.delta", **_AT, delta=word, logprobs=[], sequence_number=3 + at)
            for at, word in enumerate(WORDS)
        ),
    ],
    "anthropic.messages": [
        sse("message_start", message=_MESSAGE),
        sse("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(sse("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in WORDS),
    ],
    "anthropic.vertex": [
        sse("message_start", message=_MESSAGE),
        sse("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(sse("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in WORDS),
    ],
    "gemini.generate": [
        b"data: " + json.dumps({"candidates": [{"content": {"role": "model", "parts": [{"text": word}]}, "index": 0}],
                                "modelVersion": "m", "responseId": "r1"}).encode() + b"\r\n\r\n"
        for word in WORDS
    ],
    "bedrock.converse": [
        amazons("messageStart", {"role": "assistant"}),
        *(amazons("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in WORDS),
    ],
    "ollama.chat": [
        json.dumps({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": word}, "done": False})
        .encode() + b"\n"
        for word in WORDS
    ],
    "cohere.chat": [
        sse("message-start", id="g1", delta={"message": {"role": "assistant", "content": []}}),
        sse("content-start", index=0, delta={"message": {"content": {"type": "text", "text": ""}}}),
        *(sse("content-delta", index=0, delta={"message": {"content": {"text": word}}}) for word in WORDS),
    ],
    "bedrock.invoke": [
        invoked({"type": "message_start", "message": _MESSAGE}),
        invoked({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *(
            invoked({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
            for word in WORDS
        ),
    ],
    "cohere.chat_v1": [
        b'{"is_finished":false,"event_type":"stream-start","generation_id":"g1"}\n',
        *(
            json.dumps({"is_finished": False, "event_type": "text-generation", "text": word}).encode() + b"\n"
            for word in WORDS
        ),
    ],
}  # fmt: skip
"""By dialect; none of them has come to its end, nor has a count of its output."""
