"""Exchanges with Cohere of our own making, in the shapes that it writes them."""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.core.pricing.usage import Tokens, UsageState
from sidecar.providers.dialect import Ending
from tests.recordings.exchange import Exchange, sse

FINAL, PARTIAL, ESTIMATED, ABSENT, ERROR = UsageState
CHAT: Final = "/v2/chat"
FIRST: Final = "/v1/chat"
ASKED: Final = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "hi"}]}
ASKED_FIRST: Final = {"model": "command-r", "message": "hi"}
PLAIN: Final = Tokens(input_tokens=11, output_tokens=7)
USAGE: Final = {
    "billed_units": {"input_tokens": 11.0, "output_tokens": 7.0},
    "tokens": {"input_tokens": 70.0, "output_tokens": 7},
}
UNITS: Final = {"processed_input_tokens": 70}


def _whole(name: str, usage: Any, tokens: Tokens | None, state: UsageState = FINAL, **more: Any) -> Exchange:
    body = {"id": "c1", "message": {"role": "assistant", "content": [{"type": "text", "text": '"usage": {}'}]}}
    answer = json.dumps(body | ({} if usage is None else {"usage": usage})).encode()
    return Exchange(name, CHAT, ASKED, answer, state, tokens, **more)


def _events(name: str, *events: Any, **more: Any) -> Exchange:
    facts: dict[str, Any] = {"state": FINAL, "tokens": PLAIN, "units": UNITS, "finished": True, **more}
    return Exchange(name, CHAT, ASKED | {"stream": True}, sse(*events, named=True) + facts.pop("tail", b""), **facts)


def _lines(name: str, *lines: dict[str, Any], **more: Any) -> Exchange:
    facts: dict[str, Any] = {"state": FINAL, "tokens": PLAIN, "units": UNITS, "finished": True, **more}
    answer = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    return Exchange(name, FIRST, ASKED_FIRST | {"stream": True}, answer, **facts)


def delta(text: str) -> dict[str, Any]:
    """A piece of a stream's text."""
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}}


BEGUN: Final = ({"type": "message-start", "id": "c1"}, delta("Hello "), delta("wörld"))
END: Final = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}}
LINE: Final = {"is_finished": False, "event_type": "text-generation", "text": "stream } end\u2028"}
LAST: Final = {
    "is_finished": True,
    "event_type": "stream-end",
    "finish_reason": "COMPLETE",
    "response": {"generation_id": "g1", "text": "x", "meta": {"api_version": {"version": "1"}, **USAGE}},
}

EXCHANGES: Final = (
    _whole("what is billed, not what was processed", USAGE, PLAIN, units=UNITS),
    _whole(
        "thinking, searches and the cache",
        {
            "billed_units": {"input_tokens": 11, "output_tokens": 7, "search_units": 2},
            "tokens": {"input_tokens": 11, "output_tokens": 7, "reasoning_tokens": 5},
            "cached_tokens": 4,
        },
        Tokens(input_tokens=11, output_tokens=7, reasoning_tokens=5),
        units={"search_units": 2, "processed_cached_tokens": 4},
    ),
    _whole("no usage", None, None, ABSENT),
    _whole("nothing billed is told", {"tokens": {"input_tokens": 70, "output_tokens": 7}}, None, ESTIMATED,
           units={"processed_input_tokens": 70, "processed_output_tokens": 7}, notes=("usage_out_of_range",)),
    Exchange("refused", CHAT, ASKED, b'{"id":"1","message":"model not found"}', ERROR, status=404,
             notes=("provider_error",)),
    Exchange("not now", CHAT, ASKED, b'{"message":"busy"}', ERROR, status=503, notes=("provider_error",)),
    _events("events", *BEGUN, END, tail=b"data: [DONE]\n\n"),
    _events("events that are cut", *BEGUN, state=ESTIMATED, tokens=None, units={}, finished=False, ending=Ending.CUT),
    _events(
        "a failure at the end",
        *BEGUN,
        {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no", "usage": USAGE}},
        notes=("provider_error",),
    ),
    _lines("lines of the first version", {"event_type": "stream-start", "generation_id": "g1"}, LINE, LAST),
    _lines("lines that are cut", LINE, state=ESTIMATED, tokens=None, units={}, finished=False, ending=Ending.CUT),
    Exchange("a whole answer of the first version", FIRST, ASKED_FIRST,
             json.dumps({"response_id": "r", "text": "x", "meta": {"warnings": ["x"], **USAGE}}).encode(), FINAL, PLAIN,
             units=UNITS),
    Exchange("embeddings", "/v2/embed", {"model": "embed-v4.0", "texts": ["hi"]},
             b'{"id":"1","embeddings":{"float":[[0.1]]},"meta":{"billed_units":{"input_tokens":3}}}', FINAL,
             Tokens(input_tokens=3)),
)  # fmt: skip
