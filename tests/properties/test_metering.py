"""Whatever a provider sends, in whatever pieces: nothing is raised, lost, reordered, or read otherwise."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import BadRequest, Dialect, Ending
from sidecar.providers.metering import Meter
from sidecar.providers.registry import (
    ANTHROPIC_MESSAGES,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    OPENAI_RESPONSES,
)
from tests.recordings.exchange import cut_at

DIALECTS: dict[Dialect, list[dict[str, Any]]] = {
    OPENAI_CHAT: [
        {"model": "gpt-4o", "messages": [], "stream": True},
        {"model": "gpt-4o", "messages": [], "stream": True, "stream_options": {"include_usage": True}},
        {"model": "gpt-5", "messages": []},
    ],
    OPENAI_RESPONSES: [{"model": "gpt-4o", "input": "", "stream": True}, {"model": "gpt-5", "input": ""}],
    OPENAI_COMPLETIONS: [{"model": "m", "prompt": "", "stream": True}, {"model": "m", "prompt": ["", ""]}],
    OPENAI_EMBEDDINGS: [{"model": "m", "input": ""}],
    ANTHROPIC_MESSAGES: [{"model": "claude-opus-5", "messages": [], "max_tokens": 9, "stream": True}],
}
ANYTHING = st.recursive(
    st.sampled_from([None, True, -1, 0, 7, 7.0, 7.5, 10**30, "7", "x", float(2**70)]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "prompt_tokens",
                    "completion_tokens",
                    "total_tokens",
                    "input_tokens",
                    "output_tokens",
                    "cache_read_input_tokens",
                    "cache_creation",
                    "ephemeral_5m_input_tokens",
                    "iterations",
                    "type",
                    "model",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "reasoning_tokens",
                    "completion_tokens_details",
                    "server_tool_use",
                    "cost",
                    "cost_details",
                    "models",
                    "usage",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
EVENT_FIELDS = (
    "response",
    "tool_usage",
    "output",
    "status",
    "id",
    "type",
    "model",
    "choices",
    "usage",
    "x_groq",
    "message",
    "delta",
    "error",
    "usage_breakdown",
)
EVENTS = st.dictionaries(
    st.sampled_from(EVENT_FIELDS),
    ANYTHING
    | st.sampled_from([[], "message_start", "message_delta", "message_stop", "error", {"stop_reason": "end"}])
    | st.sampled_from(
        ["response.completed", "failed", {"usage": {"input_tokens": 7, "output_tokens": 3}}, [{"type": "mcp_call"}]]
    ),
    max_size=5,
).map(json.dumps)
LINES = st.one_of(
    EVENTS.map("data: {}".format),
    EVENTS,
    st.sampled_from(
        [
            "data: [DONE]",
            "event: error",
            "event: message_start",
            "event: response.completed",
            ": ping",
            "data",
            "data: {",
            "<html>",
            "",
        ]
    ),
    st.text(max_size=8),
)
BODIES = st.one_of(
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])), max_size=8).map(
        lambda lines: "".join(line + end for line, end in lines).encode("utf-8", "replace")
    ),
    EVENTS.map(str.encode),
    st.binary(max_size=40),
)


def read(
    dialect: Dialect, request: dict[str, Any], pieces: list[bytes], ending: Ending, status: int, encoding: str
) -> tuple[list[bytes], Usage, bool]:
    facts = dialect.read_request(json.dumps(request).encode())
    meter = dialect.meter(facts, status=status, lines=b"", content_encoding=encoding)
    shown = [meter.feed(piece) for piece in pieces]
    if ending is Ending.COMPLETE:
        shown.append(meter.flush())
    usage = meter.usage(ending)
    assert meter.usage(ending) == usage
    return shown, usage, meter.finished()


@given(
    st.sampled_from([(dialect, request) for dialect, requests in DIALECTS.items() for request in requests]),
    BODIES,
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from(Ending),
    st.sampled_from([200, 200, 404, 529]),
    st.sampled_from(["", "", "gzip", "deflate", "br"]),
)
def test_no_bytes_break_a_meter(
    asked: tuple[Dialect, dict[str, Any]], body: bytes, places: list[int], ending: Ending, status: int, encoding: str
) -> None:
    """F-26, F-28: never an exception; no negative count; cuts change neither the usage nor what is seen."""
    dialect, request = asked
    pieces = cut_at(body, sorted(min(place, len(body)) for place in places))
    with mock.patch.object(Meter, "_give_up", side_effect=AssertionError("an exception inside the meter")):
        whole, usage, finished = read(dialect, request, [body], ending, status, encoding)
        shown, cut_usage, cut_finished = read(dialect, request, pieces, ending, status, encoding)
    assert cut_usage == usage
    assert cut_finished == finished
    if not dialect.read_request(json.dumps(request).encode()).hide_usage:
        assert shown[: len(pieces)] == pieces  # nothing is hidden, so nothing waits
    elif ending is Ending.COMPLETE:
        assert b"".join(shown) == b"".join(whole)
        assert is_subsequence(b"".join(shown), body)
    for line in usage.lines:
        for count in (getattr(line.tokens, field) for field in line.tokens.__struct_fields__):
            assert count is None or (isinstance(count, int) and count >= 0)
    assert all(count > 0 for count in usage.units.values())
    if usage.state in {UsageState.FINAL, UsageState.PARTIAL, UsageState.ESTIMATED}:
        total = usage.total()
        assert total.input_tokens is not None
        assert total.output_tokens is not None


def is_subsequence(shown: bytes, body: bytes) -> bool:
    """Whether `shown` is `body` with bytes left out."""
    rest = iter(body)
    return all(byte in rest for byte in shown)


@given(
    st.sampled_from([OPENAI_CHAT, ANTHROPIC_MESSAGES]),
    st.dictionaries(
        st.sampled_from(
            [
                "model",
                "messages",
                "max_tokens",
                "n",
                "stream",
                "stream_options",
                "tools",
                "system",
                "prediction",
                "modalities",
                "context_management",
                "response_format",
                "service_tier",
                "thinking",
                "audio",
                "functions",
                "speed",
                "novel",
            ]
        ),
        ANYTHING | st.sampled_from(["gpt-4o", True, 5, [{"role": "user", "content": "x"}], {"include_usage": False}]),
    ).map(json.dumps),
)
def test_no_request_breaks_a_dialect(dialect: Dialect, body: str) -> None:
    """A request is read or refused as bad, and what is read has a bound no smaller than its own bytes."""
    with contextlib.suppress(BadRequest):
        facts = dialect.read_request(body.encode())
        assert facts.ceiling.input_tokens >= len(body)
        assert facts.ceiling.output_limit is None or facts.ceiling.output_limit >= 0
        assert json.loads(facts.body) == json.loads(body) | (
            {"stream_options": (json.loads(body).get("stream_options") or {}) | {"include_usage": True}}
            if facts.hide_usage
            else {}
        )
