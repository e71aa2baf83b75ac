"""An Anthropic message's request: what is refused, and what it can cost at most."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.anthropic import AnthropicMessages
from sidecar.providers.dialect import BadRequest, RequestFacts

MESSAGES_API = AnthropicMessages()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 10**6}}


def facts(content: Any = "hi", **fields: Any) -> RequestFacts:
    body = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": content}]} | fields
    return MESSAGES_API.read_request(json.dumps(body).encode())


def test_a_plain_request() -> None:
    """Bytes and a little for the input; `max_tokens` for the output, thinking inside it."""
    read = facts(thinking={"type": "enabled", "budget_tokens": 32})
    assert len(read.body) < read.ceiling.input_tokens < len(read.body) + 500
    assert read.ceiling.output_limit == 64
    assert read.ceiling.unbounded == ()
    assert (read.ceiling.cache_write, read.ceiling.tier, read.ceiling.geo) == ("", None, None)
    assert not read.hide_usage


@pytest.mark.parametrize("limit", [None, True, 1.5, "5", -1, 2**63])
def test_max_tokens_is_required_and_whole(limit: Any) -> None:
    """B-P49."""
    with pytest.raises(BadRequest) as caught:
        facts(max_tokens=limit)
    assert caught.value.param == "max_tokens"


def test_warming_the_cache_has_no_output() -> None:
    """`max_tokens: 0` writes the cache and generates nothing."""
    assert facts(max_tokens=0).ceiling.output_limit == 0


@pytest.mark.parametrize(
    ("content", "lifetime"),
    [
        ([{"type": "text", "text": "a"}], ""),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "5m"),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "5m"}}], "5m"),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}], "1h"),
    ],
)
def test_the_dearest_cache_that_may_be_written(content: Any, lifetime: str) -> None:
    """L0: an hour's cache costs more to write than five minutes'."""
    assert facts(content).ceiling.cache_write == lifetime


def test_words_hidden_by_escapes_are_taken_at_the_dearest() -> None:
    """L0: `cache_control` spelt with escapes is not seen by a search, and not cheaper for it."""
    body = b'{"model":"claude-sonnet-4-5","max_tokens":5,"messages":[],"cache\\u005fcontrol":{"ttl":"1\\u0068"}}'
    assert MESSAGES_API.read_request(body).ceiling.cache_write == "1h"
    body = b'{"model":"m","max_tokens":5,"messages":[],"cache_control":{"ttl":"\\u0031h"}}'
    assert MESSAGES_API.read_request(body).ceiling.cache_write == "1h"
    assert facts("caf\u00e9 <b>").ceiling.cache_write == ""
    quoted = b'{"model":"m","max_tokens":5,"messages":[{"content":"\\u0022a\\u0022 \\u003cb\\u003E \\u0026"}]}'
    assert MESSAGES_API.read_request(quoted).ceiling.cache_write == ""


def test_pictures() -> None:
    """L0: a picture counts by its table, also inside a tool's result and by URL."""
    direct, nested = facts([IMAGE]), facts([{"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}])
    by_url = facts([{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}])
    for read in (direct, nested, by_url):
        assert 1_700 <= read.ceiling.input_tokens < 2_500
        assert read.ceiling.unbounded == ()


def test_tools_at_the_caller_are_bounded() -> None:
    """Custom tools, and Anthropic's own that run at the caller, add their preamble."""
    custom = {"name": "f", "input_schema": {}}
    plain, tools = facts(), facts(tools=[custom, custom | {"type": "custom"}])
    assert tools.ceiling.input_tokens - plain.ceiling.input_tokens >= 650 + len(tools.body) - len(plain.body)
    own = facts(tools=[{"type": f"{kind}_20250124", "name": "x"} for kind in ("bash", "computer", "memory")])
    assert own.ceiling.unbounded == ()
    assert own.ceiling.input_tokens >= 3 * 735


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tools": [{"type": "bash_20250124x", "name": "x"}]}, "bash_20250124x"), ({"tools": 5}, "tools"),
        ({"content": [{"type": "document", "source": {"type": "base64", "data": "A"}}]}, "document"),
        ({"content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}, "file id"),
        ({"content": [{"type": "tool_result", "content": [{"type": "document"}]}]}, "document"),
        ({"content": [{"type": "container_upload", "file_id": "f"}]}, "container_upload"),
        ({"content": {"a": 1}}, "shape"), ({"messages": 5}, "shape"), ({"system": [{"type": "new"}]}, "new"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"), ({"container": "c"}, "container"),
        ({"fallbacks": "default"}, "fallbacks"), ({"thread": {"type": "create"}}, "thread"), ({"novel": 1}, "novel"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "compaction"),
        ({"context_management": 7}, "compaction"), ({"novel": {}}, "novel"), ({"novel": 0}, "novel"),
        ({"novel": []}, "novel"), ({"container": ""}, "container"), ({"tools": [{"type": 5}]}, "tool"),
    ],
)  # fmt: skip
def test_what_has_no_bound_says_so_by_name(fields: dict[str, Any], word: str) -> None:
    """L0: what runs or is kept at the provider, and what we do not know."""
    features = facts(**fields).ceiling.unbounded
    assert len(features) == 1
    assert word in features[0]


def test_what_only_shortens_or_asks_for_nothing_is_bounded() -> None:
    """Clearing edits, no servers, nulls."""
    read = facts(
        novel=None,
        new=False,
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        mcp_servers=[],
        container=None,
        system="be brief",
        metadata={"user_id": "u"},
    )
    assert read.ceiling.unbounded == ()


def test_tier_speed_and_place() -> None:
    """`speed: fast` is a tier of its own; `inference_geo` scales the price."""
    assert facts(service_tier="standard_only").ceiling.tier == "standard_only"
    assert facts(service_tier="auto", speed="fast").ceiling.tier == "fast"
    assert facts(inference_geo="us").ceiling.geo == "us"


@pytest.mark.parametrize(
    ("model", "thinking", "unseen"),
    [("claude-sonnet-4-5", None, False), ("claude-opus-5", None, True), ("claude-opus-5", {"type": "disabled"}, False),
     ("claude-sonnet-4-5", {"type": "enabled", "budget_tokens": 1024}, True), ("claude-3-5-haiku-latest", None, False)],
)  # fmt: skip
def test_thinking_that_a_stream_does_not_show(model: str, thinking: Any, unseen: bool) -> None:
    """A summary of thinking is shown at most, and later models think unasked."""
    assert facts(model=model, **({} if thinking is None else {"thinking": thinking})).may_reason is unseen


def test_content_nested_without_end() -> None:
    """Depth is bounded: no recursion error, a reason instead."""
    content: Any = "x"
    for _ in range(50):
        content = [{"type": "tool_result", "content": content}]
    assert facts(content).ceiling.unbounded == ("content nested too deeply",)


def twice(text: str) -> BadRequest:
    """The refusal of a body with these bytes for its other fields, in every spelling."""
    spelt = [text, text.replace('"type"', '"\\u0074ype"', 1), text.replace(":", " : ").replace(",", " , ")]
    found = []
    for each in spelt:
        with pytest.raises(BadRequest) as caught:
            MESSAGES_API.read_request(f'{{"model":"claude-haiku-4-5","max_tokens":1,{each}}}'.encode())
        found.append(caught.value)
    assert {refusal.code for refusal in found} == {"duplicate_field"}
    return found[0]


DOCUMENT = '[{"type":"document","source":{"type":"url","url":"https://example.com/y.pdf"}}]'


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ('"messages":[{"role":"user","content":[{"type":"document","type":"text","text":"hi"}]}]', "content"),
        (f'"messages":[{{"role":"user","content":{DOCUMENT},"content":"hi"}}]', "messages"),
        (f'"messages":[{{"content":[{{"type":"tool_result","content":{DOCUMENT},"content":[]}}]}}]', "content"),
        ('"messages":[{"content":[{"type":"image","source":{"type":"file","type":"url"}}]}]', "source"),
        ('"system":[{"type":"document","type":"text","text":"hi"}],"messages":[]', "content"),
        ('"messages":[],"tools":[{"type":"web_search_20250305","name":"web_search","type":"custom"}]', "tools"),
        ('"messages":[],"context_management":{"edits":[{"type":"compact_1","type":"clear_1"}]}', "context_management"),
        ('"messages":[],"context_management":{"edits":[{"type":"compact_1"}],"edits":[]}', "context_management"),
    ],
)
def test_a_key_that_stands_twice_within_is_refused(text: str, param: str) -> None:
    """L0: which of the two the provider takes decides what the call costs; we cannot know it."""
    assert twice(text).param == param


def test_no_key_twice_is_no_repeat() -> None:
    """Spaces, many members and values that look like keys are taken as they are."""
    block: dict[str, Any] = {
        "type": "text",
        "text": '"type":"document","type":"x"',
        "citations": None,
        "a": 1,
        "b": [],
        "c": {},
    }
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [block, block]}, {}], "tools": [{}]}
    for written in (json.dumps(body), json.dumps(body, indent=4), json.dumps(body, separators=(",", ":"))):
        assert MESSAGES_API.read_request(written.encode()).ceiling.unbounded == ()
