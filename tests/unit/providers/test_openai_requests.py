"""A chat completion's request: what is refused, what it can cost at most, and how its usage is asked for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.providers.openai_responses import OpenAIResponses

CHAT = OpenAIChat()
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def facts(messages: Any = MESSAGES, **fields: Any) -> RequestFacts:
    return CHAT.read_request(json.dumps({"model": "gpt-4o", "messages": messages} | fields).encode())


def parts(*content: dict[str, Any], **fields: Any) -> RequestFacts:
    return facts([{"role": "user", "content": list(content)}], **fields)


def refusal(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        facts(**fields)
    return caught.value


def test_a_plain_request() -> None:
    """The bound of the input is its bytes and a little; the output's is the limit times the choices."""
    read = facts(max_completion_tokens=50, n=3, service_tier="flex")
    ceiling = read.ceiling
    assert (ceiling.model, ceiling.output_limit, ceiling.choices, ceiling.tier) == ("gpt-4o", 50, 3, "flex")
    assert len(read.body) < ceiling.input_tokens < len(read.body) + 500
    assert ceiling.unbounded == ()
    assert ceiling.cache_write == "5m"
    assert not ceiling.audio
    assert not read.stream
    assert not read.hide_usage


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"), ({"model": ""}, "model"), ({"model": ["gpt-4o"]}, "model"),
        ({"model": "m" * 257}, "model"), ({"stream": "true"}, "stream"), ({"stream": 1}, "stream"),
        ({"max_tokens": True}, "max_tokens"), ({"max_tokens": 1.0}, "max_tokens"), ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"), ({"max_completion_tokens": 2**63}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"), ({"n": 0}, "n"), ({"n": 129}, "n"),
        ({"n": 1.5}, "n"), ({"service_tier": 5}, "service_tier"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_names_its_field(fields: dict[str, Any], param: str) -> None:
    """B-P49, B-P50, B-P52."""
    assert refusal(**fields).param == param


def test_null_is_absent() -> None:
    """SDKs send null for what was not set."""
    read = facts(max_tokens=None, max_completion_tokens=7, n=None, stream=None, service_tier=None, tools=None)
    assert (read.ceiling.output_limit, read.ceiling.choices, read.ceiling.tier) == (7, 1, None)
    assert facts(max_tokens=None).ceiling.output_limit is None


def test_a_picture_counts_by_its_table_and_not_by_its_bytes() -> None:
    """L0: a megabyte of base64 is an image of at most some thousand tokens; a URL too."""
    data = "data:image/png;base64," + base64.b64encode(b"x" * 10**6).decode()
    inline = parts({"type": "image_url", "image_url": {"url": data}}).ceiling
    by_url = parts({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}).ceiling
    assert 6_200 <= inline.input_tokens < 8_000
    assert by_url.input_tokens >= 6_200
    assert inline.unbounded == by_url.unbounded == ()
    mini = parts({"type": "image_url", "image_url": {"url": data}}, model="gpt-4o-mini").ceiling
    assert mini.input_tokens >= 48_169  # 2,833 + 5,667 × 8
    original = parts({"type": "image_url", "image_url": {"url": data, "detail": "original"}}).ceiling
    assert original.input_tokens >= 24_600
    two = parts(*[{"type": "image_url", "image_url": data}] * 2).ceiling
    assert two.input_tokens >= 2 * 6_200


def test_text_dressed_as_a_picture_counts_by_its_bytes() -> None:
    """L0: only what says that it is an image is taken out of the bytes."""
    text = "data:text/plain;base64," + "A" * 10**5
    assert parts({"type": "image_url", "image_url": {"url": text}}).ceiling.input_tokens > 10**5


def test_sound() -> None:
    """Audio in is bounded by its bytes and priced as audio; so is audio out."""
    heard = parts({"type": "input_audio", "input_audio": {"data": "A" * 9000, "format": "wav"}}).ceiling
    assert heard.audio
    assert heard.input_tokens > 9000
    assert facts(modalities=["text", "audio"]).ceiling.audio
    assert facts(audio={"voice": "ash"}).ceiling.audio
    assert not facts(modalities=["text"], audio=None).ceiling.audio


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "file"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "video_url"),
        ({"messages": [{"role": "user", "content": [{"text": "no type"}]}]}, "none"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "shape"), ({"messages": {"a": 1}}, "shape"),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "spoken"),
        ({"tools": [{"type": "openrouter:web_search"}]}, "openrouter:web_search"), ({"tools": [5]}, "tools"),
        ({"plugins": [{"id": "web"}]}, "plugins"), ({"prompt": {"id": "p"}}, "prompt"),
        ({"models": ["a", "b"]}, "models"),
        ({"model": "groq/compound"}, "groq/compound"), ({"model": "gpt-4o-search-preview"}, "search"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"), ({"search_parameters": {}}, "search_parameters"),
        ({"novel": []}, "novel"), ({"novel": 0}, "novel"), ({"novel": ""}, "novel"), ({"tools": [{"type": 5}]}, "tool"),
    ],
)  # fmt: skip
def test_what_has_no_bound_says_so_by_name(fields: dict[str, Any], word: str) -> None:
    """L0: context that is not in the request, and what we do not know."""
    features = facts(**fields).ceiling.unbounded
    assert len(features) == 1
    assert word in features[0]


def test_fields_that_ask_for_nothing_are_not_held_against_the_caller() -> None:
    """Unknown fields that are null or false, a list of no plugins, and all sampling knobs."""
    read = facts(
        plugins=[], web_search_options=None, foo=False, temperature=0.5, top_k=3, seed=1, user="u", metadata={}
    )
    assert read.ceiling.unbounded == ()


def test_a_prediction_is_billed_as_output() -> None:
    """Rejected tokens of a prediction come on top of the limit; each has a byte at least."""
    prediction = {"type": "content", "content": "x" * 1000}
    limit = facts(prediction=prediction, max_completion_tokens=10).ceiling.output_limit
    assert limit is not None
    assert 1010 <= limit <= 1100


def test_tools_add_their_preamble() -> None:
    """What a provider adds for tools and for a schema is in the bound."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    plain, tools = facts(), facts(tools=[tool] * 3)
    added = tools.ceiling.input_tokens - plain.ceiling.input_tokens - (len(tools.body) - len(plain.body))
    assert added >= 100 + 3 * 12
    assert facts(functions=[{"name": "f"}]).ceiling.input_tokens > plain.ceiling.input_tokens + 100


def test_a_fast_answer_is_billed_as_priority() -> None:
    """`fast` is answered `priority`."""
    assert facts(service_tier="fast").ceiling.tier == "priority"


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (b'{"model":"m","stream":true}', b'{"stream_options":{"include_usage":true},"model":"m","stream":true}'),
        (b' {"model":"m","stream":true,"stream_options":null}\n',
         b' {"model":"m","stream":true,"stream_options":{"include_usage":true}}\n'),
        (b'{"model":"m","stream_options": {} ,"stream":true}',
         b'{"model":"m","stream_options": {"include_usage":true} ,"stream":true}'),
        (b'{"stream_options":{ "a":1},"model":"m","stream":true}',
         b'{"stream_options":{"include_usage":true, "a":1},"model":"m","stream":true}'),
        (b'{"stream_options":{"include_usage" : false,"a":1},"model":"m","stream":true}',
         b'{"stream_options":{"include_usage" : true,"a":1},"model":"m","stream":true}'),
        (b'{"stream\\u005foptions":{"include\\u005fusage":null},"model":"m","stream":true}',
         b'{"stream\\u005foptions":{"include\\u005fusage":true},"model":"m","stream":true}'),
        (b'{"messages":[{"content":"","stream_options":{"include_usage":true}}],"model":"m","stream":true}',
         b'{"stream_options":{"include_usage":true},'
         b'"messages":[{"content":"","stream_options":{"include_usage":true}}],"model":"m","stream":true}'),
    ],
)  # fmt: skip
def test_usage_is_asked_for_by_a_splice(sent: bytes, asked: bytes) -> None:
    """F-27: everything else stays byte for byte."""
    read = CHAT.read_request(sent)
    assert read.body == asked
    assert read.hide_usage


def test_who_asks_gets_the_chunk() -> None:
    """A caller who asks for usage sees it, and the body is not touched; a whole answer needs no asking."""
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    assert CHAT.read_request(body).body is body
    assert not CHAT.read_request(body).hide_usage
    assert not facts(stream=False).hide_usage


def test_stream_options_that_say_a_thing_twice() -> None:
    """Which of them the provider would take cannot be known."""
    with pytest.raises(BadRequest) as caught:
        CHAT.read_request(b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}')
    assert caught.value.param == "stream_options"


@pytest.mark.parametrize(
    ("model", "more", "unseen"),
    [("gpt-4o", {}, False), ("gpt-5-mini", {}, True), ("o3", {}, True), ("my-deployment", {}, True),
     ("openai/gpt-oss-120b", {}, False), ("gpt-4.1", {"reasoning_effort": "low"}, True)],
)  # fmt: skip
def test_models_that_may_reason_unseen(model: str, more: dict[str, Any], unseen: bool) -> None:
    """What a broken stream showed is not all of such a model's bill; an unknown name may be one."""
    assert facts(model=model, **more).may_reason is unseen


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ('"messages":[{"role":"user","content":[{"type":"file","type":"text","text":"hi"}]}]', "content"),
        ('"messages":[{"role":"user","content":[{"type":"file"}],"content":"hi"}]', "messages"),
        ('"messages":[{"audio":{"id":"a"},"audio":null,"content":"hi"}]', "messages"),
        ('"messages":[{"content":[{"type":"image_url","image_url":{"url":"u","url":"x"}}]}]', "image_url"),
        ('"messages":[],"tools":[{"type":"web_search","type":"function"}]', "tools"),
    ],
)
@pytest.mark.parametrize("spaced", [False, True])
def test_a_key_that_stands_twice_within_is_refused(text: str, param: str, spaced: bool) -> None:
    """L0: which of the two the provider takes decides what the call costs; we cannot know it."""
    written = text.replace(":", " : ").replace(",", " , ") if spaced else text
    with pytest.raises(BadRequest) as caught:
        CHAT.read_request(f'{{"model":"gpt-4o",{written}}}'.encode())
    assert (caught.value.code, caught.value.param) == ("duplicate_field", param)


@pytest.mark.parametrize(
    ("provider", "bounded"),
    [
        ({}, True), (None, True), ({"zdr": True, "max_price": {"prompt": 1}}, True), ({"allow_fallbacks": False}, True),
        ({"only": ["azure"]}, False), ({"order": ["azure"]}, False), ({"sort": "throughput"}, False), ("azure", False),
    ],
)  # fmt: skip
def test_another_host_of_a_model_has_another_price(provider: object, bounded: bool) -> None:
    """L0: OpenRouter's `provider` may choose a dearer one than the card is of."""
    body = {"model": "gpt-4o", "input": "a", "max_output_tokens": 16, "provider": provider}
    responses = OpenAIResponses().read_request(json.dumps(body).encode())
    assert (responses.ceiling.unbounded == ()) == bounded
    assert (facts(max_tokens=5, provider=provider).ceiling.unbounded == ()) == bounded


def test_a_deferred_completion_is_an_answer_that_comes_later() -> None:
    """xAI answers it with an id and no usage: it is taken by the choice of `background` alone."""
    assert facts(deferred=True).later == "background"
    assert not facts(deferred=False).later


def test_a_limit_in_a_field_that_is_passed_over_bounds_nothing() -> None:
    """L0: a server that knows `max_tokens` alone answers `max_completion_tokens` at full length."""
    for field, own in (("max_completion_tokens", True), ("max_tokens", False)):
        read = facts(**{field: 5})
        assert (read.own_limit, read.ceiling.output_limit) == (own, 5)
        assert read.without_own_limit().ceiling.output_limit is None
