"""Requests to Gemini: what they may cost at most, what has no bound, and how their output is limited."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sidecar.providers.cloud_doors import GEMINI_GENERATE
from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.registry import dialect_for
from sidecar.providers.token_estimates import family_of

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
ASKED: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
PNG = base64.b64encode(b"\x89PNG" + b"x" * 3000).decode()


def facts_of(body: dict[str, Any] | bytes, path: str = PATH) -> RequestFacts:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return GEMINI_GENERATE.read_request(raw, path)


def parts(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(listed)}]}


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        (PATH, "gemini-2.5-flash", False),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini-2.5-flash", True),
        ("/v1/tunedModels/mine-1:generateContent", "mine-1", False),
        ("/v1/models/gemini-1.5-pro%40001%3AstreamGenerateContent", "gemini-1.5-pro@001", True),
        ("/v1/projects/p/locations/eu/publishers/google/models/gemini-3-pro:generateContent", "gemini-3-pro", False),
    ],
)
def test_the_model_and_the_stream_stand_in_the_path(path: str, model: str, stream: bool) -> None:
    """On Google's own API and on Vertex; an escaped colon or at-sign is the same model."""
    assert dialect_for(path.partition("?")[0]) is GEMINI_GENERATE
    facts = facts_of(ASKED, path)
    assert (facts.model, facts.stream, facts.body) == (model, stream, json.dumps(ASKED).encode())


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1beta/models/a%20b:generateContent", "model"),
        ("/v1beta/models/:generateContent", "model"),
        (f"{PATH}?alt=proto", "alt"),
        (f"{PATH}?$alt=media", "alt"),
        (f"{PATH}?fields=candidates", "fields"),
        (f"{PATH}?alt=sse&%24fields=x", "fields"),
    ],
)
def test_a_path_whose_answer_could_not_be_read_is_refused(path: str, param: str) -> None:
    """No model, another form than JSON or events, or only some fields of it: the usage could be missing."""
    with pytest.raises(BadRequest) as bad:
        facts_of(ASKED, path)
    assert bad.value.param == param


def test_both_spellings_are_read_and_both_at_once_are_refused() -> None:
    """Google takes `max_output_tokens` for `maxOutputTokens`, at every depth; nobody can tell which of two counts."""
    for config in ({"maxOutputTokens": 9}, {"max_output_tokens": 9}):
        for name in ("generationConfig", "generation_config"):
            assert facts_of(ASKED | {name: config}).ceiling.output_limit == 9
    twice: dict[str, Any]
    for twice in (
        {"generationConfig": {"maxOutputTokens": 9, "max_output_tokens": 99}},
        {"generationConfig": {}, "generation_config": {"maxOutputTokens": 9}},
        parts({"inlineData": {}, "inline_data": {}}),
        {"tools": [{"functionDeclarations": [], "function_declarations": []}]},
    ):
        with pytest.raises(BadRequest) as bad:
            facts_of(ASKED | twice)
        assert bad.value.code == "duplicate_field"
    with pytest.raises(BadRequest):
        facts_of(b'{"contents":[],"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":99}}')


def test_a_body_that_names_another_model_is_refused() -> None:
    """What is priced is the path's model; the same name again does no harm."""
    facts_of(ASKED | {"model": "models/gemini-2.5-flash"})
    with pytest.raises(BadRequest):
        facts_of(ASKED | {"model": "models/gemini-2.5-pro"})


def test_text_is_bounded_by_its_bytes_and_pictures_by_the_family() -> None:
    """A picture's bytes are no text; a sound's are its bound."""
    family = family_of("gemini-2.5-flash")
    assert facts_of(ASKED).ceiling.input_tokens == len(json.dumps(ASKED)) + family.base
    picture = parts({"inlineData": {"mimeType": "image/png", "data": PNG}})
    expected = len(json.dumps(picture)) - len(PNG) + family.base + family.image
    assert facts_of(picture).ceiling.input_tokens == expected
    answered = parts(
        {"functionResponse": {"name": "f", "parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]}}
    )
    assert (
        facts_of(answered).ceiling.input_tokens < len(json.dumps(answered)) - len(PNG) + family.base + family.image + 1
    )
    sound = parts({"inlineData": {"mimeType": "audio/wav", "data": PNG}})
    assert facts_of(sound).ceiling.input_tokens == len(json.dumps(sound)) + family.base
    assert not facts_of(sound).ceiling.unbounded


def test_tools_and_schemas_add_what_the_family_adds() -> None:
    """Each function declared; a structured answer's schema."""
    family = family_of("gemini-2.5-flash")
    tools = ASKED | {
        "tools": [{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}, {"functionDeclarations": [{}]}]
    }
    with_tools = len(json.dumps(tools)) + family.base + family.first_tool + 3 * family.each_tool
    assert facts_of(tools).ceiling.input_tokens == with_tools
    schema = ASKED | {"generationConfig": {"responseJsonSchema": {}}}
    assert facts_of(schema).ceiling.input_tokens == len(json.dumps(schema)) + family.base + family.structured


@pytest.mark.parametrize(
    "more",
    [
        {"cachedContent": "cachedContents/x"}, {"cached_content": "x"}, {"modelArmorConfig": {}}, {"new": 1},
        {"tools": [{"googleSearch": {}}]}, {"tools": [{"code_execution": {}}]}, {"tools": {"urlContext": {}}},
        {"tools": ["no tool"]}, {"generationConfig": {"routingConfig": {}}}, {"contents": [1]},
        parts({"fileData": {"fileUri": "gs://x"}}), parts({"file_data": {}}), parts({"newKind": 1}),
        parts({"inlineData": {"mimeType": "video/mp4", "data": "AA"}}),
        parts({"inlineData": {"mimeType": "application/pdf", "data": "AA"}}),
        parts({"inlineData": {"data": "AA"}}),
        parts({"functionResponse": {"parts": [{"fileData": {}}]}}),
        {"systemInstruction": {"parts": {"fileData": {}}}},
    ],
)  # fmt: skip
def test_what_has_no_bound_says_so(more: dict[str, Any]) -> None:
    """L0: files, videos, documents, what runs at Google and what is not known are named, not guessed."""
    assert facts_of(ASKED | more).ceiling.unbounded


@pytest.mark.parametrize(
    "more",
    [
        {"contents": {"role": "user", "parts": {"text": "hi"}}}, {"systemInstruction": {"parts": [{"text": "x"}]}},
        parts({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "x"}),
        {"labels": {"team": "a"}, "safetySettings": [], "toolConfig": {}, "serviceTier": "flex"},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "seed": 1, "responseModalities": ["TEXT"]}},
        {"generationConfig": None, "tools": None, "cachedContent": None},
        parts({"inlineData": {"mimeType": "text/csv; charset=utf-8", "data": "AA"}}),
    ],
)  # fmt: skip
def test_what_is_known_has_a_bound(more: dict[str, Any]) -> None:
    """A list with one item may stand without its brackets; what asks for nothing adds nothing."""
    assert not facts_of(ASKED | more).ceiling.unbounded


def test_what_is_asked_for_is_priced() -> None:
    """Candidates, the tier, sound; a picture does not end at the limit for text."""
    config = {"candidateCount": 3, "maxOutputTokens": 50, "responseModalities": ["AUDIO"]}
    asked = facts_of(ASKED | {"generationConfig": config, "serviceTier": "SERVICE_TIER_PRIORITY"}).ceiling
    assert (asked.choices, asked.output_limit, asked.audio, asked.tier) == (3, 50, True, "priority")
    drawn = facts_of(ASKED | {"generationConfig": {"maxOutputTokens": 9, "responseModalities": ["TEXT", "IMAGE"]}})
    assert drawn.ceiling.output_limit is None
    assert GEMINI_GENERATE.limit_output(drawn, 100, own_field=True) is None


@pytest.mark.parametrize(
    ("path", "config", "may"),
    [
        (PATH, {}, True),
        (PATH, {"thinkingConfig": {"thinkingBudget": 0}}, False),
        (PATH, {"thinking_config": {"thinking_budget": 512}}, True),
        ("/v1beta/models/gemma-3-27b-it:generateContent", {}, False),
    ],
)
def test_thoughts_may_be_billed_that_nobody_sees(path: str, config: dict[str, Any], may: bool) -> None:
    """Unless they are switched off, or the model has none."""
    assert facts_of(ASKED | {"generationConfig": config}, path).may_reason is may


@pytest.mark.parametrize(
    ("body", "limited"),
    [
        (b'{"contents":[]}', b'{"generationConfig":{"maxOutputTokens":300},"contents":[]}'),
        (b" {} ", b' {"generationConfig":{"maxOutputTokens":300}} '),
        (b'{"generationConfig": null, "contents":[]}',
         b'{"generationConfig": {"maxOutputTokens":300}, "contents":[]}'),
        (b'{"a":1,"generationConfig":{"topK":2}}', b'{"a":1,"generationConfig":{"maxOutputTokens":300,"topK":2}}'),
        (b'{"generation_config": {"max_output_tokens" : 9000 , "x":[]},"y":1}',
         b'{"generation_config": {"max_output_tokens" : 300 , "x":[]},"y":1}'),
        (b'{"generationConfig":{"maxOutputTokens":null}}', b'{"generationConfig":{"maxOutputTokens":300}}'),
    ],
)  # fmt: skip
def test_the_limit_is_spliced_in_and_all_else_stays(body: bytes, limited: bytes) -> None:
    """In place of what stands there, by the name it has there, or put in; no other byte is changed."""
    facts = GEMINI_GENERATE.limit_output(facts_of(body), 300, own_field=True)
    assert facts is not None
    assert facts.body == limited
    assert facts.ceiling.output_limit == 300
    assert facts_of(facts.body).ceiling.output_limit == 300


def test_no_limit_below_a_budget_for_thinking() -> None:
    """Thoughts count within the limit: what is left of it would be no answer."""
    facts = facts_of(ASKED | {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1000}}})
    assert GEMINI_GENERATE.limit_output(facts, 1000, own_field=True) is None
    assert GEMINI_GENERATE.limit_output(facts, 1001, own_field=True) is not None


@pytest.mark.parametrize("value", ["5", 5.5, -1, 0, True, "x"])
def test_a_limit_that_is_no_whole_number_is_refused(value: object) -> None:
    """What two readers could read differently is not priced."""
    with pytest.raises(BadRequest):
        facts_of(ASKED | {"generationConfig": {"maxOutputTokens": value}})
