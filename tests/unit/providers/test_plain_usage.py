from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.pricing.usage import Tokens
from sidecar.providers.metering import Reading
from sidecar.providers.openai_chat import OpenAIChatReading
from sidecar.providers.openai_usage import read_plain_usage, read_usage

COUNTS = st.one_of(st.integers(-2, 40), st.sampled_from([None, 28.0, 2.5, "28", "x", True, 10**10, 10**10 + 1, 2**70]))
PROMPT = st.sampled_from(["cached_tokens", "audio_tokens", "text_tokens", "cache_write_tokens"])
COMPLETION = st.sampled_from(
    ["reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens", "image_tokens"]
)
OTHERS = st.dictionaries(st.sampled_from(["cost", "num_cached_tokens", "server_tool_use", "x"]), COUNTS, max_size=1)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    """Usage objects as servers write them: most add up, some do not, some hold nonsense."""
    given_tokens, made = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    usage: dict[str, Any] = {
        "prompt_tokens": given_tokens,
        "completion_tokens": made,
        "total_tokens": given_tokens + made,
    }
    usage |= draw(st.dictionaries(st.sampled_from(list(usage)), COUNTS, max_size=1))
    for name, parts in (("prompt_tokens_details", PROMPT), ("completion_tokens_details", COMPLETION)):
        if draw(st.booleans()):
            usage[name] = draw(st.one_of(st.none(), st.dictionaries(parts, COUNTS, max_size=3)))
    return usage | (draw(OTHERS) if draw(st.integers(0, 4)) == 0 else {})


@given(usages())
def test_the_short_way_gives_what_the_long_way_gives(usage: dict[str, Any]) -> None:
    """Where it answers at all: the same tokens, and nothing that it would have had to tell beside them."""
    tokens = read_plain_usage(json.dumps(usage).encode())
    if tokens is not None:
        read = read_usage(usage)
        assert read is not None
        assert (read.tokens, read.units, read.cost, read.odd, read.notes) == (tokens, {}, None, False, ())


def test_openais_own_usage_goes_the_short_way() -> None:
    """Every field that OpenAI writes today."""
    usage = {
        "prompt_tokens": 19,
        "completion_tokens": 10,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 4,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    tokens = read_plain_usage(json.dumps(usage).encode())
    assert tokens == Tokens(
        input_tokens=19,
        cache_read_tokens=7,
        output_tokens=10,
        reasoning_tokens=4,
        input_audio_tokens=0,
        output_audio_tokens=0,
        prediction_accepted_tokens=0,
        prediction_rejected_tokens=0,
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"id": "x" * 300},
        {"model": "m" * 300},
        {"service_tier": "flex"},
        {"service_tier": ["flex"]},
        {"usage": None},
        {"usage": {}},
        {"usage": 5},
        {"usage": {"prompt_tokens": "2", "completion_tokens": 3}},
        {"usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "num_sources_used": 1}},
        {"error": None},
        {"error": {"message": "no"}},
        {"x_groq": {"id": "req_1", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}},
        {"usage_breakdown": {"models": []}},
        {"choices": []},
    ],
)
def test_a_whole_answer_reads_the_same_in_one_pass(change: dict[str, Any]) -> None:
    """Whatever its members are: as when it is taken apart member by member."""
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    answer = {"id": "c1", "model": "m", "choices": [{"finish_reason": "stop"}], "usage": usage} | change
    body = json.dumps(answer).encode()
    short, long = OpenAIChatReading(), OpenAIChatReading()
    assert short.read_whole(body)
    assert Reading.read_whole(long, body)
    assert short.told() == long.told()
    for name in ("request_id", "model", "tier", "error", "done"):
        assert getattr(short, name) == getattr(long, name)


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"id": "c1"', b'{"id": "\xff"'])
def test_what_is_no_object_is_not_read(body: bytes) -> None:
    """Either way."""
    assert not OpenAIChatReading().read_whole(body)
