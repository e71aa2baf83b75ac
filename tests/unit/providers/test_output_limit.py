"""Another output limit in a request: one member differs, whatever else is in the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.dialect import BadRequest
from sidecar.providers.registry import ANTHROPIC_MESSAGES, OPENAI_CHAT

SAYS = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": 'max_tokens: {"max_tokens": 1}'}]}
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["max_tokens", "n", "é"]), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["metadata", "stop", "user", "x", "ü"]), VALUES, max_size=4),
    st.sampled_from([None, "max_tokens", "max_completion_tokens"]),
    st.one_of(st.none(), st.integers(1, 10**6)),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
    st.booleans(),
)
def test_the_provider_reads_the_same_but_for_the_limit(
    more: dict[str, Any], field: str | None, limit: int | None, separators: tuple[str, str], own: bool
) -> None:
    """Nested twins, null, spaces and any text: the parse differs in that one top-level member."""
    asked = {**more, **SAYS} | ({} if field is None else {field: limit})
    body = json.dumps(asked, separators=separators, ensure_ascii=False).encode()
    facts = OPENAI_CHAT.read_request(body)
    shorter = OPENAI_CHAT.limit_output(facts, 300, own_field=own)
    assert shorter is not None
    preferred = "max_completion_tokens" if own else "max_tokens"
    written = field if field is not None and limit is not None else preferred
    assert json.loads(shorter.body) == {**asked, written: 300}
    assert shorter.ceiling.output_limit == 300
    assert OPENAI_CHAT.read_request(shorter.body).ceiling.output_limit == 300


def test_a_stream_is_still_asked_for_its_usage() -> None:
    """Both splices stand in one body."""
    facts = OPENAI_CHAT.read_request(json.dumps({**SAYS, "stream": True}).encode())
    shorter = OPENAI_CHAT.limit_output(facts, 400, own_field=True)
    assert shorter is not None
    assert shorter.hide_usage
    told = json.loads(shorter.body)
    assert (told["stream_options"], told["max_completion_tokens"]) == ({"include_usage": True}, 400)


def test_a_prediction_is_not_shortened() -> None:
    """What of it is rejected is billed beyond the limit."""
    asked = {**SAYS, "prediction": {"type": "content", "content": "abc"}, "max_completion_tokens": 900}
    facts = OPENAI_CHAT.read_request(json.dumps(asked).encode())
    assert OPENAI_CHAT.limit_output(facts, 300, own_field=True) is None


@pytest.mark.parametrize(("tokens", "fits"), [(1024, False), (1025, True), (300, False)])
def test_an_answer_is_not_shortened_below_its_thinking(tokens: int, fits: bool) -> None:
    """Anthropic refuses an output limit that does not exceed the thinking budget."""
    asked = {**SAYS, "model": "claude-haiku-4-5", "max_tokens": 9000}
    asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    facts = ANTHROPIC_MESSAGES.read_request(json.dumps(asked).encode())
    shorter = ANTHROPIC_MESSAGES.limit_output(facts, tokens, own_field=True)
    assert (shorter is not None) == fits
    if shorter is not None:
        assert json.loads(shorter.body) == {**asked, "max_tokens": tokens}


@given(
    st.dictionaries(st.sampled_from(["metadata", "stop_sequences", "system", "x", "ü"]), VALUES, max_size=4),
    st.integers(1, 10**6),
    st.sampled_from([None, "disabled", 0, 299, 300, 301, 5000]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
    st.booleans(),
)
def test_anthropic_reads_the_same_but_for_the_limit(
    more: dict[str, Any], limit: int, thinking: str | int | None, separators: tuple[str, str], last: bool
) -> None:
    """Wherever `max_tokens` stands and whatever is beside it; None where thinking would not fit, and nothing else."""
    asked: dict[str, Any] = {**more, **SAYS, "model": "claude-haiku-4-5"}
    asked = {**asked, "max_tokens": limit} if last else {"max_tokens": limit, **asked}
    if thinking == "disabled":
        asked["thinking"] = {"type": "disabled"}
    elif thinking is not None:
        asked["thinking"] = {"type": "enabled", "budget_tokens": thinking}
    body = json.dumps(asked, separators=separators, ensure_ascii=False).encode()
    facts = ANTHROPIC_MESSAGES.read_request(body)
    shorter = ANTHROPIC_MESSAGES.limit_output(facts, 300, own_field=False)
    if isinstance(thinking, int) and thinking >= 300:
        assert shorter is None
        return
    assert shorter is not None
    written = str(limit).encode()
    assert json.loads(shorter.body) == {**asked, "max_tokens": 300}
    assert len(shorter.body) == len(body) - len(written) + 3
    assert (facts.ceiling.output_limit, shorter.ceiling.output_limit) == (limit, 300)
    again = ANTHROPIC_MESSAGES.read_request(shorter.body).ceiling
    # Read anew, the prompt's bound differs by the bytes of the number alone; the hold is by the longer.
    assert again.output_limit == 300
    assert facts.ceiling.input_tokens - again.input_tokens == len(written) - 3


@pytest.mark.parametrize("model", ["gpt-5", "openai/gpt-5-mini", "o3", "o4-mini", "gateway/o1"])
def test_a_model_that_knows_its_own_field_only_is_told_in_it(model: str) -> None:
    """OpenAI refuses `max_tokens` for these, also through a gateway."""
    facts = OPENAI_CHAT.read_request(json.dumps({**SAYS, "model": model}).encode())
    shorter = OPENAI_CHAT.limit_output(facts, 300, own_field=False)
    assert shorter is not None
    assert json.loads(shorter.body)["max_completion_tokens"] == 300


def test_a_key_given_twice_is_refused_before_anything_is_spliced() -> None:
    """Which of the two the provider would read is not known."""
    with pytest.raises(BadRequest):
        OPENAI_CHAT.read_request(b'{"model":"m","messages":[],"max_tokens":1,"max_tokens":2}')
