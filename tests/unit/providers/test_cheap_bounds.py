"""The cheap bound of a prompt: what is counted of a body, and of which bodies nothing is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.cheap_bounds import BODY_BYTES_MAX, TAKEN_APART_MAX, cheap_bound

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def bound(body: dict[str, Any], model: str = "gpt-4o") -> int | None:
    return cheap_bound(model, json.dumps(body).encode())


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def tokens(pieces: int, messages: int = 1, base: int = 8) -> int:
    """So many pieces of text and three tenths more, four tokens a message, and the family's own."""
    return -(-130 * pieces // 100) + 4 * messages + base


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", 0),
        ("sheep", 1),
        ("unimaginable", 2),
        ("x" * 85, 15),
        ("theSheepAreHERE", 4),
        ("one two  three\nfour\n\n  five", 5 + 3),
        ("2026", 2),
        ("12345", 3),
        ('{"a":[1]}', 1 + 1 + 2 + 1 + 1),
        ("é" * 40, 40),
        ("羊", 2),
    ],
)
def test_a_text_is_taken_apart_as_tokenizers_do(text: str, pieces: int) -> None:
    """Words, numbers, signs, spaces that are not one, other scripts; not a message's own frame."""
    assert bound(said(text)) == tokens(pieces)


def test_keys_numbers_and_messages_count() -> None:
    """An argument's name is text too; `role`, `content`, `type` and `text` are frame."""
    arguments = {"role": "user", "content": [{"type": "text", "text": "sheep", "colour": 12, "small": True}]}
    assert bound({"messages": [arguments, arguments]}) == tokens(2 * 5, messages=2)


def test_of_a_long_text_the_rest_counts_by_its_bytes() -> None:
    """At two and a half a token: so a megabyte takes no longer than its first part."""
    assert bound(said("x " * TAKEN_APART_MAX)) == tokens(TAKEN_APART_MAX // 2 + 2 * TAKEN_APART_MAX // 5 + 1)


def test_claudes_tokenizers_make_more_of_a_text() -> None:
    """And the newest more than the older ones."""
    gpt, old, new = (bound(said("sheep " * 100), model) for model in ("gpt-4o", "claude-sonnet-4-5", "claude-opus-4-8"))
    assert (gpt, old, new) == (130 + 12, 145 + 4 + 36, 180 + 4 + 36)


def test_tools_and_schemas_count() -> None:
    """The first tool costs its preamble, each its constant and its JSON; a schema its constant and its text."""
    written = json.dumps([TOOL], separators=(",", ":"))
    as_text, plain = bound(said("x " + written)), bound(said("x"))
    assert as_text is not None
    assert plain is not None
    assert bound(said("x", tools=[TOOL])) == as_text + 60 + 10
    assert bound(said("x", response_format={"format": "sheep"})) == tokens(3) + 20


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
