"""Chat completions of our own making, in the shapes that providers write them."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any, Final

from sidecar.core.pricing.usage import Line, Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import OPENAI, Exchange, chunk, completion, openai_usage, sse, stopped

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
ASKED: Final = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
STREAMED: Final = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
NOT_ASKED: Final = ASKED | {"stream": True}
PLAIN: Final = Tokens(input_tokens=11, output_tokens=7)
USAGE: Final = openai_usage(11, 7)
ALONE: Final = chunk(choices=[], usage=USAGE)
DELTAS: Final = (chunk("Hel", usage=None), chunk("lo \u2028 wörld\n", usage=None), stopped(usage=None))
HIDDEN: Final = sse(*DELTAS, "[DONE]")


def _whole(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    return Exchange(name, OPENAI, ASKED, completion(usage), state, tokens, **more)


def _stream(name: str, *events: Any, request: Any = STREAMED, state: UsageState = FINAL, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"tokens": PLAIN, "finished": "[DONE]" in events, **more}
    return Exchange(name, OPENAI, request, sse(*events), state, **facts)


WHOLE: Final = (
    _whole("plain", USAGE, PLAIN),
    _whole(
        "every detail",
        openai_usage(
            100,
            50,
            prompt_tokens_details={
                "cached_tokens": 64,
                "cache_write_tokens": 8,
                "audio_tokens": 5,
                "text_tokens": 90,
                "image_tokens": 5,
                "cached_tokens_details": {"audio_tokens": 3},
            },
            completion_tokens_details={
                "reasoning_tokens": 20,
                "audio_tokens": 4,
                "text_tokens": 26,
                "accepted_prediction_tokens": 2,
                "rejected_prediction_tokens": 3,
            },
        ),
        Tokens(
            input_tokens=100,
            cache_read_tokens=64,
            cache_write_tokens=8,
            output_tokens=50,
            reasoning_tokens=20,
            input_text_tokens=90,
            input_audio_tokens=5,
            input_image_tokens=5,
            cache_read_audio_tokens=3,
            output_text_tokens=26,
            output_audio_tokens=4,
            prediction_accepted_tokens=2,
            prediction_rejected_tokens=3,
        ),
    ),
    _whole("explicit zeros are zero", openai_usage(0, 0), Tokens(input_tokens=0, output_tokens=0)),
    _whole(
        "DeepSeek's cache hits",
        openai_usage(563, 116, prompt_cache_hit_tokens=512, prompt_cache_miss_tokens=51),
        Tokens(input_tokens=563, cache_read_tokens=512, output_tokens=116),
    ),
    _whole(
        "Mistral's cached tokens",
        openai_usage(68, 6, num_cached_tokens=32),
        Tokens(input_tokens=68, cache_read_tokens=32, output_tokens=6),
    ),
    _whole(
        "Mistral's audio stands beside the prompt",
        {"prompt_tokens": 7, "completion_tokens": 25, "total_tokens": 407, "prompt_audio_seconds": 12},
        Tokens(input_tokens=382, input_audio_tokens=375, output_tokens=25),
        units={"audio_seconds": 12},
    ),
    _whole(
        "audio beside the prompt, told in the details",
        {
            "prompt_tokens": 7,
            "completion_tokens": 25,
            "total_tokens": 407,
            "prompt_tokens_details": {"audio_tokens": 375},
        },
        Tokens(input_tokens=382, input_audio_tokens=375, output_tokens=25),
    ),
    _whole(
        "xAI's reasoning stands beside the completion",
        {
            "prompt_tokens": 30,
            "completion_tokens": 9,
            "total_tokens": 289,
            "cost_in_usd_ticks": 12_345,
            "completion_tokens_details": {"reasoning_tokens": 250},
            "num_sources_used": 3,
        },
        Tokens(input_tokens=30, output_tokens=259, reasoning_tokens=250),
        units={"sources": 3},
        cost="0.0000012345 usd",
    ),
    _whole(
        "Gemini's thoughts stand in the total alone",
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        Tokens(input_tokens=35, output_tokens=74, reasoning_tokens=62),
        notes=("unattributed",),
    ),
    _whole(
        "a total below its parts",
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 40},
        Tokens(input_tokens=35, output_tokens=12),
        notes=("total_mismatch",),
    ),
    _whole(
        "more cached than sent, as Grok says on Azure",
        openai_usage(7, 3, prompt_tokens_details={"cached_tokens": 163}),
        Tokens(input_tokens=7, cache_read_tokens=163, output_tokens=3),
        notes=("cache_exceeds_input",),
    ),
    _whole("only a total beside the prompt", {"prompt_tokens": 9, "total_tokens": 12}, Tokens(9, output_tokens=3)),
    _whole(
        "floats and digits in strings",
        {"prompt_tokens": 28.0, "completion_tokens": "5", "total_tokens": 33},
        Tokens(28, output_tokens=5),
    ),
    _whole(
        "OpenRouter's cost, tools and own key",
        openai_usage(
            900,
            69,
            cost=0.0004,
            is_byok=True,
            cost_details={"upstream_inference_cost": 0.01},
            server_tool_use_details={"web_search_requests": 2, "tool_calls_executed": 0},
        ),
        Tokens(900, output_tokens=69),
        units={"web_search_requests": 2},
        cost="0.0104 usd",
    ),
    _whole("no usage is not zero usage", None, None, ABSENT),
    _whole("an empty usage says nothing", {}, None, ABSENT),
    Exchange(
        "Groq's compound system: a line for each model",
        OPENAI,
        ASKED | {"model": "compound-beta"},
        completion(
            openai_usage(150, 30, completion_tokens_details={"reasoning_tokens": 9}),
            model="groq/compound",
            usage_breakdown={
                "models": [
                    {"model": "llama-4", "usage": openai_usage(50, 10)},
                    {"model": "gpt-oss", "usage": openai_usage(100, 20)},
                ]
            },
        ),
        FINAL,
        Tokens(150, output_tokens=30, reasoning_tokens=9),
        lines=(
            Line(Tokens(50, output_tokens=10, reasoning_tokens=9), "llama-4", "part"),
            Line(Tokens(100, output_tokens=20), "gpt-oss", "part"),
        ),
    ),
    Exchange("a served tier", OPENAI, ASKED, completion(USAGE, service_tier="priority"), FINAL, PLAIN, tier="priority"),
    Exchange(
        "usage before the choices", OPENAI, ASKED, json.dumps({"usage": USAGE, "choices": []}).encode(), FINAL, PLAIN
    ),
    Exchange(
        "a tier without an end", OPENAI, ASKED, completion(USAGE, service_tier="t" * 2000), FINAL, PLAIN, tier="t" * 64
    ),
    Exchange(
        "a tier a little too long", OPENAI, ASKED, completion(USAGE, service_tier="t" * 65), FINAL, PLAIN, tier="t" * 64
    ),
    Exchange(
        "a model's name without an end, in a breakdown",
        OPENAI,
        ASKED,
        completion(USAGE, usage_breakdown={"models": [{"model": "m" * 2000, "usage": USAGE}]}),
        FINAL,
        lines=(Line(PLAIN, "m" * 256, "part"),),
    ),
    Exchange("blank lines to keep alive", OPENAI, ASKED, b"\n\n\n\n" + completion(USAGE), FINAL, PLAIN),
    Exchange("gzip", OPENAI, ASKED, gzip.compress(completion(USAGE)), FINAL, PLAIN, encoding="gzip"),
    Exchange("gzip that no header names", OPENAI, ASKED, gzip.compress(completion(USAGE)), FINAL, PLAIN),
    Exchange(
        "a header that says gzip over plain JSON", OPENAI, ASKED, completion(USAGE), FINAL, PLAIN, encoding="gzip"
    ),
    Exchange("deflate", OPENAI, ASKED, zlib.compress(completion(USAGE)), FINAL, PLAIN, encoding="deflate"),
    Exchange(
        "deflate without its header",
        OPENAI,
        ASKED,
        zlib.compress(completion(USAGE), wbits=-15),
        FINAL,
        PLAIN,
        encoding="deflate",
    ),
    Exchange(
        "a coding we cannot read",
        OPENAI,
        ASKED,
        b"\x0b\x02\x80anything",
        ABSENT,
        encoding="compress",
        notes=("meter_degraded",),
    ),
    Exchange("a page instead of an answer", OPENAI, ASKED, b"<html>502</html>", ABSENT, notes=("meter_degraded",)),
    Exchange(
        "an error",
        OPENAI,
        ASKED,
        b'{"error":{"message":"no","code":"model_not_found"}}',
        ERROR,
        status=404,
        notes=("provider_error",),
    ),
    Exchange(
        "Azure's filter, which is billed",
        OPENAI,
        ASKED,
        b'{"error":{"message":"no","param":"prompt","code":"content_filter","status":400}}',
        ERROR,
        status=400,
        notes=("refused_after_work", "provider_error"),
    ),
    Exchange(
        "Groq's refusal of what the model had written",
        OPENAI,
        ASKED,
        b'{"error":{"message":"no","code":"tool_use_failed","failed_generation":"<tool>"}}',
        ERROR,
        status=400,
        notes=("refused_after_work", "provider_error"),
    ),
    Exchange(
        "an error with status 200", OPENAI, ASKED, b'{"error":{"message":"no"}}', ERROR, notes=("provider_error",)
    ),
    Exchange(
        "an error that is billed",
        OPENAI,
        ASKED,
        completion(USAGE, error={"message": "cut"}),
        FINAL,
        PLAIN,
        status=500,
        notes=("provider_error",),
    ),
    Exchange(
        "a whole answer that breaks off",
        OPENAI,
        ASKED,
        completion(USAGE)[:-30],
        ESTIMATED,
        ending=Ending.CUT,
        notes=("output_unseen",),
    ),
    Exchange("never sent", OPENAI, ASKED, b"", ERROR, ending=Ending.UNSENT, notes=("unsent",)),
)

STREAMS: Final = (
    _stream("OpenAI, asked", *DELTAS, ALONE, "[DONE]"),
    _stream("OpenAI, asked by us: the chunk is hidden", *DELTAS, ALONE, "[DONE]", request=NOT_ASKED, shown=HIDDEN),
    _stream(
        "Azure: empty choices without usage are shown",
        chunk(choices=[], prompt_filter_results=[]),
        *DELTAS,
        ALONE,
        "[DONE]",
        request=NOT_ASKED,
        shown=sse(chunk(choices=[], prompt_filter_results=[])) + HIDDEN,
    ),
    _stream(
        "moderation follows the usage",
        *DELTAS,
        ALONE,
        chunk(choices=[], moderation={}),
        "[DONE]",
        request=NOT_ASKED,
        shown=sse(*DELTAS, chunk(choices=[], moderation={}), "[DONE]"),
    ),
    _stream(
        "usage beside the last choice is not hidden", *DELTAS[:2], stopped(usage=USAGE), "[DONE]", request=NOT_ASKED
    ),
    _stream("Groq's own place", chunk("Hello"), stopped(x_groq={"id": "req", "usage": USAGE}), "[DONE]"),
    _stream("Groq's two places", stopped(x_groq={"usage": openai_usage(1, 1)}, usage=USAGE), "[DONE]"),
    _stream(
        "Groq's stream repeats the total for every model",
        stopped(
            x_groq={
                "usage": USAGE,
                "usage_breakdown": {"models": [{"model": "a", "usage": USAGE}, {"model": "b", "usage": USAGE}]},
            }
        ),
        "[DONE]",
    ),
    _stream(
        "Groq's error after text",
        chunk("Hel"),
        'event: error\ndata: {"error":{"message":"tool"}}',
        state=ESTIMATED,
        tokens=None,
        notes=("provider_error",),
    ),
    _stream(
        "OpenRouter: comments, and an error with usage",
        ": OPENROUTER PROCESSING",
        chunk("Hel"),
        stopped(error={"code": 502}, usage=USAGE),
        "[DONE]",
        notes=("provider_error",),
    ),
    _stream(
        "an error and nothing else",
        {"error": {"message": "overloaded"}},
        state=ERROR,
        tokens=None,
        notes=("provider_error",),
    ),
    Exchange(
        "Perplexity: growing usage on every chunk, CRLF, pings",
        OPENAI,
        STREAMED,
        sse(
            ": ping - 1",
            chunk("a", usage=openai_usage(11, 1)),
            ": ping - 2",
            chunk("b", usage=openai_usage(11, 2)),
            stopped(usage=USAGE | {"cost": {"total_cost": 0.006}}),
            end="\r\n",
        ),
        FINAL,
        PLAIN,
        cost="0.006 usd",
    ),
    _stream(
        "growing usage, broken off",
        chunk("a", usage=openai_usage(11, 1)),
        chunk("b", usage=openai_usage(11, 2)),
        state=PARTIAL,
        tokens=Tokens(11, output_tokens=22),
        ending=Ending.CUT,
        notes=("output_counted",),
    ),
    _stream(
        "growing usage, and an end in the middle that looks like one",
        chunk("a", usage=openai_usage(11, 1)),
        chunk("b", usage=openai_usage(11, 2)),
        state=PARTIAL,
        tokens=Tokens(11, output_tokens=22),
        notes=("output_counted",),
    ),
    _stream(
        "usage at first, then only text",
        chunk("a", usage=openai_usage(11, 1)),
        *[chunk("b")] * 40,
        stopped(),
        "[DONE]",
        state=PARTIAL,
        tokens=Tokens(11, output_tokens=61),
        notes=("output_counted",),
    ),
    _stream(
        "usage alone at first, then text",
        ALONE,
        *[chunk("b")] * 40,
        "[DONE]",
        state=PARTIAL,
        tokens=Tokens(11, output_tokens=60),
        notes=("output_counted",),
    ),
    _stream("growing usage to the end", chunk("a", usage=openai_usage(11, 6)), chunk("b", usage=USAGE), "[DONE]"),
    _stream("growing usage, a bare end", chunk("a", usage=USAGE), stopped(), "[DONE]"),
    _stream(
        "usage of each choice",
        stopped(usage=openai_usage(11, 300)),
        stopped(usage=openai_usage(11, 20)),
        "[DONE]",
        request=STREAMED | {"n": 2},
        state=PARTIAL,
        tokens=Tokens(11, output_tokens=300),
        notes=("usage_fell", "output_counted"),
    ),
    _stream(
        "the last usage is less than one before",
        chunk("a", usage=openai_usage(11, 300)),
        ALONE,
        "[DONE]",
        tokens=Tokens(11, output_tokens=300),
        notes=("usage_fell",),
    ),
    _stream("usage after [DONE]", *DELTAS, "[DONE]", ALONE),
    _stream("growing usage, the last of it after [DONE]", chunk("a", usage=openai_usage(11, 1)), "[DONE]", ALONE),
    _stream("Writer sends no [DONE]", *DELTAS, ALONE),
    _stream("usage, then the caller leaves", *DELTAS, ALONE, ending=Ending.ABANDONED),
    _stream("nobody tells", *DELTAS, "[DONE]", state=ESTIMATED, tokens=None),
    _stream(
        "a model that reasons unseen breaks off",
        chunk("a"),
        request=STREAMED | {"model": "gpt-5"},
        state=ESTIMATED,
        tokens=None,
        ending=Ending.CUT,
        notes=("hidden_reasoning",),
    ),
    _stream("no content and no usage", "[DONE]", state=ABSENT, tokens=None),
    Exchange(
        "no blank line at the end", OPENAI, NOT_ASKED, sse(*DELTAS, ALONE).rstrip(), FINAL, PLAIN, shown=sse(*DELTAS)
    ),
    Exchange(
        "lone CR, no space, a byte order mark",
        OPENAI,
        NOT_ASKED,
        b"\xef\xbb\xbf" + sse(*DELTAS, ALONE, "[DONE]", end="\r", space=""),
        FINAL,
        PLAIN,
        finished=True,
        shown=b"\xef\xbb\xbf" + sse(*DELTAS, "[DONE]", end="\r", space=""),
    ),
    Exchange(
        "hidden, CRLF",
        OPENAI,
        NOT_ASKED,
        sse(*DELTAS, ALONE, "[DONE]", end="\r\n"),
        FINAL,
        PLAIN,
        finished=True,
        shown=sse(*DELTAS, "[DONE]", end="\r\n"),
    ),
    Exchange(
        "a header that says gzip over a plain stream: nothing is hidden",
        OPENAI,
        NOT_ASKED,
        sse(*DELTAS, ALONE, "[DONE]"),
        FINAL,
        PLAIN,
        encoding="gzip",
        finished=True,
    ),
    Exchange(
        "data in several lines",
        OPENAI,
        STREAMED,
        b'data: {"choices": [],\r\ndata: "usage": {"prompt_tokens": 11,\r\ndata: "completion_tokens": 7}}\r\n\r\n',
        FINAL,
        PLAIN,
    ),
    Exchange(
        "gzip, flushed after every event",
        OPENAI,
        NOT_ASKED,
        gzip.compress(sse(*DELTAS, ALONE, "[DONE]")),
        FINAL,
        PLAIN,
        encoding="gzip",
        finished=True,
    ),
    Exchange(
        "a JSON error where a stream was asked",
        OPENAI,
        NOT_ASKED,
        b'{"error":{"message":"no"}}',
        ERROR,
        status=400,
        notes=("provider_error",),
    ),
    _stream(
        "a count below zero",
        *DELTAS,
        chunk(choices=[], usage=openai_usage(-5, 7)),
        "[DONE]",
        state=ESTIMATED,
        tokens=None,
        notes=("usage_out_of_range",),
    ),
    _stream(
        "a count beyond reason",
        *DELTAS,
        chunk(choices=[], usage=openai_usage(5, 10**30)),
        "[DONE]",
        state=ESTIMATED,
        tokens=None,
        notes=("usage_out_of_range",),
    ),
    _stream(
        "a fraction of a token",
        *DELTAS,
        chunk(choices=[], usage=openai_usage(5, 7) | {"completion_tokens": 7.5}),
        "[DONE]",
        state=ESTIMATED,
        tokens=None,
        notes=("usage_out_of_range",),
    ),
)

EXCHANGES: Final = WHOLE + STREAMS
