"""A request of Ollama's own API: what is refused, what it can cost at most, and how it is shortened."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.providers.dialect import BadRequest, RequestFacts
from sidecar.providers.ollama import Ollama, OllamaEmbeddings

OLLAMA = Ollama()


def facts(**fields: Any) -> RequestFacts:
    ask = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    return OLLAMA.read_request(json.dumps(ask | fields).encode())


@pytest.mark.parametrize(("fields", "stream"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_it_streams_unless_it_is_told_not_to(fields: dict[str, Any], stream: bool) -> None:
    """The default is the other way about than everywhere else."""
    assert facts(**fields).stream is stream


@pytest.mark.parametrize(
    ("options", "limit"),
    [(None, None), ({}, None), ({"num_predict": 50}, 50), ({"num_predict": -1}, None), ({"num_predict": -2}, None),
     ({"num_predict": None, "temperature": 1}, None), ({"num_predict": 0}, None)],
)  # fmt: skip
def test_its_limit_is_an_option(options: Any, limit: int | None) -> None:
    """Below zero it is endless: then it is the model's."""
    assert facts(options=options).ceiling.output_limit == limit


@pytest.mark.parametrize("options", [None, {}, {"num_predict": 500}, {"temperature": 1}, "missing"])
def test_its_limit_is_lowered_where_it_stands(options: Any) -> None:
    """Put in, or in place of the one there; all else stays."""
    asked = facts() if options == "missing" else facts(options=options)
    shorter = OLLAMA.limit_output(asked, 100, own_field=False)
    assert shorter is not None
    before, after = json.loads(asked.body), json.loads(shorter.body)
    assert after.pop("options") == (before.pop("options", None) or {}) | {"num_predict": 100}
    assert after == before
    assert OLLAMA.read_request(shorter.body).ceiling.output_limit == shorter.ceiling.output_limit == 100


def test_pictures_count_by_the_dearest_table() -> None:
    """Their bytes are base64; what model it is, nobody knows."""
    messages = [{"role": "user", "content": "what?", "images": ["A" * 200_000]}]
    assert 24_600 < facts(messages=messages).ceiling.input_tokens < 60_000
    assert facts(images=["A" * 200_000]).ceiling.input_tokens < 60_000
    assert facts(images=5).ceiling.unbounded


@pytest.mark.parametrize("fields", [{"context": [1, 2]}, {"brand_new": 1}, {"messages": 5}, {"tools": {"a": 1}}])
def test_what_has_no_bound_says_so(fields: dict[str, Any]) -> None:
    """A conversation carried on by its context, and whatever we do not know."""
    assert facts(**fields).ceiling.unbounded


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"model": ""}, "model"), ({"stream": 1}, "stream"), ({"options": {"num_predict": 1.5}}, "options"),
     ({"options": {"num_predict": "5"}}, "options")],
)  # fmt: skip
def test_what_cannot_be_taken_names_its_field(fields: dict[str, Any], param: str) -> None:
    """B-P49."""
    with pytest.raises(BadRequest) as caught:
        facts(**fields)
    assert caught.value.param == param


def test_embeddings_have_no_output() -> None:
    """And no stream."""
    read = OllamaEmbeddings().read_request(b'{"model":"all-minilm","input":["a","b"]}')
    assert (read.stream, read.ceiling.output_limit, read.ceiling.unbounded) == (False, 0, ())
    assert OllamaEmbeddings().limit_output(read, 1, own_field=True) is None
