"""The cheap bound of a prompt: what is counted of a body, and of which bodies nothing is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.cheap_bounds import BODY_BYTES_MAX, cheap_bound

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def bound(body: dict[str, Any], model: str = "gpt-4o") -> int | None:
    return cheap_bound(model, json.dumps(body).encode())


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def test_texts_keys_and_messages_count() -> None:
    """⌈bytes / 2.5⌉ of `role`, `user`, `content` and the text, six a message, and the family's eight."""
    assert bound(said("x" * 85)) == 40 + 6 + 8
    assert bound(said("é" * 40 + "x" * 5)) == 40 + 6 + 8


def test_tools_and_schemas_count() -> None:
    """The first tool costs its preamble, each its constant and its JSON; a schema its constant and its text."""
    plain = bound(said("x"))
    assert plain is not None
    written = len(json.dumps([TOOL], separators=(",", ":")))
    assert bound(said("x", tools=[TOOL])) == plain + 100 + 12 - (-written // 3)
    assert bound(said("x", response_format={"type": "t"})) == bound(said("x" * 6)) + 20  # type: ignore[operator]


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [{"parts": [{"text": "x"}]}], "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]},
        {"messages": [{"content": [{"text": "x"}]}], "toolConfig": {"tools": [{"toolSpec": {}}, {"toolSpec": {}}]}},
    ],
    ids=["gemini", "converse"],
)
def test_tools_a_level_deeper_count_each(body: dict[str, Any]) -> None:
    """Two tools cost more than one by a constant at least."""
    without = {name: value for name, value in body.items() if name not in {"tools", "toolConfig"}}
    both, neither = bound(body, "nova"), bound(without, "nova")
    assert both is not None
    assert neither is not None
    assert both >= neither + 900 + 2 * 60


def test_what_is_sealed_counts_less() -> None:
    """Sealed reasoning is base64 of what it was."""
    item = {"type": "reasoning", "encrypted_content": "A" * 4000}
    sealed, empty = bound({"input": [item]}), bound({"input": [item | {"encrypted_content": ""}]})
    assert sealed == (empty or 0) + 1000


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA"}},
        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"document": {"source": {"bytes": "AAAA"}}},
        {"type": "input_file", "file_id": "f"},
    ],
)
def test_of_more_than_texts_nothing_is_told(content: dict[str, Any]) -> None:
    """The bytes of a picture, a sound or a document say nothing of its tokens."""
    assert bound({"messages": [{"role": "user", "content": [content]}]}) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages":[NaN]}', b"\xff", b"[" * 10_000])
def test_what_is_no_object_has_none(body: bytes) -> None:
    """It is only shown, so nothing is raised."""
    assert cheap_bound("gpt-4o", body) is None
    assert bound(said("x" * BODY_BYTES_MAX)) is None
    assert bound({"input": [0] * 200_000}) is None


def test_a_kind_that_is_no_word_is_no_kind() -> None:
    """Found by fuzzing: it raised, so that a check of such a body was a fault of ours."""
    assert (bound({"messages": [{"type": {"a": 1}, "text": "hello"}, {"type": ["image"], "b": 1}]}) or 0) > 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9) | st.just("type"), inner, max_size=4)
    ),
    max_leaves=20,
)
NAMES = st.sampled_from(
    ["messages", "input", "system", "tools", "toolConfig", "response_format", "text", "generationConfig"]
)


@given(body=st.dictionaries(NAMES, JSON, max_size=5), text=st.text(max_size=50))
def test_whatever_a_body_holds(body: dict[str, Any], text: str) -> None:
    """Never an exception, and more text is never less."""
    first, longer = bound(body), bound({**body, "instructions": text})
    assert first is None or first > 0
    assert first is None or longer is None or longer >= first
