"""What a provider may answer (B-U01 … B-U23): relayed byte for byte or cut, never both; counted, settled once.

The meter's own reading of broken bytes is in `properties/test_metering.py` and `unit/providers/`;
framing cut at every byte, on both loops, in `end_to_end/test_forwarding_breaks.py`. Here the same
goes through the product, to the book.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bad_input.conftest import Started
from tests.end_to_end.test_forwarding_breaks import SURPRISES
from tests.properties.test_parsers_survive import mutated
from tests.support.besieged import GOOD_BODY, GOOD_MESSAGE, MESSAGES, Answer, Besieged, assert_refusal, request
from tests.support.scripted_provider import Script, Wait

ASKED = GOOD_BODY[:-1] + b',"stream":true,"stream_options":{"include_usage":true}}'
UNASKED = GOOD_BODY[:-1] + b',"stream":true}'
MESSAGE_STREAM = GOOD_MESSAGE[:-1] + b',"stream":true}'
NOBODY = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), NOBODY)
HEAD_TIMEOUT_S = 1
IDLE_TIMEOUT_S = 1


@pytest.fixture(scope="module")
def siege(started: Started) -> Iterator[Besieged]:
    """The product with short patience."""
    patience = {
        "SPEND_PROVIDER__HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S),
        "SPEND_PROVIDER__IDLE_TIMEOUT_S": str(IDLE_TIMEOUT_S),
    }
    with started(**patience, **PROXIES) as siege:
        yield siege


def test_a_proxy_in_the_environment_is_not_used(siege: Besieged) -> None:
    """S-53: it would see every prompt and every key; calls go to the provider that the configuration names."""
    assert siege.product.process is not None
    environment = Path(f"/proc/{siege.product.process.pid}/environ").read_bytes().split(b"\0")
    assert f"HTTP_PROXY={PROXIES['HTTP_PROXY']}".encode() in environment
    before = len(siege.provider.requests)
    assert siege.post().status == 200
    assert len(siege.provider.requests) == before + 1


def chunk(**fields: Any) -> bytes:
    """A chunk's JSON, with an index for a text if one is given."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    return json.dumps(base | fields, ensure_ascii=False).encode()


def text(content: str, **fields: Any) -> bytes:
    """A chunk with some text."""
    return chunk(choices=[{"index": 0, "delta": {"content": content}, "finish_reason": None}], **fields)


def usage(given: int, made: int) -> dict[str, int]:
    """Figures."""
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def counted(given: int = 7, made: int = 3) -> bytes:
    """The chunk that only tells usage."""
    return chunk(choices=[], usage=usage(given, made))


def events(*data: bytes, end: bytes = b"\n") -> bytes:
    """Data lines as a stream."""
    return b"".join(b"data: " + each + end + end for each in data)


STREAM = events(text("one"), text("two"), counted(), b"[DONE]")


def streamed(siege: Besieged, pieces: Sequence[bytes | Wait], body: bytes = ASKED, **changes: Any) -> Answer:
    """The answer of a caller to whom a provider streams these pieces."""
    siege.provider.then(Script.stream([piece for piece in pieces if piece], **changes))
    return siege.post(body, target=MESSAGES if body == MESSAGE_STREAM else "/v1/chat/completions")


def tokens(facts: dict[str, Any]) -> tuple[int, int]:
    """What the book says was used."""
    lines = facts["usage"].get("lines", [])
    return (
        sum(line["tokens"].get("input_tokens") or 0 for line in lines),
        sum(line["tokens"].get("output_tokens") or 0 for line in lines),
    )


def assert_relayed(siege: Besieged, answer: Answer, body: bytes, used: tuple[int, int] = (7, 3)) -> None:
    """The caller got exactly these bytes, and the book exactly these figures."""
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == body
    facts = siege.explained(answer)
    assert (facts["usage"]["state"], tokens(facts)) == ("final", used)


# -- server-sent events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("cut", ["whole", "at each CR", "one byte at a time"])
def test_line_ends(siege: Besieged, end: bytes, cut: str) -> None:
    """B-U01: the same events whatever ends their lines and wherever the network cut them."""
    stream = STREAM.replace(b"\n", end)
    pieces: list[bytes | Wait] = [stream]
    if cut == "one byte at a time":
        pieces = [stream[at : at + 1] for at in range(len(stream))]
    elif cut == "at each CR":
        pieces = [*(part + b"\r" for part in stream.split(b"\r")[:-1]), stream.rpartition(b"\r")[2]]
    assert_relayed(siege, streamed(siege, pieces), stream)


def test_mixed_line_ends(siege: Besieged) -> None:
    """B-U01: all three in one stream, also within one event."""
    stream = b"data: " + text("a") + b"\r\n\ndata: " + text("b") + b"\n\r\ndata: " + counted() + b"\r\rdata: [DONE]\n\n"
    assert_relayed(siege, streamed(siege, [stream]), stream)


@pytest.mark.parametrize(
    "field", [b":comment", b":", b"data", b"retry: 10", b"id: a\0b", b"event", b"event: x", b"unknown: x", b"no colon",
              b" data: x", b"data:", b": data: [DONE]"],
)  # fmt: skip
def test_fields_that_say_nothing(siege: Besieged, field: bytes) -> None:
    """B-U02: other fields and comments are passed on and passed over."""
    stream = events(text("one")) + field + b"\n\n" + events(counted(), b"[DONE]")
    assert_relayed(siege, streamed(siege, [stream]), stream)


def test_a_space_behind_the_colon_is_optional(siege: Besieged) -> None:
    """B-U02: `data:x` is `data: x`; two data lines are one text with a line break in it."""
    stream = STREAM.replace(b"data: ", b"data:")
    assert_relayed(siege, streamed(siege, [stream]), stream)
    head, tail = counted().split(b',"usage"' if b',"usage"' in counted() else b', "usage"')
    split = events(text("a")) + b"data: " + head + b',\ndata: "usage"' + tail + b"\n\n" + events(b"[DONE]")
    assert_relayed(siege, streamed(siege, [split]), split)


def test_a_character_cut_anywhere(siege: Besieged) -> None:
    """B-U04: cut at every byte of a text in many alphabets: the bytes and the count are the same each time."""
    words = "naïve 日本 😀 \u202e"
    stream = events(text(words), counted(), b"[DONE]")
    first = stream.index(words.encode())
    for at in range(first, first + len(words.encode()) + 1):
        answer = streamed(siege, [stream[:at], Wait(0.002), stream[at:]])
        assert_relayed(siege, answer, stream)
        assert "\ufffd" not in answer.body.decode()


def test_what_only_looks_like_a_line_end(siege: Besieged) -> None:
    """B-U05: U+2028, U+2029, U+0085, VT, FF and FS end no line."""
    stream = events(text("a\u2028b\u2029c\u0085d"), counted(), b"[DONE]")
    raw = stream.replace(b"one", b"a\x0bb\x0cc\x1cd")
    assert_relayed(siege, streamed(siege, [raw]), raw)


@pytest.mark.parametrize("size", [2**20, 10 * 2**20], ids=["1 MB", "10 MB"])
def test_one_long_line(siege: Besieged, size: int) -> None:
    """B-U07: it is relayed whole; the meter keeps at most 1 MB of it, and reads the usage behind it."""
    before = siege.memory_bytes()
    stream = events(text("x" * size), counted(), b"[DONE]")
    assert_relayed(siege, streamed(siege, [stream]), stream)
    assert siege.memory_bytes() - before < 4 * size + 2**24


@pytest.mark.parametrize("event", [b"\n\n", b": keep-alive\n\n", b"data:\n\n"], ids=["empty", "comments", "empty data"])
def test_a_million_events_that_say_nothing(siege: Besieged, event: bytes) -> None:
    """B-U08: memory stays, other callers are served meanwhile, and the usage behind them is read."""
    run = event * 1_000_000
    pieces = [run[at : at + 65_536] for at in range(0, len(run), 65_536)]
    before, waits, stop = siege.memory_bytes(), [], threading.Event()

    def probe() -> None:
        while not stop.is_set():
            began = time.monotonic()
            urllib.request.urlopen(f"{siege.product.health}/livez", timeout=20).close()
            waits.append(time.monotonic() - began)
            time.sleep(0.01)

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        answer = streamed(siege, [events(text("a")), *pieces, events(counted(), b"[DONE]")])
    finally:
        stop.set()
        prober.join()
    assert_relayed(siege, answer, events(text("a")) + run + events(counted(), b"[DONE]"))
    assert siege.memory_bytes() - before < 48 * 2**20
    assert waits


# -- usage, wherever it stands

PLACES: dict[str, tuple[list[bytes], tuple[int, int]]] = {
    "first": ([chunk(choices=[], usage=usage(7, 3)), text("a"), b"[DONE]"], (7, 3)),
    "in the middle": ([text("a"), counted(), text("b"), b"[DONE]"], (7, 3)),
    "last": ([text("a"), counted(), b"[DONE]"], (7, 3)),
    "twice, the same": ([text("a"), counted(), counted(), b"[DONE]"], (7, 3)),
    "twice, the second counts": ([text("a"), counted(7, 1), counted(7, 3), b"[DONE]"], (7, 3)),
    "growing": ([*(text("a", usage=usage(7, made)) for made in (1, 2, 3)), counted(), b"[DONE]"], (7, 3)),
    "null but in the last": ([text("a", usage=None), text("b", usage=None), counted(), b"[DONE]"], (7, 3)),
    "null behind it": ([text("a"), counted(), text("b", usage=None), b"[DONE]"], (7, 3)),
    "explicit nothing": ([text("a"), counted(0, 0), b"[DONE]"], (0, 0)),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_usage_stands(siege: Besieged, place: str) -> None:
    """B-U10, F-27, F-28: the last that is not null is the usage; figures overwrite, they never add up.

    Figures with more text behind them may not be the last: then they are a floor, and the charge is flagged.
    """
    data, (given, made) = PLACES[place]
    answer = streamed(siege, [events(*data)])
    assert answer.body == events(*data)
    facts = siege.explained(answer)
    if b'"content"' in b"".join(data[data.index(told_last(data)) + 1 :]):
        assert tokens(facts)[0] == given
        assert tokens(facts)[1] >= made
        assert "estimated" in facts["flags"]
        assert facts["charge"]["atoms"] == facts["held"]["atoms"]
    else:
        assert (facts["usage"]["state"], tokens(facts)) == ("final", (given, made))


def message(start: Any, *deltas: Any) -> bytes:
    """An Anthropic stream whose usage objects are these."""

    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    begun = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-haiku", "usage": start}
    said = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
    told = [event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage) for usage in deltas]
    return event("message_start", message=begun) + said + b"".join(told) + event("message_stop")


START = {"input_tokens": 9, "output_tokens": 1}
MESSAGES_TOLD: dict[str, tuple[bytes, tuple[int, int]]] = {
    "once": (message(START, {"output_tokens": 5}), (9, 5)),
    "less than the placeholder": (message({**START, "output_tokens": 8}, {"output_tokens": 5}), (9, 5)),
    "growing": (message(START, {"output_tokens": 2}, {"output_tokens": 5}), (9, 5)),
    "shrinking": (message(START, {"output_tokens": 5}, {"output_tokens": 2}), (9, 5)),
    "shrinking to nothing": (message(START, {"output_tokens": 5}, {"output_tokens": 0}), (9, 5)),
    "a text": (message(START, {"output_tokens": "5"}), (9, 5)),
    "whole as a float": (message(START, {"output_tokens": 5.0}), (9, 5)),
    "input again, less": (message(START, {"output_tokens": 5, "input_tokens": 7}), (7, 5)),
}


@pytest.mark.parametrize("kind", MESSAGES_TOLD)
def test_what_a_message_says_of_its_usage(siege: Besieged, kind: str) -> None:
    """B-U10, F-28: the last word counts, but an answer does not grow shorter."""
    stream, used = MESSAGES_TOLD[kind]
    assert_relayed(siege, streamed(siege, [stream], MESSAGE_STREAM), stream, used)


@pytest.mark.parametrize(
    "stream",
    [
        message(START, {"output_tokens": -5}),
        message(START, {"output_tokens": 5.5}),
        message(START, {"output_tokens": 10**30}),
        message(START, {"output_tokens": 10**9}),
        message(START, {"output_tokens": True}),
        message(START, {"output_tokens": [5]}),
        message(START),
        message({"input_tokens": -9, "output_tokens": 1}, {"output_tokens": 5}),
        message({"input_tokens": 10**9, "output_tokens": 1}, {"output_tokens": 5}),
        message([9, 1], {"output_tokens": 5}),
        message(START, {"output_tokens": 5, "server_tool_use": {"web_search_requests": 10**9}}),
    ],
    ids=["negative", "a fraction", "huge", "a billion", "true", "a list", "none", "a negative prompt",
         "a prompt of a billion", "a list at first", "a billion searches"],
)  # fmt: skip
def test_a_message_s_usage_that_is_none(siege: Besieged, stream: bytes) -> None:
    """B-U10, F-28: relayed; the hold is charged, flagged."""
    answer = streamed(siege, [stream], MESSAGE_STREAM)
    assert answer.body == stream
    facts = siege.explained(answer)
    assert facts["charge"]["atoms"] == facts["held"]["atoms"]
    assert "estimated" in facts["flags"]


WHOLE = {
    "id": "x",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
}
TOLD_WHOLE = json.dumps(WHOLE).encode()[:-1] + b',"usage":%b}'
GOOD_USAGE = json.dumps(usage(7, 3)).encode()
ANSWERS: dict[str, tuple[bytes, bool]] = {
    "plain": (TOLD_WHOLE % GOOD_USAGE, True),
    "behind a byte order mark": (b"\xef\xbb\xbf" + TOLD_WHOLE % GOOD_USAGE, True),
    "behind blank lines": (b"\n \r\n" + TOLD_WHOLE % GOOD_USAGE, True),
    "floats": (TOLD_WHOLE % b'{"prompt_tokens":7.0,"completion_tokens":3e0}', True),
    "texts": (TOLD_WHOLE % b'{"prompt_tokens":"7","completion_tokens":"3"}', True),
    "not UTF-8 in a text": (TOLD_WHOLE.replace(b"hi", b"\xff") % GOOD_USAGE, True),
    "behind 5 MB": (b'{"a":"' + b"x" * 5_000_000 + b'",' + TOLD_WHOLE[1:] % GOOD_USAGE, True),
    "before 5 MB": (TOLD_WHOLE[:-1] % GOOD_USAGE + b',"a":"' + b"x" * 5_000_000 + b'"}', False),
    "another's behind 5 MB": (TOLD_WHOLE[:-1] % b"null" + b',"a":["' + b"x" * 5_000_000 + b'",{"usage":{}}]}', False),
    "negative": (TOLD_WHOLE % b'{"prompt_tokens":-7,"completion_tokens":3}', False),
    "400 digits": (TOLD_WHOLE % (b'{"prompt_tokens":7' + b"0" * 400 + b',"completion_tokens":3}'), False),
    "NaN": (TOLD_WHOLE % b'{"prompt_tokens":NaN,"completion_tokens":3}', False),
    "1e400": (TOLD_WHOLE % b'{"prompt_tokens":1e400,"completion_tokens":3}', False),
    "deep": (TOLD_WHOLE % (b'{"prompt_tokens":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), False),
    "deep beside it": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"," + TOLD_WHOLE[1:] % GOOD_USAGE, False),
    "a lone surrogate": (TOLD_WHOLE.replace(b"hi", b"\\ud800") % GOOD_USAGE, False),
    "twice over": (TOLD_WHOLE % GOOD_USAGE * 2, False),
    "and words behind": (TOLD_WHOLE % GOOD_USAGE + b"words", False),
    "null": (TOLD_WHOLE % b"null", False),
}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_what_a_whole_answer_says_of_its_usage(siege: Besieged, kind: str, framing: Any) -> None:
    """B-U10, B-U22, F-28: relayed byte for byte in every framing; believed where it is a count, else the hold."""
    body, is_read = ANSWERS[kind]
    siege.provider.then(Script(200, (("Content-Type", "application/json"),), (body,), framing=framing))
    answer = siege.post()
    assert (answer.status, answer.complete, answer.body) == (200, True, body)
    facts = siege.explained(answer)
    if is_read:
        assert (facts["usage"]["state"], tokens(facts), facts["flags"]) == ("final", (7, 3), [])
    else:
        assert facts["charge"]["atoms"] == facts["held"]["atoms"]
        assert "estimated" in facts["flags"]


SHAPES: dict[str, list[bytes | Wait]] = {
    "a byte order mark": [b"\xef\xbb\xbf" + STREAM], "a mark by itself": [b"\xef\xbb\xbf", Wait(0.02), STREAM],
    "half a mark": [b"\xef", Wait(0.02), b"\xbb\xbf" + STREAM], "blank lines before": [b"\n\r\n\n" + STREAM],
    "no [DONE]": [events(text("one"), counted())], "two of [DONE]": [STREAM + events(b"[DONE]")],
    "no empty line at the end": [STREAM[:-1]], "no line end at the end": [STREAM[:-2]],
    "a comment of 10 MB first": [b": " + b"x" * 10_000_000 + b"\n\n" + STREAM],
    "the usage as a text too": [STREAM.replace(b"one", b'\\"usage\\":{\\"prompt_tokens\\":1}')],
    "spaces in the usage": [STREAM.replace(b'"usage":', b'"usage" :\t')],
    "the usage twice in an object": [STREAM.replace(b'"usage": {', b'"usage": {"prompt_tokens": 1}, "usage": {')],
    "a float": [STREAM.replace(b'"prompt_tokens": 7', b'"prompt_tokens": 7.0')],
    "a text": [STREAM.replace(b'"prompt_tokens": 7', b'"prompt_tokens": "7"')],
}  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_of_a_stream_that_are_borne(siege: Besieged, kind: str) -> None:
    """B-U01, B-U02, B-U10: some server writes each of these; the caller gets it as it is, and the count is right."""
    pieces = SHAPES[kind]
    assert_relayed(siege, streamed(siege, pieces), b"".join(piece for piece in pieces if isinstance(piece, bytes)))


def gzipped(kind: str) -> bytes:
    """The stream, compressed in some manner."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return {
        "cut off in its checksum": gzip.compress(STREAM)[:-8],
        "in two members": gzip.compress(STREAM[:200]) + gzip.compress(STREAM[200:]),
        "with words behind": gzip.compress(STREAM) + b"words",
        "raw deflate": packer.compress(STREAM) + packer.flush(),
        "cut in half": gzip.compress(STREAM)[:80],
        "twice": gzip.compress(gzip.compress(STREAM)),
        "broken": gzip.compress(STREAM)[:40] + b"\xff" * 40,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "is_read"),
    [("cut off in its checksum", True), ("in two members", True), ("with words behind", True), ("raw deflate", True),
     ("cut in half", False), ("twice", False), ("broken", False)],
)  # fmt: skip
def test_a_compressed_stream_that_is_not_as_it_should_be(siege: Besieged, kind: str, is_read: bool) -> None:
    """B-U13: relayed as it is; what can be read of it counts, and where nothing can, the hold is charged."""
    packed = gzipped(kind)
    coding = "deflate" if kind == "raw deflate" else "gzip"
    headers = (("Content-Type", "text/event-stream"), ("Content-Encoding", coding))
    answer = streamed(siege, [packed], headers=headers)
    assert (answer.complete, answer.body) == (True, packed)
    facts = siege.explained(answer)
    if is_read:
        assert (facts["usage"]["state"], tokens(facts)) == ("final", (7, 3))
    else:
        assert facts["charge"]["atoms"] == facts["held"]["atoms"]


def told_last(data: list[bytes]) -> bytes:
    """The last event with figures."""
    return [each for each in data if b'"prompt_tokens"' in each][-1]


def test_two_media_types_cost_nobody_an_answer(siege: Besieged) -> None:
    """B-U14: the provider has billed; the answer is relayed with both, and its own usage is charged."""
    headers = (("Content-Type", "application/json"), ("Content-Type", "application/json; charset=utf-8"))
    siege.provider.then(Script(200, headers, (TOLD_WHOLE % GOOD_USAGE,)))
    answer = siege.post()
    assert (answer.status, answer.complete, answer.body) == (200, True, TOLD_WHOLE % GOOD_USAGE)
    facts = siege.explained(answer)
    assert (facts["usage"]["state"], tokens(facts), facts["flags"]) == ("final", (7, 3), [])


def test_a_coding_that_is_given_twice_is_not_read(siege: Besieged) -> None:
    """B-U13: relayed as it is, by two lines as by one; what nothing here reads is charged at its hold."""
    packed = gzipped("twice")
    headers = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"), ("Content-Encoding", "gzip"))
    answer = streamed(siege, [packed], headers=headers)
    assert (answer.status, answer.complete, answer.body) == (200, True, packed)
    facts = siege.explained(answer)
    assert facts["charge"]["atoms"] == facts["held"]["atoms"]
    assert "estimated" in facts["flags"]


def test_usage_behind_the_closing_mark_is_too_late(siege: Besieged) -> None:
    """B-U10: after [DONE] nothing counts any more; without usage before it the charge is the whole hold, flagged."""
    stream = events(text("a"), b"[DONE]", counted())
    answer = streamed(siege, [events(text("a"), b"[DONE]"), Wait(0.05), events(counted())])
    assert answer.body == stream
    facts = siege.explained(answer)
    assert "estimated" in facts["flags"]
    assert facts["charge"]["atoms"] == facts["held"]["atoms"]


ODD: dict[str, Any] = {
    "negative": {"prompt_tokens": -7, "completion_tokens": 3},
    "a text": {"prompt_tokens": "7", "completion_tokens": "x"},
    "huge": {"prompt_tokens": 10**18, "completion_tokens": 10**18}, "a list": [7, 3], "a number": 7, "empty": {},
    "a fraction": {"prompt_tokens": 7.5, "completion_tokens": 3},
    "true": {"prompt_tokens": True, "completion_tokens": True},
    "a total out of all proportion": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10**9},
    "a billion": {"prompt_tokens": 7, "completion_tokens": 10**9},
    "null within": {"prompt_tokens": None, "completion_tokens": None}, "1e400": "RAW",
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_usage_that_is_none(siege: Besieged, kind: str) -> None:
    """B-U10, F-28: never a negative posting, never a fault: estimated, flagged, at least the hold."""
    odd = chunk(choices=[], usage=ODD[kind])
    if kind == "1e400":
        odd = odd.replace(b'"RAW"', b'{"prompt_tokens":1e400,"completion_tokens":3}')
    stream = events(text("a"), odd, b"[DONE]")
    answer = streamed(siege, [stream])
    assert answer.body == stream
    facts = siege.explained(answer)
    assert facts["charge"]["atoms"] == facts["held"]["atoms"]
    assert "estimated" in facts["flags"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (ASKED, b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'),
        (ASKED, b'event: error\ndata: {"message":"boom"}\n\n'),
        (MESSAGE_STREAM, b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'),
    ],
    ids=["a chunk", "a named event", "anthropic"],
)
def test_an_error_in_mid_stream(siege: Besieged, body: bytes, error: bytes) -> None:
    """B-U11: relayed; what was made until then is charged, and the record says that the provider failed."""
    first = b'event: ping\ndata: {"type":"ping"}\n\n' if body == MESSAGE_STREAM else events(text("one"))
    started_message = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"claude-3-haiku",'
        b'"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
    )
    stream = (started_message if body == MESSAGE_STREAM else b"") + first + error
    answer = streamed(siege, [stream], body)
    assert answer.body == stream
    facts = siege.explained(answer)
    assert "provider_error" in facts["usage"]["notes"]
    assert "estimated" in facts["flags"]
    assert facts["charge"]["atoms"] > 0


# -- codings that nobody asked for


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "gzip, gzip", "x"])
def test_a_coding_that_was_not_asked_for(siege: Besieged, coding: str) -> None:
    """B-U13: relayed as it is, coding and all; the provider had been asked for none."""
    packers = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}
    packed = packers[coding](STREAM) if coding in packers else b"\x28\xb5\x2f\xfd" + STREAM
    headers = (("Content-Type", "text/event-stream"), ("Content-Encoding", coding))
    answer = streamed(siege, [packed], headers=headers)
    assert (answer.body, answer.headers["content-encoding"]) == (packed, coding)
    assert siege.provider.requests[-1].headers["accept-encoding"] == "identity"
    facts = siege.explained(answer)
    if coding in packers:
        assert (facts["usage"]["state"], tokens(facts)) == ("final", (7, 3))
    else:
        assert "meter_degraded" in facts["usage"]["notes"]
        assert facts["charge"]["atoms"] == facts["held"]["atoms"]


def test_a_bomb_is_not_inflated(siege: Besieged) -> None:
    """B-U13: 300 KB that would be 300 MB: relayed; memory and time stay, the rest is not read."""
    before = siege.memory_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(300)) + packer.flush()
    headers = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"))
    answer = streamed(siege, [bomb], headers=headers)
    assert answer.body == bomb
    assert siege.memory_bytes() - before < 48 * 2**20
    assert "estimated" in siege.explained(answer)["flags"]


# -- framing

BROKEN = SURPRISES | {
    "duplicate length, the same": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "a length that is a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
    "a length of 23 digits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    "status 99": b"HTTP/1.1 99 Odd\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "a header with a space in its name": b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a header": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "an answer with no status": b"HTTP/1.1\r\n\r\n",
    "HTML at once": b"<html><body>proxy error</body></html>",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Ty",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_answer_that_is_none(siege: Besieged, kind: str) -> None:
    """B-U14, B-U19: 502 in the caller's shape, not to be repeated; the hold is charged; the next call is well."""
    siege.provider.then(Script.raw(BROKEN[kind]))
    answer = siege.post()
    assert (answer.status, answer.code) == (502, "upstream_broken")
    assert_refusal(answer)
    assert answer.headers["x-should-retry"] == "false"
    facts = siege.explained(answer)
    assert facts["charge"]["atoms"] == facts["held"]["atoms"]
    assert siege.post().status == 200


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n",
    ],
    ids=["short length", "bad chunk size", "no last chunk", "negative chunk size"],
)
def test_a_break_after_the_first_byte_is_a_cut(siege: Besieged, wire: bytes) -> None:
    """B-U14, F-22: what came, then a cut that nobody can take for an end; the hold is charged."""
    siege.provider.then(Script.raw(b"", wire.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", wire.partition(b"\r\n\r\n")[2]))
    with siege.connect() as raw:
        raw.send(request(ASKED))
        answer = raw.answer()
        assert answer.status == 502 or not answer.complete
    facts = siege.explained(answer)
    assert facts["charge"]["atoms"] >= facts["held"]["atoms"]


def test_interim_answers_without_end(siege: Besieged) -> None:
    """B-U16: 50,000 times 100 Continue: given up after a few, in bounded time and memory; some are borne."""
    before = siege.memory_bytes()
    siege.provider.then(Script.raw(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 50, Wait(1.0)))
    answer = siege.post()
    assert (answer.status, answer.code) == (502, "upstream_broken")
    assert siege.memory_bytes() - before < 2**24
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    siege.provider.then(Script.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + final))
    assert siege.post().status == 200


def test_a_redirect_is_not_followed(siege: Besieged) -> None:
    """B-U17, S-53: it is an answer like any other; nobody goes to where it points."""
    siege.provider.then(Script(302, (("Location", f"{siege.provider.url}/latest/meta-data"),), (b"",)))
    before = len(siege.provider.requests)
    answer = siege.post()
    assert answer.status == 302
    assert len(siege.provider.requests) == before + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_where_a_redirect_points_is_not_told(siege: Besieged, status: int) -> None:
    """B-U17: a client that followed would take its prompt, and perhaps a key in the address, past the meter."""
    location = "http://169.254.169.254/latest/?key=sk-canary-1234567890"
    siege.provider.then(Script(status, (("Location", location), ("Content-Location", location)), (b"moved",)))
    answer = siege.post()
    assert answer.status == status
    assert b"sk-canary" not in answer.head + answer.body


def test_silence_has_deadlines(siege: Besieged) -> None:
    """B-U19, F-25: no head by its deadline is 504; silence behind the head is a cut; both are charged the hold."""
    siege.provider.then(Script.raw(Wait(HEAD_TIMEOUT_S + 3.0)))
    late = siege.post()
    assert (late.status, late.code) == (504, "upstream_timeout")
    assert late.headers["x-should-retry"] == "false"
    siege.provider.then(Script.stream([events(text("a")), Wait(None)]))
    stalled = siege.post(ASKED)
    assert not stalled.complete
    for answer in (late, stalled):
        facts = siege.explained(answer)
        assert facts["charge"]["atoms"] >= facts["held"]["atoms"]
    siege.provider.then(Script.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Wait(IDLE_TIMEOUT_S + 3.0)))
    assert siege.post().status in {502, 504}


def test_an_answer_to_another_question_reaches_nobody(siege: Besieged) -> None:
    """B-U20: bytes behind an answer are not the next caller's; a connection with a surprise is not used again."""
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    poison = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"poison":1}'
    siege.provider.then(
        Script.raw(good + poison, keeps_open=True), Script.raw(good, Wait(0.05), poison, keeps_open=True)
    )
    with siege.connect() as raw:
        for pause_s in (0.0, 0.15, 0.15):
            raw.send(request())
            assert b"poison" not in raw.answer().body
            time.sleep(pause_s)
    siege.provider.then(Script.stream([events(text("secret")), Wait(0.2), STREAM]))
    with siege.connect() as raw:
        raw.send(request(ASKED))
        raw.answer_at_once(5.0)
        raw.reset()
    for _ in range(3):
        assert b"secret" not in siege.post().body


@pytest.mark.parametrize(
    "script",
    [
        Script(200, (("Content-Type", "text/html"),), (b"<html>sorry</html>",)),
        Script(200, (("Content-Type", "application/json"),), (b"{}",)),
        Script(200, (("Content-Type", "application/json"),), (b"",)),
        Script(200, (("Content-Type", "application/json"),), (b"[]",)),
        Script(200, (("Content-Type", "application/json"),), (b'{"usage":',)),
        Script(204, (), (), framing="none"),
        Script(205, (), (b"",)),
    ],
    ids=["HTML", "empty JSON", "nothing", "a list", "half of JSON", "204", "205"],
)
def test_a_success_that_says_nothing(siege: Besieged, script: Script) -> None:
    """B-U22, L5, L25: relayed; no tokens are made up, the hold is charged, and the charge is flagged."""
    siege.provider.then(script)
    answer = siege.post()
    assert (answer.status, answer.body) == (script.status, b"".join(p for p in script.pieces if isinstance(p, bytes)))
    facts = siege.explained(answer)
    assert (facts["usage"]["state"], facts["usage"].get("lines", [])) == ("absent", [])
    assert "estimated" in facts["flags"]
    assert facts["charge"]["atoms"] == facts["held"]["atoms"]


def test_header_names_are_checked_before_they_go_out(siege: Besieged) -> None:
    """B-U23: a name or value that a client library would raise over never comes so far: 400, and nothing is sent."""
    for line in ("X Y: a", "X\xe9: a", "X: \xe9", "X: a\x01"):
        with siege.unheard():
            assert siege.post(GOOD_BODY, line).status == 400
    before = len(siege.provider.requests)
    assert siege.post(GOOD_BODY, "X-Odd!#$%&'*+-.^_`|~1: ~!@#$%^&*()").status == 200
    assert b"\r\nX-Odd!#$%&'*+-.^_`|~1: ~!@#$%^&*()\r\n" in siege.provider.requests[before].head


@pytest.mark.parametrize(
    "name", ["Spend-Charge", "Spend-Remaining", "Spend-Origin", "Access-Control-Allow-Origin", "Alt-Svc"]
)
def test_a_provider_cannot_speak_for_us(siege: Besieged, name: str) -> None:
    """B-U23's other side: headers that imitate ours, or open us to web pages, are not relayed."""
    siege.provider.then(Script.json({}, headers=(("Content-Type", "application/json"), (name, "evil"))))
    answer = siege.post()
    assert answer.status == 200
    assert "evil" not in answer.headers.get(name.lower(), "")


# -- whatever else a provider may say

_PIECES = st.one_of(
    st.sampled_from(
        [b"data: ", b"\n", b"\r\n", b"\r", b"\n\n", b"[DONE]", b"{", b"}", b'"usage":', b"null", text("a"), counted(),
         b"event: error", b":", b"\x1f\x8b\x08", b"\xef\xbb\xbf", b'"usage":{"prompt_tokens":-1}', b"\x00", b"error"]
    ),
    st.binary(max_size=16),
)  # fmt: skip


@settings(max_examples=100)
@given(pieces=st.lists(_PIECES, max_size=12), body=st.sampled_from([ASKED, GOOD_BODY, MESSAGE_STREAM]))
def test_no_answer_brings_it_down(siege: Besieged, pieces: list[bytes], body: bytes) -> None:
    """Any bytes in good framing: relayed as they are, settled once, at no less than nothing."""
    answer = streamed(siege, pieces, body)
    assert (answer.status, answer.complete, answer.body) == (200, True, b"".join(pieces))
    facts = siege.explained(answer)
    assert facts["outcome"] == "settled"
    assert facts["charge"]["atoms"] >= 0


@settings(max_examples=100)
@given(wire=mutated("answer"), body=st.sampled_from([ASKED, UNASKED, GOOD_BODY, MESSAGE_STREAM]))
def test_no_wire_brings_it_down(siege: Besieged, wire: bytes, body: bytes) -> None:
    """F-63: any framing at all: an answer, a cut, or 502 in the caller's shape; settled once; the next call is well."""
    siege.provider.then(Script.raw(wire))
    answer = siege.post(body, target=MESSAGES if body == MESSAGE_STREAM else "/v1/chat/completions")
    assert 200 <= answer.status <= 599
    if answer.headers["spend-origin"] == "sidecar":
        assert (answer.status, answer.code) == (502, "upstream_broken")
        assert_refusal(answer, anthropic=body == MESSAGE_STREAM)
    facts = siege.explained(answer)
    assert facts["outcome"] == "settled"
    assert 0 <= facts["charge"]["atoms"] <= facts["held"]["atoms"]
    assert siege.post().status == 200


@settings(max_examples=100)
@given(pieces=st.lists(_PIECES, max_size=12))
def test_what_is_hidden_is_only_the_usage(siege: Besieged, pieces: list[bytes]) -> None:
    """Where the caller did not ask for usage, the bytes are the provider's less whole events of usage."""
    sent = b"".join(pieces)
    answer = streamed(siege, pieces, UNASKED)
    assert (answer.status, answer.complete) == (200, True)
    left = iter(sent)
    assert all(byte in left for byte in answer.body)
    if counted() not in sent:
        assert answer.body == sent
    assert siege.explained(answer)["outcome"] == "settled"
