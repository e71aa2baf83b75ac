"""Exchanges with Gemini of our own making, in the shapes that Google writes them."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final

from sidecar.core.pricing.usage import Line, Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import Exchange, message, message_stream, sse

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
_BASE: Final = "/v1beta/models/gemini-2.5-flash"
WHOLE: Final = f"{_BASE}:generateContent"
EVENTS: Final = f"{_BASE}:streamGenerateContent?alt=sse"
ARRAY: Final = f"{_BASE}:streamGenerateContent"
VERTEX: Final = (
    "/v1beta1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent"
    "?$alt=json;enum-encoding=int"
)
ASKED: Final = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
PLAIN: Final = Tokens(input_tokens=11, output_tokens=7)


def usage(**counts: Any) -> dict[str, Any]:
    """A plain usage object, with or without further counts."""
    return {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18} | counts


def chunk(text: str | None, figures: Any = None, *, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk, which is also what a whole answer is."""
    candidate: dict[str, Any] = {"index": 0}
    if text is not None:
        candidate["content"] = {"role": "model", "parts": [{"text": text}]}
    if reason is not None:
        candidate["finishReason"] = reason
    told = {} if figures is None else {"usageMetadata": figures}
    return {"candidates": [candidate], **told, "modelVersion": "gemini-2.5-flash", "responseId": "r1"} | more


def _whole(name: str, figures: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    answer = json.dumps(chunk('said "usageMetadata": {}', figures, reason="STOP"), indent=2).encode()
    return Exchange(name, more.pop("path", WHOLE), ASKED, answer, state, tokens, **more)


def _events(name: str, *chunks: Any, state: UsageState = FINAL, **more: Any) -> Exchange:
    return Exchange(name, EVENTS, ASKED, sse(*chunks, end="\r\n"), state, **{"tokens": PLAIN, **more})


def _array(name: str, *chunks: Any, state: UsageState = FINAL, **more: Any) -> Exchange:
    answer = json.dumps(chunks, indent=2, ensure_ascii=False).replace("\n", "\r\n").encode()
    return Exchange(name, ARRAY, ASKED, answer, state, **{"tokens": PLAIN, **more})


BEGUN: Final = usage(candidatesTokenCount=2, totalTokenCount=13)
CHUNKS: Final = (
    chunk("Hel", BEGUN),
    chunk("lo } wörld\u2028\n", usage(candidatesTokenCount=4, totalTokenCount=15)),
    chunk(None, usage(), reason="STOP"),
)
GROUNDED: Final = {"groundingMetadata": {"webSearchQueries": ["a", "b"]}, "finishReason": "STOP"}

CLAUDE_USAGE: Final = {"input_tokens": 11, "output_tokens": 7}
EMBED: Final = {"content": {"parts": [{"text": "hi"}]}}
PREDICT: Final = "/v1/projects/p/locations/l/publishers/google/models/gemini-embedding-001:predict"
TALK: Final = {"model": "gemini-3-flash-preview", "input": "hi"}
TALKED: Final = {
    "total_input_tokens": 8,
    "total_tool_use_tokens": 3,
    "total_cached_tokens": 2,
    "total_output_tokens": 4,
    "total_thought_tokens": 3,
    "total_tokens": 18,
}
TALK_TOKENS: Final = Tokens(
    input_tokens=11, cache_read_tokens=2, output_tokens=7, reasoning_tokens=3, tool_input_tokens=3
)


def _talk(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    said = {"id": "i1", "model": "gemini-3-flash-preview", "status": "completed", "usage": usage}
    return Exchange(name, "/v1beta/interactions", TALK, json.dumps(said).encode(), state, tokens, **more)


def _talk_events(name: str, *events: tuple[str, dict[str, Any] | str], **more: Any) -> Exchange:
    answer = "".join(
        f"event: {kind}\ndata: {data if isinstance(data, str) else json.dumps(data)}\n\n" for kind, data in events
    )
    facts: dict[str, Any] = {"state": FINAL, "tokens": TALK_TOKENS, "finished": True, **more}
    request = TALK | {"stream": True}
    return Exchange(name, "/v1beta/interactions", request, answer.encode(), **facts)


TALK_BEGUN: Final = (
    ("interaction.created", {"interaction": {"id": "i1", "status": "in_progress"}}),
    ("step.delta", {"delta": {"type": "text", "text": "Hello"}}),
)
TALK_ENDED: Final = ("interaction.completed", {"interaction": {"id": "i1", "status": "completed", "usage": TALKED}})
CLAUDE: Final = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5@20250929:"
CLAUDES: Final = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": []}

OTHERS: Final = (
    Exchange(
        "an embedding",
        "/v1beta/models/gemini-embedding-001:embedContent",
        EMBED,
        b'{"embedding":{"values":[0.1]},"usageMetadata":{"promptTokenCount":3,"promptTokenDetails":[]}}',
        FINAL,
        Tokens(input_tokens=3),
    ),
    Exchange(
        "an embedding without figures",
        "/v1beta/models/gemini-embedding-001:embedContent",
        EMBED,
        b'{"embedding":{"values":[0.1]}}',
        ABSENT,
    ),
    Exchange(
        "embeddings on Vertex",
        PREDICT,
        {"instances": [{"content": "hi"}, {"content": "ho"}]},
        b'{"predictions":[{"embeddings":{"statistics":{"token_count":3}}},'
        b'{"embeddings":{"statistics":{"token_count":4.0}}}]}',
        FINAL,
        Tokens(input_tokens=7),
    ),
    Exchange(
        "one of the embeddings is not told of",
        PREDICT,
        {"instances": [{"content": "hi"}]},
        b'{"predictions":[{"embeddings":{"statistics":{"token_count":3}}},{"embeddings":{}}]}',
        ABSENT,
    ),
    _talk("an interaction", TALKED, TALK_TOKENS),
    _talk(
        "an interaction whose total knows of more",
        TALKED | {"total_tokens": 24_750},
        Tokens(input_tokens=11, cache_read_tokens=2, output_tokens=24_739, reasoning_tokens=3, tool_input_tokens=3),
        notes=("unattributed",),
    ),
    _talk("an interaction without figures", None, None, ABSENT),
    _talk_events("a streamed interaction", *TALK_BEGUN, TALK_ENDED, ("done", "[DONE]")),
    _talk_events(
        "a streamed interaction that is cut",
        *TALK_BEGUN,
        state=ESTIMATED,
        tokens=None,
        finished=False,
        ending=Ending.CUT,
        notes=("hidden_reasoning",),
    ),
    _talk_events(
        "a streamed interaction that fails",
        ("error", {"error": {"code": 503}}),
        state=ERROR,
        tokens=None,
        finished=False,
        notes=("provider_error",),
    ),
    Exchange(
        "a message of Claude's on Vertex",
        f"{CLAUDE}rawPredict",
        CLAUDES,
        json.dumps(message(CLAUDE_USAGE)).encode(),
        FINAL,
        PLAIN,
    ),
    Exchange(
        "a stream of Claude's on Vertex",
        f"{CLAUDE}streamRawPredict",
        CLAUDES | {"stream": True},
        message_stream({"input_tokens": 11, "output_tokens": 1}, {"output_tokens": 7}),
        FINAL,
        PLAIN,
        finished=True,
    ),
)

EXCHANGES: Final = (
    *OTHERS,
    _whole("plain", usage(), PLAIN),
    _whole(
        "thoughts and tools stand beside, the cache inside",
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 60,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 9,
            "totalTokenCount": 159,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 40},
                {"modality": "AUDIO", "tokenCount": 25},
                {"modality": "DOCUMENT", "tokenCount": 20},
                {"modality": "IMAGE", "tokenCount": 10},
                {"modality": "VIDEO", "tokenCount": 5},
            ],
            "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 20}],
            "serviceTier": "standard",
        },
        Tokens(
            input_tokens=109,
            cache_read_tokens=60,
            cache_read_audio_tokens=20,
            tool_input_tokens=9,
            input_text_tokens=49,
            input_audio_tokens=25,
            input_image_tokens=30,
            input_video_tokens=5,
            output_tokens=50,
            reasoning_tokens=30,
            output_text_tokens=20,
        ),
        tier="standard",
    ),
    _whole(
        "enumerations as numbers, on Vertex",
        usage(trafficType=1, promptTokensDetails=[{"modality": 1, "tokenCount": 11}]),
        Tokens(input_tokens=11, input_text_tokens=11, output_tokens=7),
        path=VERTEX,
        tier="ON_DEMAND",
    ),
    _whole(
        "a blocked answer has no output",
        {"promptTokenCount": 11, "totalTokenCount": 11},
        Tokens(input_tokens=11),
    ),
    _whole(
        "what only the total knows of is output",
        usage(totalTokenCount=118),
        Tokens(input_tokens=11, output_tokens=107),
        notes=("unattributed",),
    ),
    _whole("a total below its parts is not believed", usage(totalTokenCount=12), PLAIN),
    _whole("counts as text and floats", usage(promptTokenCount="11", candidatesTokenCount=7.0), PLAIN),
    _whole("only a tier", {"trafficType": "ON_DEMAND"}, None, ABSENT, tier="ON_DEMAND"),
    _whole("no figures", None, None, ABSENT),
    _whole(
        "without a total nothing is final",
        {"promptTokenCount": 11, "candidatesTokenCount": 7},
        None,
        ESTIMATED,
        notes=("usage_out_of_range", "hidden_reasoning"),
    ),
    _whole(
        "a negative count",
        usage(candidatesTokenCount=-7),
        None,
        ESTIMATED,
        notes=("unattributed", "usage_out_of_range", "hidden_reasoning"),
    ),
    Exchange(
        "an error",
        WHOLE,
        ASKED,
        b'{"error": {"code": 404, "status": "NOT_FOUND"}}',
        ERROR,
        status=404,
        notes=("provider_error",),
    ),
    Exchange(
        "an error where events were asked for",
        EVENTS,
        ASKED,
        b'{"error": {"code": 400}}',
        ERROR,
        status=400,
        notes=("provider_error",),
    ),
    Exchange(
        "an error in an array",
        ARRAY,
        ASKED,
        b'[{\n  "error": {"code": 503}}\n]',
        ERROR,
        status=503,
        notes=("provider_error",),
    ),
    _events("events", *CHUNKS),
    _events(
        "the prompt's count changes, and the candidates' is missing",
        chunk("a", usage(promptTokenCount=427, candidatesTokenCount=None, totalTokenCount=427)),
        chunk("b", BEGUN),
        chunk(None, {"promptTokenCount": 11, "totalTokenCount": 18, "candidatesTokenCount": 7}),
        chunk(None, {"promptTokenCount": 11, "totalTokenCount": 18}, reason="STOP"),
    ),
    _events(
        "output never falls",
        chunk("a", usage()),
        chunk("b", usage(candidatesTokenCount=3, totalTokenCount=14), reason="STOP"),
        notes=("usage_fell",),
    ),
    _events(
        "each search is counted once",
        {**chunk(None, BEGUN), "candidates": [{"groundingMetadata": {"webSearchQueries": ["a"]}}]},
        {**chunk(None, usage()), "candidates": [GROUNDED]},
        units={"google_search_queries": 2},
    ),
    _events(
        "a blocked prompt",
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}},
        tokens=Tokens(input_tokens=4),
    ),
    _events(
        "cut short, the output is counted",
        CHUNKS[0],
        state=PARTIAL,
        tokens=Tokens(input_tokens=11, output_tokens=22),
        ending=Ending.CUT,
        notes=("output_counted", "hidden_reasoning"),
    ),
    _events(
        "an error within",
        CHUNKS[0],
        {"error": {"code": 503, "status": "UNAVAILABLE"}},
        state=PARTIAL,
        tokens=Tokens(input_tokens=11, output_tokens=22),
        notes=("output_counted", "hidden_reasoning", "provider_error"),
    ),
    Exchange(
        "compressed events",
        EVENTS,
        ASKED,
        gzip.compress(sse(*CHUNKS, end="\r\n"), mtime=0),
        FINAL,
        PLAIN,
        encoding="gzip",
    ),
    _array("an array", *CHUNKS),
    Exchange(
        "a compressed array",
        ARRAY,
        ASKED,
        gzip.compress(json.dumps(CHUNKS).encode(), mtime=0),
        FINAL,
        PLAIN,
        encoding="gzip",
    ),
    Exchange(
        "an array cut short",
        ARRAY,
        ASKED,
        json.dumps(CHUNKS).encode()[:-180],
        PARTIAL,
        Tokens(input_tokens=11, output_tokens=31),
        ending=Ending.CUT,
        notes=("output_counted", "hidden_reasoning"),
    ),
    Exchange(
        "lines name the model that served",
        WHOLE,
        ASKED,
        json.dumps(chunk("x", usage(), modelVersion="gemini-2.5-flash-002", reason="STOP")).encode(),
        FINAL,
        lines=(Line(PLAIN, "gemini-2.5-flash-002"),),
    ),
)
