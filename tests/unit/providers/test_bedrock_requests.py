"""Requests to Amazon Bedrock: what they may cost at most, what has no bound, and how their output is limited."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sidecar.core.pricing.usage import Tokens, UsageState
from sidecar.providers.cloud_doors import BEDROCK_CONVERSE, BEDROCK_INVOKE
from sidecar.providers.dialect import BadRequest, Dialect, Ending, RequestFacts
from sidecar.providers.registry import dialect_for
from sidecar.providers.token_estimates import family_of

NOVA = "amazon.nova-lite-v1:0"
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
CLAUDES: dict[str, Any] = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 900, **ASKED}
CLAUDES["messages"] = [{"role": "user", "content": "hi"}]
PNG = base64.b64encode(b"\x89PNG" + b"x" * 3000).decode()
HEAD = b"HTTP/1.1 200 OK\r\nX-Amzn-Bedrock-Input-Token-Count: 26\r\nx-amzn-bedrock-output-token-count: 42\r\n"


def facts_of(body: dict[str, Any] | bytes, *, model: str = NOVA, how: str = "converse") -> RequestFacts:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = f"/model/{model}/{how}"
    dialect = dialect_for(path)
    assert dialect is not None
    return dialect.read_request(raw, path)


def content(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(listed)}]}


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("us.anthropic.claude-sonnet-4-20250514-v1%3A0", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
        ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"),
        ("arn%3Aaws%3Abedrock%3Aus-east-1%3A0123%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0",
         "us.amazon.nova-lite-v1:0"),
        ("arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Famazon.nova-lite-v1%3A0", NOVA),
        ("arn%3Aaws%3Abedrock%3Aus-east-1%3A0123%3Aapplication-inference-profile%2Fab12",
         "arn:aws:bedrock:us-east-1:0123:application-inference-profile/ab12"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("how", "dialect", "stream"),
    [("converse", BEDROCK_CONVERSE, False), ("converse-stream", BEDROCK_CONVERSE, True),
     ("invoke", BEDROCK_INVOKE, False), ("invoke-with-response-stream", BEDROCK_INVOKE, True)],
)  # fmt: skip
def test_the_model_and_the_stream_stand_in_the_path(
    written: str, model: str, how: str, dialect: Dialect, stream: bool
) -> None:
    """An ARN that only repeats a name is that name; another is a name of its own, for which there may be a price."""
    assert dialect_for(f"/model/{written}/{how}") is dialect
    facts = facts_of(ASKED, model=written, how=how)
    assert (facts.model, facts.stream) == (model, stream)


@pytest.mark.parametrize("how", ["converse", "converse-stream", "invoke", "invoke-with-response-stream"])
def test_a_query_names_no_model_however_the_path_is_written(how: str) -> None:
    """A spelling that is a door is read in the path alone: a cheap model's name behind it would price a dear one."""
    path = f"/MODEL/dear/{how.upper()}"
    dialect = dialect_for(path)
    assert dialect is not None
    facts = dialect.read_request(json.dumps(ASKED).encode(), f"{path}?x=/model/cheap/{how}")
    assert (facts.model, facts.stream) == ("dear", how.endswith("stream"))


def test_what_is_stored_at_amazon_has_no_bound() -> None:
    """A prompt's ARN in the model's place brings a prompt that nobody here has seen."""
    prompt = "arn%3Aaws%3Abedrock%3Aus-east-1%3A0123%3Aprompt%2FAB12%3A1"
    assert facts_of({}, model=prompt).ceiling.unbounded
    assert facts_of({"prompt": "hi"}, model=prompt, how="invoke").ceiling.unbounded


@pytest.mark.parametrize("model", ["", "%20", "a%2Fb%20c"])
def test_a_path_without_a_model_is_refused(model: str) -> None:
    """No name, or one that cannot be one."""
    with pytest.raises(BadRequest):
        BEDROCK_CONVERSE.read_request(b"{}", f"/model/{model}/converse")


def test_text_is_bounded_by_its_bytes_and_pictures_by_the_family() -> None:
    """A picture's bytes are no text, in a tool's result either; S3 is looked into by nobody."""
    family = family_of(NOVA)
    assert facts_of(ASKED).ceiling.input_tokens == len(json.dumps(ASKED)) + family.base
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    for asked in (content(image), content({"toolResult": {"toolUseId": "1", "content": [image]}})):
        expected = len(json.dumps(asked)) - len(PNG) + family.base + family.image
        assert facts_of(asked).ceiling.input_tokens == expected
        assert not facts_of(asked).ceiling.unbounded
    tools = ASKED | {"toolConfig": {"tools": [{"toolSpec": {"name": "a"}}, {"cachePoint": {"type": "default"}}]}}
    asked_with = facts_of(tools).ceiling
    assert asked_with.input_tokens == len(json.dumps(tools)) + family.base + family.first_tool + family.each_tool
    assert asked_with.cache_write == "5m"
    assert facts_of(content({"cachePoint": {"type": "default", "ttl": "1h"}})).ceiling.cache_write == "1h"


@pytest.mark.parametrize(
    "more",
    [
        {"guardrailConfig": {}}, {"promptVariables": {}}, {"new": 1}, {"messages": 1}, {"messages": [1]},
        {"additionalModelRequestFields": {"max_tokens": 99999}}, {"additionalModelRequestFields": {"tools": []}},
        {"additionalModelRequestFields": {"inferenceConfig": {"maxTokens": 9}}},
        {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        content({"document": {}}), content({"video": {}}), content({"new": {}}),
        content({"toolResult": {"content": [{"document": {}}]}}),
    ],
)  # fmt: skip
def test_what_has_no_bound_says_so(more: dict[str, Any]) -> None:
    """L0: what is not in the request, what runs at Amazon, and what may say anything to the model."""
    assert facts_of(ASKED | more).ceiling.unbounded


@pytest.mark.parametrize(
    "more",
    [
        {"system": [{"text": "x"}]}, {"requestMetadata": {"team": "a"}}, {"performanceConfig": {"latency": "standard"}},
        {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 9}, "top_k": 3}},
        {"additionalModelRequestFields": {"inferenceConfig": {"topK": 20}}}, {"guardrailConfig": None},
        content({"guardContent": {"text": {"text": "x"}}}, {"reasoningContent": {}}, {"toolUse": {"input": {}}}),
    ],
)  # fmt: skip
def test_what_is_known_has_a_bound(more: dict[str, Any]) -> None:
    """Fields that only shape the answer."""
    assert not facts_of(ASKED | more).ceiling.unbounded


def test_tiers_are_asked_for_by_their_names() -> None:
    """A card without a price for one does not bound the call."""
    assert facts_of(ASKED).ceiling.tier is None
    assert facts_of(ASKED | {"serviceTier": {"type": "default"}}).ceiling.tier is None
    assert facts_of(ASKED | {"serviceTier": {"type": "priority"}}).ceiling.tier == "priority"
    assert facts_of(ASKED | {"performanceConfig": {"latency": "optimized"}}).ceiling.tier == "latency-optimized"


def test_claudes_own_requests_are_anthropics() -> None:
    """The model from the path, everything else as for Anthropic's own API; a limit is required there too."""
    facts = facts_of(CLAUDES, model="us.anthropic.claude-3-5-haiku-20241022-v1:0", how="invoke-with-response-stream")
    assert (facts.model, facts.stream) == ("us.anthropic.claude-3-5-haiku-20241022-v1:0", True)
    assert facts.ceiling.output_limit == 900
    document = CLAUDES | {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}
    assert facts_of(document, model="anthropic.claude-v9", how="invoke").ceiling.unbounded
    with pytest.raises(BadRequest):
        facts_of({"anthropic_version": "x", "messages": []}, model="anthropic.claude-v9", how="invoke")


@pytest.mark.parametrize(
    ("model", "body", "limit"),
    [
        ("amazon.titan-text-express-v1", {"inputText": "x", "textGenerationConfig": {"maxTokenCount": 512}}, 512),
        ("meta.llama3-70b-instruct-v1:0", {"prompt": "x", "max_gen_len": 128}, 128),
        ("mistral.mistral-large-2402-v1:0", {"prompt": "x", "max_tokens": 64}, 64),
        ("ai21.j2-mid-v1", {"prompt": "x", "maxTokens": 200}, 200),
        ("anthropic.claude-v2:1", {"prompt": "x", "max_tokens_to_sample": 300}, 300),
        (NOVA, {**ASKED, "schemaVersion": "messages-v1", "inferenceConfig": {"max_new_tokens": 100}}, 100),
        (NOVA, {**ASKED, "inferenceConfig": {"maxTokens": 50, "max_new_tokens": 100}}, 100),
        ("cohere.embed-english-v3", {"texts": ["x"], "input_type": "search_query"}, 0),
        ("amazon.titan-embed-text-v2:0", {"inputText": "x", "dimensions": 512, "normalize": True}, 0),
        ("meta.llama3-70b-instruct-v1:0", {"prompt": "x"}, None),
    ],
)
def test_each_familys_limit_is_found_by_its_name(model: str, body: dict[str, Any], limit: int | None) -> None:
    """The largest of those that stand there; an embedding has no output."""
    ceiling = facts_of(body, model=model, how="invoke").ceiling
    assert ceiling.output_limit == limit
    assert not ceiling.unbounded
    assert facts_of(body | {"new": 1}, model=model, how="invoke").ceiling.unbounded


@pytest.mark.parametrize(
    ("how", "body", "limited"),
    [
        ("converse", b'{"messages":[]}', b'{"inferenceConfig":{"maxTokens":300},"messages":[]}'),
        ("converse", b'{"inferenceConfig":{}}', b'{"inferenceConfig":{"maxTokens":300}}'),
        ("converse", b'{"inferenceConfig": {"maxTokens": 9000}, "x":null}',
         b'{"inferenceConfig": {"maxTokens": 300}, "x":null}'),
        ("invoke", b'{"prompt":"x", "max_gen_len": 900}', b'{"prompt":"x", "max_gen_len": 300}'),
        ("invoke", b'{"inputText":"x","textGenerationConfig":{"maxTokenCount":900}}',
         b'{"inputText":"x","textGenerationConfig":{"maxTokenCount":300}}'),
        ("invoke", b'{"anthropic_version":"x","messages":[],"max_tokens":900}',
         b'{"anthropic_version":"x","messages":[],"max_tokens":300}'),
    ],
)  # fmt: skip
def test_the_limit_is_spliced_in_and_all_else_stays(how: str, body: bytes, limited: bytes) -> None:
    """In place of what stands there, or put in; no other byte is changed."""
    dialect = BEDROCK_CONVERSE if how == "converse" else BEDROCK_INVOKE
    facts = dialect.limit_output(facts_of(body, how=how), 300, own_field=True)
    assert facts is not None
    assert (facts.body, facts.ceiling.output_limit) == (limited, 300)


def test_what_cannot_be_limited_is_left_alone() -> None:
    """A family whose name for it is not in the request; an answer that a budget for thinking would fill."""
    assert BEDROCK_INVOKE.limit_output(facts_of({"prompt": "x"}, how="invoke"), 300, own_field=True) is None
    thinking = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
    facts = facts_of(ASKED | thinking)
    assert facts.may_reason
    assert BEDROCK_CONVERSE.limit_output(facts, 1024, own_field=True) is None
    assert BEDROCK_CONVERSE.limit_output(facts, 1025, own_field=True) is not None


@pytest.mark.parametrize(
    ("answer", "head", "tokens"),
    [
        (b'{"completions":[]}', HEAD, Tokens(input_tokens=26, output_tokens=42)),
        (b'{"usage":{"inputTokens":26}}', HEAD, Tokens(input_tokens=26, output_tokens=42)),
        (b'{"prompt_token_count":1,"generation_token_count":2}', HEAD, Tokens(input_tokens=1, output_tokens=2)),
        (b'{"embeddings":[]}', HEAD.replace(b"output", b"other"), Tokens(input_tokens=26)),
        (b'{"completions":[]}', HEAD.replace(b"26", b"26x"), Tokens()),
    ],
)
def test_an_answers_head_has_its_counts(answer: bytes, head: bytes, tokens: Tokens) -> None:
    """The only ones that some models have; those of the body come first where they are whole."""
    facts = facts_of({"prompt": "x"}, model="ai21.j2-mid-v1", how="invoke")
    meter = BEDROCK_INVOKE.meter(facts, status=200, lines=head, content_encoding="")
    meter.feed(answer)
    usage = meter.usage(Ending.COMPLETE)
    assert usage.total() == tokens
    assert usage.state is (UsageState.FINAL if tokens != Tokens() else UsageState.ABSENT)
    cut = BEDROCK_INVOKE.meter(facts, status=200, lines=head, content_encoding="")
    cut.feed(answer[:-2])
    assert cut.usage(Ending.CUT).state is not UsageState.FINAL
