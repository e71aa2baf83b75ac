"""Anthropic messages of our own making, in the shapes that the API writes them."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final

from sidecar.core.pricing.usage import Line, Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import ANTHROPIC, Exchange, message, message_stream, sse

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
MODEL: Final = "claude-sonnet-4-5-20250929"
ASKED: Final = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
STREAMED: Final = ASKED | {"stream": True}
START: Final = {"input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
PLAIN: Final = Tokens(input_tokens=12, cache_read_tokens=0, cache_write_tokens=0, output_tokens=9)
CACHED: Final = {
    "input_tokens": 6,
    "cache_creation_input_tokens": 574,
    "cache_read_input_tokens": 20_443,
    "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 74},
    "output_tokens": 489,
}
CACHED_TOKENS: Final = Tokens(
    input_tokens=21_023,
    cache_read_tokens=20_443,
    cache_write_tokens=574,
    cache_write_5m_tokens=500,
    cache_write_1h_tokens=74,
    output_tokens=489,
)


def _pass(kind: str, given: int, made: int, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "input_tokens": given,
        "output_tokens": made,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        **more,
    }


def _line(given: int, made: int, model: str | None, kind: str = "main", reasoning: int | None = None) -> Line:
    tokens = Tokens(
        input_tokens=given, cache_read_tokens=0, cache_write_tokens=0, output_tokens=made, reasoning_tokens=reasoning
    )
    return Line(tokens, model, kind)


def _whole(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    return Exchange(name, ANTHROPIC, ASKED, json.dumps(message(usage)).encode(), state, tokens, **more)


def _stream(name: str, answer: bytes, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    return Exchange(name, ANTHROPIC, STREAMED, answer, state, tokens, **({"finished": True} | more))


_COMPACTED: Final = {
    "input_tokens": 612,
    "output_tokens": 11,
    "iterations": [_pass("compaction", 60_000, 81), _pass("message", 612, 11)],
}
_ENDED: Final[dict[str, Any]] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

EXCHANGES: Final = (
    _whole("plain", START | {"output_tokens": 9}, PLAIN),
    _whole("cache beside the input", CACHED, CACHED_TOKENS),
    _whole(
        "a split without its sum",
        {
            "input_tokens": 6,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7},
            "output_tokens": 1,
        },
        Tokens(18, cache_write_tokens=12, cache_write_5m_tokens=5, cache_write_1h_tokens=7, output_tokens=1),
    ),
    _whole(
        "parts of a cache write above its total",
        {
            "input_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000},
            "output_tokens": 3,
        },
        Tokens(1005, cache_write_tokens=1000, cache_write_5m_tokens=0, cache_write_1h_tokens=1000, output_tokens=3),
        notes=("cache_parts_exceed_total",),
    ),
    _whole(
        "passes below the top level",
        {
            "input_tokens": 5000,
            "output_tokens": 3000,
            "iterations": [_pass("compaction", 70, 8), _pass("message", 1, 1)],
        },
        None,
        lines=(Line(Tokens(5000, output_tokens=3000), MODEL), _line(70, 8, None, "compaction")),
        notes=("passes_below_total",),
    ),
    _whole(
        "words without an end",
        {"input_tokens": 7, "output_tokens": 5, "service_tier": "t" * 2000, "inference_geo": "g" * 2000},
        Tokens(7, output_tokens=5),
        tier="t" * 64,
        geo="g" * 64,
    ),
    _whole(
        "a pass whose model's name has no end",
        {"input_tokens": 7, "output_tokens": 5, "iterations": [_pass("message", 7, 5, model="m" * 2000)]},
        None,
        lines=(_line(7, 5, "m" * 256),),
    ),
    _whole("only two counts", {"input_tokens": 3, "output_tokens": 4}, Tokens(3, output_tokens=4)),
    _whole("warming the cache", {"input_tokens": 3, "output_tokens": 0}, Tokens(3, output_tokens=0)),
    _whole(
        "thinking, tools, tier, place",
        {
            "input_tokens": 7,
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 40},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
            "service_tier": "priority",
            "inference_geo": "us",
        },
        Tokens(7, output_tokens=50, reasoning_tokens=40),
        units={"web_search_requests": 2},
        tier="priority",
        geo="us",
    ),
    _whole(
        "served fast",
        {"input_tokens": 7, "output_tokens": 5, "service_tier": "standard", "speed": "fast"},
        Tokens(7, output_tokens=5),
        tier="fast",
    ),
    _whole(
        "an advisor is another model",
        START
        | {
            "output_tokens": 121,
            "output_tokens_details": {"thinking_tokens": 28},
            "iterations": [
                _pass("message", 1128, 110),
                _pass("advisor_message", 2518, 22, model="claude-opus-4-8"),
                _pass("message", 1262, 11),
            ],
        },
        None,
        lines=(
            _line(1128, 110, MODEL),
            _line(2518, 22, "claude-opus-4-8", "advisor"),
            _line(1262, 11, MODEL, reasoning=28),
        ),
    ),
    _whole(
        "compaction stands outside the top level",
        _COMPACTED,
        None,
        lines=(_line(60_000, 81, None, "compaction"), _line(612, 11, MODEL)),
    ),
    _whole(
        "a hop that declined, and its fallback",
        {
            "input_tokens": 20,
            "output_tokens": 8,
            "iterations": [_pass("message", 20, 0), _pass("fallback_message", 20, 8, model="claude-haiku-4-5")],
        },
        None,
        lines=(_line(20, 0, None, "declined"), _line(20, 8, "claude-haiku-4-5", "fallback")),
    ),
    _whole("no passes listed", START | {"output_tokens": 9, "iterations": []}, PLAIN),
    _whole(
        "passes that make no sense",
        START | {"output_tokens": 9, "iterations": [3, {"type": []}]},
        None,
        ESTIMATED,
        notes=("usage_out_of_range",),
    ),
    _whole("no usage is not zero usage", None, None, ABSENT),
    _whole("a count below zero", START | {"output_tokens": -1}, None, ESTIMATED, notes=("usage_out_of_range",)),
    _whole("a usage that is no object", "much", None, ESTIMATED, notes=("usage_out_of_range",)),
    Exchange(
        "gzip",
        ANTHROPIC,
        STREAMED,
        gzip.compress(message_stream(START, {"output_tokens": 9})),
        FINAL,
        PLAIN,
        encoding="gzip",
        finished=True,
    ),
    Exchange(
        "an error",
        ANTHROPIC,
        ASKED,
        b'{"type":"error","error":{"type":"overloaded_error"}}',
        ERROR,
        status=529,
        notes=("provider_error",),
    ),
    Exchange(
        "a JSON error as a stream",
        ANTHROPIC,
        STREAMED,
        b'{"type":"error","error":{"type":"x"}}',
        ERROR,
        status=400,
        notes=("provider_error",),
    ),
    _stream("the start's input, the delta's output", message_stream(START, {"output_tokens": 9}), PLAIN),
    _stream("a delta with everything", message_stream(START, CACHED), CACHED_TOKENS),
    _stream("nulls do not win", message_stream(START, {"output_tokens": 9, "input_tokens": None}), PLAIN),
    _stream(
        "server tools raise the input",
        message_stream(START, {"input_tokens": 900, "output_tokens": 9}),
        Tokens(900, cache_read_tokens=0, cache_write_tokens=0, output_tokens=9),
    ),
    _stream(
        "the input falls after a compaction",
        message_stream(START | {"input_tokens": 60_385}, _COMPACTED),
        None,
        lines=(_line(60_000, 81, None, "compaction"), _line(612, 11, MODEL)),
    ),
    _stream("several deltas", message_stream(START, {"output_tokens": 4}, {"output_tokens": 9}), PLAIN),
    *(
        _stream(
            f"message_stop, {name}: the start's placeholder is not the output",
            message_stream(START, stop=False, text="x" * 1000) + sse(*deltas, {"type": "message_stop"}, named=True),
            Tokens(12, cache_read_tokens=0, cache_write_tokens=0, output_tokens=64),
            PARTIAL,
            notes=("output_counted",),
        )
        for name, deltas in {
            "no delta": (),
            "a delta without usage": (_ENDED,),
            "a delta whose usage is null": (_ENDED | {"usage": None},),
            "a delta whose usage counts no output": (_ENDED | {"usage": {"input_tokens": 12}},),
        }.items()
    ),
    _stream(
        "the delta that ends it tells nothing, an earlier one did",
        message_stream(START, stop=False, text="x" * 1000)
        + sse(
            {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 4}},
            _ENDED,
            {"type": "message_stop"},
            named=True,
        ),
        Tokens(12, cache_read_tokens=0, cache_write_tokens=0, output_tokens=64),
        PARTIAL,
        notes=("output_counted",),
    ),
    _stream("no message_stop", message_stream(START, {"output_tokens": 9}, stop=False), PLAIN, finished=False),
    _stream(
        "broken off: an exact input, a counted output",
        message_stream(START, stop=False, text="x" * 100),
        Tokens(12, cache_read_tokens=0, cache_write_tokens=0, output_tokens=60),
        PARTIAL,
        ending=Ending.CUT,
        finished=False,
        notes=("output_counted",),
    ),
    _stream(
        "broken off before its last delta",
        message_stream(START, {"output_tokens": 4}, {}, stop=False)[:-120],
        None,
        PARTIAL,
        ending=Ending.ABANDONED,
        finished=False,
        notes=("output_counted",),
    ),
    _stream(
        "an error in the middle",
        message_stream(START, stop=False) + sse({"type": "error", "error": {"type": "overloaded_error"}}, named=True),
        None,
        PARTIAL,
        finished=False,
        notes=("output_counted", "provider_error"),
    ),
    _stream(
        "nothing but an error",
        sse({"type": "error", "error": {"type": "overloaded_error"}}, named=True),
        None,
        ERROR,
        finished=False,
        notes=("provider_error",),
    ),
    _stream(
        "padding inside the last brace",
        message_stream(START, {"output_tokens": 9}).replace(b"}\n\n", b"           }\n\n"),
        PLAIN,
    ),
)
