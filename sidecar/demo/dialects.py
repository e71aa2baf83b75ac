"""The demo provider's answers in the words of OpenAI's chat completions and Anthropic's messages.

Source: the API references of OpenAI (chat completions, and its streaming) and of Anthropic
(messages, and their streaming), and streams recorded from both, checked 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sidecar.demo.answers import Answer

_FINGERPRINT: Final = "fp_demo"


def openai_answer(body: Mapping[str, Any], answers: list[Answer], created_s: int) -> dict[str, Any]:
    """A chat completion, with one choice for each answer."""
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": {"role": "assistant", "content": made.text, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": _finish(made),
        }
        for index, made in enumerate(answers)
    ]
    return {**_openai_head(body, answers, created_s, "chat.completion"), "choices": choices, "usage": _billed(answers)}


def openai_events(body: Mapping[str, Any], answers: list[Answer], created_s: int) -> Iterator[bytes]:
    """A stream of chunks, a word in each; the usage chunk only if the request asked for it."""
    options = body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    head = _openai_head(body, answers, created_s, "chat.completion.chunk")

    def chunk(index: int, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**head, "choices": [choice], **({"usage": None} if asked else {})})

    for index, made in enumerate(answers):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None}, None)
        for place, word in enumerate(made.words):
            yield chunk(index, {"content": word if place == 0 else f" {word}"}, None)
        yield chunk(index, {}, _finish(made))
    if asked:
        yield _data({**head, "choices": [], "usage": _billed(answers)})
    yield b"data: [DONE]\n\n"


def anthropic_answer(body: Mapping[str, Any], made: Answer) -> dict[str, Any]:
    """A message."""
    return {
        "id": f"msg_demo_{made.name}",
        "type": "message",
        "role": "assistant",
        "model": str(body.get("model")),
        "content": [{"type": "text", "text": made.text}],
        "stop_reason": "max_tokens" if made.cut else "end_turn",
        "stop_sequence": None,
        "usage": _anthropic_usage(made, made.output_tokens),
    }


def anthropic_events(body: Mapping[str, Any], made: Answer) -> Iterator[bytes]:
    """A stream of events: the input is told at its start, the output at its end."""
    start = anthropic_answer(body, made) | {"content": [], "stop_reason": None, "usage": _anthropic_usage(made, 1)}
    yield _event("message_start", {"message": start})
    yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    yield _event("ping", {})
    for place, word in enumerate(made.words):
        delta = {"type": "text_delta", "text": word if place == 0 else f" {word}"}
        yield _event("content_block_delta", {"index": 0, "delta": delta})
    yield _event("content_block_stop", {"index": 0})
    ending = {"stop_reason": "max_tokens" if made.cut else "end_turn", "stop_sequence": None}
    yield _event("message_delta", {"delta": ending, "usage": _anthropic_usage(made, made.output_tokens)})
    yield _event("message_stop", {})


def openai_error(message: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """A refusal as OpenAI writes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    """A refusal as Anthropic writes it."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def _openai_head(body: Mapping[str, Any], answers: list[Answer], created_s: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-demo-{answers[0].name}",
        "object": kind,
        "created": created_s,
        "model": str(body.get("model")),
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }


def _billed(answers: list[Answer]) -> dict[str, Any]:
    """OpenAI's usage: cached tokens are part of the prompt's; the prompt is billed once for all choices."""
    prompt, made = answers[0].input_tokens, sum(each.output_tokens for each in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": answers[0].cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _anthropic_usage(made: Answer, output_tokens: int) -> dict[str, Any]:
    """Anthropic's usage: cached tokens stand beside the input's."""
    return {
        "input_tokens": made.input_tokens - made.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": made.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _finish(made: Answer) -> str:
    return "length" if made.cut else "stop"


def _data(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _event(kind: str, facts: Mapping[str, Any]) -> bytes:
    return b"event: %s\n" % kind.encode() + _data({"type": kind, **facts})
