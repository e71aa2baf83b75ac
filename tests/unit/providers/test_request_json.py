"""A request's top-level members are read exactly, and everything else is refused in words."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.providers.dialect import BadRequest
from sidecar.providers.request_json import CONTAINERS_MAX, MEMBERS_MAX, PAIRS_MAX, read_object, read_objects, read_whole


def refusal(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read_object(body)
    return caught.value


def test_members_and_where_they_stand() -> None:
    """Each value, byte for byte, with escapes in keys read as the provider reads them."""
    body = ' {"a" : 1, "b\\u0063":{"x":[1,"}"]} ,"d":"é\\"" , "e":-1.5e3}\n'.encode()
    members = read_object(body)
    assert {name: member.raw for name, member in members.items()} == {
        "a": b"1", "bc": b'{"x":[1,"}"]}', "d": 'é\\"'.join('""').encode(), "e": b"-1.5e3",
    }  # fmt: skip
    assert all(body[member.start : member.end] == member.raw for member in members.values())


@pytest.mark.parametrize(
    "body",
    [
        b'{"max_tokens":1,"max_tokens":99999}',
        b'{"max_tokens":1,"model":"m","max_tokens":1}',
        b'{"a":1,"max_tokens":5,"max\\u005ftokens":9}',
        b'{"a":{"b":2},"c":1,"a":{"b":2}}',
        b'{"a":1,"zz":22,"a":{"pad":1      ,"zz":2}}',
        b'{"a":"","a":""}',
        b'{"":1,"":2}',
    ],
)
def test_a_field_that_stands_twice_is_refused(body: bytes) -> None:
    """Whatever the values, the order, the spelling of the key, or a value made to fool the walk."""
    assert refusal(body).code == "duplicate_field"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "max_tokens", 'q"', "é", ""]),
            st.recursive(
                st.sampled_from([1, 12, 1.5, "", 'a","b":1', True, None, "\\"]),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
                max_leaves=5,
            ),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_it_refuses_exactly_the_bodies_with_a_repeat(fields: list[tuple[str, Any]], spaced: bool) -> None:
    """Against Python's own parser, which tells all pairs: a repeat is refused, and nothing else is."""
    colon, comma = (" : ", " , ") if spaced else (":", ",")
    body = "{" + comma.join(json.dumps(name) + colon + json.dumps(value) for name, value in fields) + "}"
    names = [name for name, _ in fields]
    if len(set(names)) < len(names):
        assert refusal(body.encode()).code == "duplicate_field"
    else:
        members = read_object(body.encode())
        assert {name: json.loads(member.raw) for name, member in members.items()} == dict(fields)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  \n", b"null", b"[]", b'"x"', b"1", b"{", b'{"a":1', b'{"a":1}}', b'{"a":1} x', b'{"a":}', b"{'a':1}",
        b'{"a":1,}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":[-Infinity]}', b'{"a":1e400}', b'{"a":-1E999}',
        b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), b'{"a":"\xff"}', b'{"\xc3":1}', b'{"a":"\\ud800"}',
        b'{"a\\ud800":1}', b'{"a":"\x00"}', b'{"a\x00":1}', b'{"a":01}', b'{"a":' + b"[" * 100_000,
        b'{"a":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    ],
)  # fmt: skip
def test_what_is_not_one_json_object_is_refused(body: bytes) -> None:
    """B-P53, B-P55, B-P56: in a sentence, without repeating what was sent."""
    assert refusal(body).code == "invalid_json"


def test_too_many_fields() -> None:
    """The walk takes time for each field, so there is a bound."""
    body = json.dumps({f"f{i}": i for i in range(MEMBERS_MAX + 1)}).encode()
    assert "fields" in refusal(body).message


@pytest.mark.parametrize("inner", [b'{"a":1}', b'"a":1'], ids=["objects", "keys"])
def test_too_many_values_are_refused_undecoded(inner: bytes) -> None:
    """What would take the parser seconds is counted in the bytes; the body need not even be JSON."""
    most = CONTAINERS_MAX if inner.startswith(b"{") else PAIRS_MAX
    assert "more than" in refusal(b'{"x":[' + (inner + b",") * most + b"}").message
    read_object(b'{"x":[' + b"{}," * (CONTAINERS_MAX - 3) + b"{}]}")


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["type", "content", "source", "url", 'q"type', "é"]),
                st.recursive(
                    st.sampled_from([1, "", '","type":"x', None, "\\"]),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type"]), inner),
                    max_leaves=3,
                ),
            ),
            max_size=6,
        ),
        max_size=5,
    ),
    st.sampled_from([(":", ","), (": ", ", "), (" : ", " , ")]),
)
def test_it_refuses_exactly_the_lists_with_a_repeat(
    objects: list[list[tuple[str, Any]]], style: tuple[str, str]
) -> None:
    """However the lengths add up: an object with a key twice is refused, wherever it stands, and nothing else is."""
    colon, comma = style
    written = [
        "{" + comma.join(json.dumps(name) + colon + json.dumps(value) for name, value in fields) + "}"
        for fields in objects
    ]
    raw = ("[" + comma.join(written) + "]").encode()
    if any(len({name for name, _ in fields}) < len(fields) for fields in objects):
        with pytest.raises(BadRequest) as caught:
            read_objects(raw, param="messages")
        assert (caught.value.code, caught.value.param) == ("duplicate_field", "messages")
    else:
        read = [
            {name: json.loads(bytes(value)) for name, value in found.items()} for found in read_objects(raw, param="m")
        ]
        assert read == [dict(fields) for fields in objects]


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0129aeE+-. tfn', max_size=40).map(str.encode))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """Only BadRequest comes out, whatever goes in."""
    with contextlib.suppress(BadRequest):
        read_object(body)


@pytest.mark.parametrize("value", ["true", "1.0", "1e3", '"5"', "-1", "0", str(2**63), "9" * 308, "[]", "{}", "1e0"])
def test_a_limit_is_a_whole_number_written_as_one(value: str) -> None:
    """B-P49: nothing that another parser might read as something else."""
    members = read_object(f'{{"max_tokens":{value}}}'.encode())
    with pytest.raises(BadRequest) as caught:
        read_whole(members, "max_tokens", least=1, most=2**31 - 1)
    assert caught.value.param == "max_tokens"


@given(
    st.dictionaries(
        st.text(max_size=6), st.one_of(st.integers(), st.text(max_size=5), st.lists(st.integers())), max_size=6
    ),
    st.booleans(),
    st.booleans(),
)
def test_the_short_way_reads_what_the_walk_reads(fields: dict[str, object], compact: bool, ascii_only: bool) -> None:
    """Each member's bytes stand where it says, however the body is written; a repeated key is found either way."""
    separators = (",", ":") if compact else (", ", ": ")
    body = json.dumps(fields, separators=separators, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        members = read_object(body)
    except BadRequest:
        assert not fields or any("\0" in name or not name.isprintable() or not name.isascii() for name in fields)
        return
    assert list(members) == list(fields)
    for name, member in members.items():
        assert body[member.start : member.end] == member.raw
        assert json.loads(member.raw) == fields[name]
    if fields:
        with pytest.raises(BadRequest):
            read_object(body[:-1] + separators[0].encode() + body[1:])
