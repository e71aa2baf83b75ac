"""Requests for completions, embeddings and moderations: what is refused, and what they can cost at most."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.openai_completions import PROMPTS_MAX, OpenAICompletions
from sidecar.providers.openai_embeddings import OpenAIEmbeddings, OpenAIModerations
from sidecar.providers.token_estimates import EMBEDDED_TEXT_OTHER, EMBEDDED_TEXT_OWN, EMBEDDING_BASE, family_of

COMPLETIONS, EMBEDDINGS, MODERATIONS = OpenAICompletions(), OpenAIEmbeddings(), OpenAIModerations()


def completion(prompt: Any = "once", **fields: Any) -> RequestFacts:
    return COMPLETIONS.read_request(json.dumps({"model": "davinci-002", "prompt": prompt} | fields).encode())


def embedding(asked: Any = "a", **fields: Any) -> RequestFacts:
    return EMBEDDINGS.read_request(json.dumps({"model": "text-embedding-3-small", "input": asked} | fields).encode())


@pytest.mark.parametrize(
    ("prompt", "fields", "choices"),
    [
        ("once", {}, 1), ("once", {"n": 3}, 3), ("once", {"n": 2, "best_of": 5}, 5), (["a", "b"], {}, 2),
        (["a", "b"], {"n": 4}, 8), ([1, 2, 3], {}, 1), ([[1, 2], [3]], {"n": 2}, 4), ([], {}, 1), (None, {}, 1),
        ({"odd": 1}, {}, 1),
    ],
)  # fmt: skip
def test_every_prompt_is_answered_as_often_as_is_asked(prompt: Any, fields: dict[str, Any], choices: int) -> None:
    """L0: `best_of` is generated whole; a list of tokens is one prompt."""
    ceiling = completion(prompt, max_tokens=10, **fields).ceiling
    assert (ceiling.choices, ceiling.output_limit, ceiling.unbounded) == (choices, 10, ())


def test_an_echo_may_be_billed_as_made() -> None:
    """The prompt's bound is added to the limit, and the limit is not lowered."""
    plain, echoed = completion(max_tokens=10), completion(max_tokens=10, echo=True)
    assert echoed.ceiling.output_limit == 10 + echoed.ceiling.input_tokens
    assert COMPLETIONS.limit_output(echoed, 5, own_field=True) is None
    shorter = COMPLETIONS.limit_output(plain, 5, own_field=True)
    assert shorter is not None
    assert json.loads(shorter.body)["max_tokens"] == shorter.ceiling.output_limit == 5


def test_a_streamed_completion_asks_for_its_usage() -> None:
    """As in chat: by a splice, and the chunk is hidden again."""
    read = completion(stream=True)
    assert read.hide_usage
    assert json.loads(read.body)["stream_options"] == {"include_usage": True}
    assert not completion(stream=True, stream_options={"include_usage": True}).hide_usage
    assert not completion().hide_usage


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"), ({"max_tokens": -1}, "max_tokens"), ({"n": 0}, "n"), ({"best_of": 1.5}, "best_of"),
        ({"stream": 1}, "stream"), ({"prompt": ["a"] * (PROMPTS_MAX + 1)}, "prompt"), ({"echo": 1}, "echo"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_names_its_field(fields: dict[str, Any], param: str) -> None:
    """B-P49."""
    with pytest.raises(BadRequest) as caught:
        completion(**{"max_tokens": 5, **fields})
    assert caught.value.param == param


def test_a_field_that_is_not_known_has_no_bound() -> None:
    """Messages are chat's, and a new field may be a new tool."""
    assert completion(messages=[]).ceiling.unbounded
    assert completion(brand_new=1).ceiling.unbounded
    assert not completion(brand_new=None).ceiling.unbounded


@pytest.mark.parametrize("asked", ["text " * 50, ["a", "b"], [1, 2, 3], [[1, 2], [3]], [], {"odd": 1}])
def test_an_input_is_bounded_by_its_bytes_and_has_no_output(asked: Any) -> None:
    """L0: a token's number has at least a byte too."""
    read = embedding(asked, dimensions=256, encoding_format="base64")
    assert read.ceiling.unbounded == ()
    assert read.ceiling.input_tokens > len(json.dumps(asked))
    assert (read.ceiling.output_limit, read.stream, read.may_reason) == (0, False, False)
    assert EMBEDDINGS.limit_output(read, 5, own_field=True) is None


def test_what_a_model_of_embeddings_adds_is_little() -> None:
    """No conversation is around a text. Of a model that may put a sentence before each, more; numbers are one text."""
    for asked, texts in (("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)):
        for model, each in (("text-embedding-3-small", EMBEDDED_TEXT_OWN), ("voyage-3", EMBEDDED_TEXT_OTHER)):
            body = json.dumps({"model": model, "input": asked}).encode()
            assert EMBEDDINGS.read_request(body).ceiling.input_tokens == len(body) + EMBEDDING_BASE + each * texts
    judged = json.dumps({"model": "mistral-moderation-latest", "input": "a"}).encode()
    assert MODERATIONS.read_request(judged).ceiling.input_tokens == len(judged) + family_of("mistral").base + 8


def test_a_picture_in_an_input_counts_by_its_table() -> None:
    """And what is neither text nor picture has no bound."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}
    read = embedding([{"type": "text", "text": "a"}, picture])
    assert read.ceiling.unbounded == ()
    assert read.ceiling.input_tokens < 40_000
    assert embedding([{"type": "audio"}]).ceiling.unbounded
    assert embedding("a", brand_new={}).ceiling.unbounded


def test_a_moderation_may_name_no_model() -> None:
    """Then it is OpenAI's, which is free."""
    assert MODERATIONS.read_request(b'{"input":"hi"}').model == "omni-moderation-latest"
    assert MODERATIONS.read_request(b'{"input":"hi","model":"m"}').model == "m"
    assert OpenAIEmbeddings().read_request(b'{"input":"x"}', "/openai/deployments/e/embeddings").model == "e"
    with pytest.raises(BadRequest):
        EMBEDDINGS.read_request(b'{"input":"x"}')
