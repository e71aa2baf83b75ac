"""Keys with NUL and numbers beyond any float are found at any depth, and never where there are none (B-P53, B-P55)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.anthropic import AnthropicMessages
from sidecar.providers.dialect import BadRequest, Dialect
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.providers.request_json import read_object, read_objects
from sidecar.providers.unfit_values import has_key_with_nul, has_number_out_of_range, repeated_key

TEXTS = st.text(st.sampled_from('\0\\"u0e1+:,{}9 \u00e9'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def holds_nul_key(value: Any) -> bool:
    """What the standard library's reading says."""
    if isinstance(value, dict):
        return any("\0" in name or holds_nul_key(inner) for name, inner in value.items())
    return isinstance(value, list) and any(holds_nul_key(inner) for inner in value)


@given(VALUES)
def test_keys_with_nul_are_found_exactly(value: Any) -> None:
    """B-P55: as a reading of the whole would find them, also beside escaped backslashes and NUL in texts."""
    assert has_key_with_nul(json.dumps(value).encode()) == holds_nul_key(value)


@given(VALUES)
def test_numbers_that_a_float_holds_are_left_alone(value: Any) -> None:
    """B-P53: whatever the texts beside them look like."""
    assert not has_number_out_of_range(json.dumps(value).encode())


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,5})?", fullmatch=True)
LONG = st.from_regex(r"-?[1-9][0-9]{305,312}(\.[0-9]{1,5})?([eE]-[0-9])?", fullmatch=True)


@given(NUMBERS | LONG, VALUES)
def test_numbers_beyond_any_float_are_found_exactly(number: str, beside: Any) -> None:
    """B-P53: by the standard library's reading of the number, in an object in a list, between anything."""
    raw = b'[%b,{"a":%b},%b]' % (json.dumps(beside).encode(), number.encode(), json.dumps(beside).encode())
    assert has_number_out_of_range(raw) == math.isinf(float(number))


@pytest.mark.parametrize(
    "number", ["1e309", "-1E+400", "1e0000309", "9" * 300 + "e10", "2" + "0" * 209 + ".5e99", "9" * 309]
)
def test_where_it_stands_does_not_matter(number: str) -> None:
    """B-P53: in a body's own list, in a message, in a part of one, in a picture and in a tool."""
    far = number.encode()
    with pytest.raises(BadRequest, match="`metadata` holds a number out of range"):
        read_object(b'{"metadata":{"a":[' + far + b"]}}")
    for spaced in (b'{"seed":%b}', b' { "seed" : %b } '):
        with pytest.raises(BadRequest, match="`seed` is out of range"):
            read_object(spaced % far)
    with pytest.raises(BadRequest, match="`metadata` holds a number out of range"):
        read_object(b' { "metadata" : {"a":[' + far + b"]} } ")
    for value in (far, b"[" + far + b"]", b'{"a":' + far + b"}"):
        with pytest.raises(BadRequest, match="`messages` holds a number out of range"):
            read_objects(b'[{"role":"user","x":' + value + b"}]", param="messages")


FAR_PARTS = [
    b'[{"role":"user","content":1e400}]',
    b'[{"role":1e400,"content":"x"}]',
    b'[{"role":[{"a\\u0000":1}],"content":"x"}]',
    b'[{"role":"user","content":"x","source":[1e400]}]',
    b'[{"role":"user","content":[{"type":"text","text":1e400}]}]',
    b'[{"role":"user","content":[{"type":"text","text":[-1e400]}]}]',
    b'[{"role":"user","content":[{"type":1e400,"text":"x"}]}]',
    b'[{"role":"user","content":[{"type":"text","text":"x","image_url":[1e400],"source":[1e400]}]}]',
]


@pytest.mark.parametrize("messages", FAR_PARTS)
@pytest.mark.parametrize("dialect", [OpenAIChat(), AnthropicMessages()], ids=lambda dialect: dialect.name)
def test_a_text_s_place_is_no_hiding_place(dialect: Dialect, messages: bytes) -> None:
    """B-P53, B-P55: where nearly always a text stands, or a member is read by itself, a number is looked at too."""
    with pytest.raises(BadRequest) as told:
        dialect.read_request(b'{"model":"m","max_tokens":5,"messages":%b}' % messages)
    assert told.value.code == "invalid_json"


@pytest.mark.parametrize(
    ("dialect", "part"),
    [
        (OpenAIChat(), b'{"type":"image_url","image_url":{"url":"data:image/png;base64,e000","x":1e400}}'),
        (OpenAIChat(), b'{"type":"image_url","image_url":1e400}'),
        (AnthropicMessages(), b'{"type":"image","source":{"type":"base64","data":"e000","x":[1e400]}}'),
        (AnthropicMessages(), b'{"type":"search_result","source":"a","content":[{"type":"text","text":1e400}]}'),
        (AnthropicMessages(), b'{"type":"tool_result","content":[{"type":"text","text":1e400}]}'),
        (AnthropicMessages(), b'{"type":"text","text":"x","content":1e400}'),
    ],
)
def test_nor_is_what_is_read_by_itself(dialect: Dialect, part: bytes) -> None:
    """B-P53: a picture, a tool's result, what a search found."""
    with pytest.raises(BadRequest, match="out of range"):
        dialect.read_request(b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[%b]}]}' % part)


@given(VALUES)
def test_no_serialiser_repeats_a_key(value: Any) -> None:
    """What was made from a dictionary has each key once."""
    assert repeated_key(json.dumps(value).encode()) is None


@given(VALUES, VALUES)
def test_a_key_that_stands_twice_is_found_at_any_depth(first: Any, second: Any) -> None:
    """However it is escaped, and whatever its values are."""
    for again in ("key", "\\u006bey"):
        twice = f'[[{{"other":1,"key":{json.dumps(first)},"{again}":{json.dumps(second)}}}]]'
        assert repeated_key(twice.encode()) == "key"


@pytest.mark.parametrize("key", [b"\\u0000", b"a\\u0000b", b"\\\\\\u0000", b'\\"\\u0000'])
def test_a_key_with_nul_is_refused_in_a_part(key: bytes) -> None:
    """B-P55: in a message and below one."""
    with pytest.raises(BadRequest, match="`tools` has a field with NUL in its name") as told:
        read_objects(b'[{"function":{"' + key + b'":1}}]', param="tools")
    assert told.value.code == "invalid_json"
    with pytest.raises(BadRequest, match="`messages` has a field with NUL in its name"):
        read_objects(b'[{"' + key + b'":1}]', param="messages")


def test_nul_in_a_text_is_text() -> None:
    """B-P55: only keys decide what is read; `\\u0000` in what somebody says goes on as it came."""
    assert read_object(b'{"metadata":{"a":"\\u0000"}}')["metadata"].raw == b'{"a":"\\u0000"}'
    assert len(read_objects(b'[{"role":"user","name":"\\u0000","content":"\\u0000"}]', param="messages")) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"[1e000," + b"9," * 250_000 + b"9]",
        b"[" + b"9" * 308 + b"," + b'"9",' * 80_000 + b"9]",
        b'[1e000,"' + b"0" * 500_000 + b'"]',
        b"[1e000," + b"0.1," * 100_000 + b"-0." + b"0" * 300_000 + b"]",
        b'["e000",{"' + b"\\\\" * 200_000 + b'":"\\u0000"}]',
        b'["\\u0000"' + b" " * 500_000 + b"]",
        b"[" + b'"\\u0000",' * 80_000 + b"0]",
    ],
    ids=["numbers", "just in range", "digits in a text", "many numbers", "backslashes", "blanks", "texts with NUL"],
)
def test_hostile_shapes_are_passed_over_once(raw: bytes) -> None:
    """B-P53, B-P55: half a megabyte takes milliseconds; were it tried again from each byte, this would not end."""
    assert not has_number_out_of_range(raw)
    assert not has_key_with_nul(raw)
