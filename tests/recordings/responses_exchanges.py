"""Responses of our own making, in the shapes that OpenAI and the servers that speak as it does write them."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final

from sidecar.core.pricing.usage import Line, Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import Exchange, sse

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
PATH: Final = "/v1/responses"
MODEL: Final = "gpt-4o-2024-08-06"
ASKED: Final = {"model": "gpt-4o", "input": "hi", "max_output_tokens": 64}
STREAMED: Final = ASKED | {"stream": True}
USAGE: Final = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 21,
}
PLAIN: Final = Tokens(input_tokens=12, cache_read_tokens=4, output_tokens=9, reasoning_tokens=0)


def response(usage: Any, **more: Any) -> dict[str, Any]:
    """A whole response object; what it says of usage in its text is not its usage."""
    text = {"type": "output_text", "text": 'it said "usage":{"input_tokens":1}'}
    base = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "error": None,
        "model": MODEL,
        "output": [{"type": "message", "role": "assistant", "content": [text]}],
        "service_tier": "default",
    }
    return base | {"usage": usage} | more


def events(usage: Any, *, end: str = "response.completed", text: str = "hello", **more: Any) -> list[dict[str, Any]]:
    """The events of a stream; `end` names the last, `` leaves it out."""
    begun = response(None, status="in_progress", output=[])
    written: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.in_progress", "sequence_number": 1, "response": begun},
    ]
    written += [
        {"type": "response.output_text.delta", "sequence_number": 2 + number, "delta": letter, "obfuscation": "x" * 9}
        for number, letter in enumerate(text)
    ]
    if end:
        written.append({"type": end, "sequence_number": 99, "response": response(usage, **more)})
    return written


def _whole(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    fields = more.pop("fields", {})
    expected: dict[str, Any] = {"tier": "default"}
    return Exchange(
        name, PATH, ASKED, json.dumps(response(usage, **fields)).encode(), state, tokens, **(expected | more)
    )


def _stream(name: str, answer: bytes, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    expected: dict[str, Any] = {"finished": True, "tier": "default"}
    return Exchange(name, PATH, STREAMED, answer, state, tokens, **(expected | more))


_SEARCHES: Final = [
    {"type": "web_search_call", "action": {"type": "search"}},
    {"type": "web_search_call", "action": {"type": "open_page"}},
    {"type": "web_search_call"},
    {"type": "file_search_call"},
    {"type": "code_interpreter_call"},
    {"type": "mcp_call"},
    {"type": "mcp_list_tools"},
    {"type": 5},
]
_DRAWN: Final = {"input_tokens": 50, "output_tokens": 272, "output_tokens_details": {"image_tokens": 272}}

EXCHANGES: Final = (
    _whole("plain", USAGE, PLAIN),
    _whole(
        "reasoning inside the output, a cache write inside the input",
        {
            "input_tokens": 4020,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 4012},
            "output_tokens": 200,
            "output_tokens_details": {"reasoning_tokens": 128},
            "total_tokens": 4220,
        },
        Tokens(4020, cache_read_tokens=0, cache_write_tokens=4012, output_tokens=200, reasoning_tokens=128),
    ),
    _whole(
        "calls of hosted tools, counted from its items",
        USAGE,
        PLAIN,
        fields={"output": _SEARCHES},
        units={"web_search_requests": 2, "file_search_calls": 1, "code_interpreter_calls": 1, "mcp_calls": 1},
    ),
    _whole(
        "searches as the provider counts them",
        USAGE,
        PLAIN,
        fields={"output": _SEARCHES[:3], "tool_usage": {"web_search": {"num_requests": 7}}},
        units={"web_search_requests": 7},
    ),
    _whole(
        "a picture is another model's work",
        USAGE,
        None,
        fields={"tool_usage": {"image_gen": _DRAWN}, "tools": [{"type": "image_generation", "model": "gpt-image-1"}]},
        lines=(
            Line(PLAIN, MODEL),
            Line(Tokens(50, output_tokens=272, output_image_tokens=272), "gpt-image-1", "image_gen"),
        ),
    ),
    _whole(
        "a picture of a model that is not named",
        USAGE,
        None,
        fields={"tool_usage": {"image_gen": {"input_tokens": 1, "output_tokens": 2}}},
        lines=(Line(PLAIN, MODEL), Line(Tokens(1, output_tokens=2), "image_generation", "image_gen")),
    ),
    _whole(
        "OpenRouter tells its cost",
        USAGE | {"cost": 0.025, "is_byok": False},
        PLAIN,
        fields={"service_tier": "flex"},
        tier="flex",
        cost="0.025 usd",
    ),
    _whole("cut short by its limit", USAGE, PLAIN, fields={"status": "incomplete"}),
    _whole(
        "failed, and billed",
        USAGE,
        PLAIN,
        fields={"status": "failed", "error": {"code": "server_error"}},
        notes=("provider_error",),
    ),
    _whole("queued: its usage comes later", None, None, ABSENT, fields={"status": "queued", "output": []}),
    _whole("an empty usage says nothing", {}, None, ABSENT, fields={"output": []}),
    _whole("a count below zero", USAGE | {"output_tokens": -1}, None, ESTIMATED, notes=("usage_out_of_range",)),
    _whole("a usage that is no object", "much", None, ESTIMATED, notes=("usage_out_of_range",)),
    _whole("parts that are no objects", USAGE, PLAIN, fields={"output": 5, "tool_usage": [], "tools": {}}),
    Exchange(
        "an error",
        PATH,
        ASKED,
        b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}',
        ERROR,
        status=400,
        notes=("provider_error",),
    ),
    _stream("the usage stands in the last event", sse(*events(USAGE), named=True), PLAIN),
    _stream("no names beside the data", sse(*events(USAGE)), PLAIN),
    _stream(
        "the name after the data, as Bedrock writes it",
        b"".join(
            b"data: " + json.dumps(event).encode() + f"\nevent: {event['type']}\n\n".encode() for event in events(USAGE)
        ),
        PLAIN,
    ),
    _stream("CRLF", sse(*events(USAGE), named=True, end="\r\n"), PLAIN),
    _stream("OpenRouter's comments and [DONE]", sse(": OPENROUTER PROCESSING", *events(USAGE), "[DONE]"), PLAIN),
    _stream("ended by its limit", sse(*events(USAGE, end="response.incomplete", status="incomplete")), PLAIN),
    _stream(
        "a stream that failed, and is billed",
        sse(*events(USAGE, end="response.failed", status="failed", error={"code": "server_error"})),
        PLAIN,
        notes=("provider_error",),
    ),
    _stream(
        "failed without figures: what was seen is counted",
        sse(*events(None, end="response.failed", status="failed", error={"code": "server_error"})),
        Tokens(input_tokens=None, output_tokens=25),
        ESTIMATED,
        notes=("provider_error",),
    ),
    _stream(
        "an error in place of everything",
        sse({"type": "error", "code": "x", "message": "no", "param": None, "sequence_number": 0}, named=True),
        None,
        ERROR,
        finished=False,
        tier=None,
        notes=("provider_error",),
    ),
    _stream(
        "broken off: the output is counted",
        sse(*events(None, end="", text="a" * 40), named=True),
        Tokens(input_tokens=None, output_tokens=60),
        ESTIMATED,
        ending=Ending.CUT,
        finished=False,
    ),
    Exchange(
        "a model that reasons unseen breaks off",
        PATH,
        STREAMED | {"model": "gpt-5"},
        sse(*events(None, end="", text="a")),
        ESTIMATED,
        ending=Ending.ABANDONED,
        tier="default",
        notes=("hidden_reasoning",),
    ),
    Exchange(
        "gzip",
        PATH,
        STREAMED,
        gzip.compress(sse(*events(USAGE), named=True)),
        FINAL,
        PLAIN,
        encoding="gzip",
        finished=True,
        tier="default",
    ),
)
