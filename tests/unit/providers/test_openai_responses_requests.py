"""A Responses request: what is refused, what it can cost at most, and what has no bound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.openai_responses import OpenAIResponses
from sidecar.providers.openai_responses_prompt import HISTORY

RESPONSES = OpenAIResponses()
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAGQAAABk"  # 100 × 100


def facts(asked: Any = "hi", **fields: Any) -> RequestFacts:
    return RESPONSES.read_request(json.dumps({"model": "gpt-4o", "input": asked} | fields).encode())


def item(*content: dict[str, Any], **fields: Any) -> RequestFacts:
    return facts([{"role": "user", "content": list(content)}], **fields)


def test_a_plain_request() -> None:
    """The bound of the input is its bytes and a little; the output's is the limit; nothing is spliced in."""
    read = facts(max_output_tokens=50, service_tier="flex", stream=True, store=False)
    ceiling = read.ceiling
    assert (ceiling.model, ceiling.output_limit, ceiling.choices, ceiling.tier) == ("gpt-4o", 50, 1, "flex")
    assert len(read.body) < ceiling.input_tokens < len(read.body) + 500
    assert (ceiling.unbounded, ceiling.cache_write) == ((), "5m")
    assert read.stream
    assert not read.hide_usage
    assert (read.later, read.continues) == ("", "")
    assert facts().ceiling.output_limit is None
    assert facts(service_tier="fast").ceiling.tier == "priority"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"), ({"model": 5}, "model"), ({"stream": 1}, "stream"),
        ({"max_output_tokens": True}, "max_output_tokens"), ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "5"}, "max_output_tokens"), ({"background": "yes"}, "background"),
        ({"service_tier": 5}, "service_tier"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_names_its_field(fields: dict[str, Any], param: str) -> None:
    """B-P49, B-P52."""
    with pytest.raises(BadRequest) as caught:
        facts(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ([{"role": "user", "content": "a"}, {"type": "message", "role": "assistant", "content": "b"}], {}),
        ([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}], {}),
        ([{"type": "function_call_output", "call_id": "c", "output": "o"}], {}),
        ([{"type": "function_call_output", "output": [{"type": "input_text", "text": "o"}]}], {}),
        ([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"}], {}),
        ("hi", {"tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "c"}]}),
        ("hi", {"tools": [{"type": "local_shell"}]}), ("hi", {"context_management": [], "previous_response_id": None}),
        ("hi", {"reasoning": {"effort": "low", "mode": "standard"}, "text": {"format": {"type": "json_schema"}}}),
    ],
)  # fmt: skip
def test_what_is_in_the_request_is_bounded(asked: Any, fields: dict[str, Any]) -> None:
    """L0: its bytes and the constants bound it."""
    assert facts(asked, **fields).ceiling.unbounded == ()


@pytest.mark.parametrize(
    ("asked", "fields", "word"),
    [
        ("hi", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("hi", {"conversation": "c"}, "conversation"), ("hi", {"prompt": {"id": "p"}}, "prompt"),
        ("hi", {"context_management": [{"type": "compaction"}]}, "compaction"),
        ("hi", {"reasoning": {"mode": "pro"}}, "several times"), ("hi", {"brand_new": {}}, "brand_new"),
        ("hi", {"tools": [{"type": "web_search"}]}, "web_search"), ("hi", {"tools": [{"type": "mcp"}]}, "mcp"),
        ("hi", {"tools": {}}, "tools of an unknown shape"), ({"role": "user"}, {}, "input of an unknown shape"),
        ([{"type": "item_reference", "id": "i"}], {}, "item_reference"),
        ([{"type": "reasoning", "id": "rs_1", "summary": []}], {}, "reasoning"),
        ([{"type": "web_search_call"}], {}, "web_search_call"),
        ([{"role": "user", "content": {"type": "x"}}], {}, "unknown shape"),
        ([{"role": "user", "content": [{"type": "input_file", "file_data": "x"}]}], {}, "input_file"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], {}, "input_audio"),
        ([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}], {}, "file id"),
        ([{"type": "function_call_output", "output": [{"type": "input_file"}]}], {}, "input_file"),
    ],
)  # fmt: skip
def test_what_has_no_bound_says_so_by_name(asked: Any, fields: dict[str, Any], word: str) -> None:
    """L0: history, files and tools elsewhere, and whatever we do not know."""
    assert any(word in feature for feature in facts(asked, **fields).ceiling.unbounded)


def test_a_picture_counts_by_its_size_and_not_by_its_bytes() -> None:
    """One of 100 × 100 is a tile; one whose size is not known is the family's most."""
    text = facts([{"role": "user", "content": [{"type": "input_text", "text": ""}]}]).ceiling.input_tokens
    small = item({"type": "input_image", "image_url": PNG + "A" * 100_000}).ceiling
    unknown = item({"type": "input_image", "image_url": "https://example.com/a.png"}).ceiling
    assert 255 < small.input_tokens < text + 500
    assert small.unbounded == unknown.unbounded == ()
    assert unknown.input_tokens >= 6_200


def test_an_answer_to_come_later_and_one_continued_are_told() -> None:
    """Background answers are a matter of choice; an earlier answer's id may have a known context."""
    assert facts(background=True).later == "background"
    read = facts(previous_response_id="resp_1")
    assert (read.continues, read.ceiling.unbounded) == ("resp_1", (HISTORY,))


def test_its_output_limit_is_lowered_in_its_own_field() -> None:
    """Put in, or in place of the one there; not below what the provider takes."""
    for sent in (facts(), facts(max_output_tokens=500)):
        shorter = RESPONSES.limit_output(sent, 100, own_field=False)
        assert shorter is not None
        assert json.loads(shorter.body) == json.loads(sent.body) | {"max_output_tokens": 100}
        assert shorter.ceiling.output_limit == 100
    assert RESPONSES.limit_output(facts(), 15, own_field=True) is None


def test_a_deployment_in_the_path_is_the_model() -> None:
    """Azure: whatever the body says, the path decides."""
    body = json.dumps({"model": "gpt-4o", "input": "hi"}).encode()
    assert RESPONSES.read_request(body, "/openai/deployments/my%20own/responses?api-version=1").model == "my own"
    assert RESPONSES.read_request(body, "/openai/v1/responses").model == "gpt-4o"
    assert RESPONSES.read_request(b'{"input":"hi"}', "/openai/deployments/mine/responses").model == "mine"
    assert RESPONSES.read_request(body, "/OpenAI/Deployments/dear/responses").model == "dear"  # Azure takes either case
    with pytest.raises(BadRequest):
        RESPONSES.read_request(body, "/openai/deployments//responses")


@pytest.mark.parametrize(
    "text",
    [
        '{"model":"a","model":"b","input":"x"}',
        '{"model":"a","input":[{"role":"user","content":"abcd","content":"efgh"}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    """B-P51: which of the two the provider reads, nobody knows."""
    with pytest.raises(BadRequest) as caught:
        RESPONSES.read_request(text.encode())
    assert caught.value.code == "duplicate_field"
