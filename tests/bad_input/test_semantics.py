"""Requests in good HTTP that mean something they must not (B-P40 … B-P70): bodies, identities, limits, coding.

Bodies stand in `corpus/json_bodies.jsonl`: `n` is refused with 400, `y` goes on byte for byte, and
`denied` is good JSON that may not run. The walk along a body itself is held by
`unit/providers/test_request_json.py`.
"""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.proxy.local_api_problems import LOCAL_BODY_BYTES_MAX
from tests.bad_input.conftest import Started
from tests.properties.test_parsers_survive import mutated
from tests.support.besieged import (
    GOOD_BODY,
    GOOD_MESSAGE,
    LINE,
    MESSAGES,
    Besieged,
    assert_refusal,
    request,
)
from tests.support.corpus import Case, cases, expand

MAX_BODY_BYTES = 1_000_000
MAX_NEW_CHILDREN = 30
BELIEVED_S = 0.4
"""Longer than a refusal of the ledger is believed."""


@pytest.fixture(scope="module")
def siege(started: Started) -> Iterator[Besieged]:
    """The product with a small body, a small crowd, and one path that passes uncounted."""
    bounds = {
        "SPEND_DOOR__MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "SPEND_LEDGER__RULES__MAX_NEW_CHILDREN_PER_HOUR": str(MAX_NEW_CHILDREN),
        "SPEND_PASS_THROUGH": "POST /v1/files",
    }
    with started(**bounds) as siege:
        yield siege


def refused(siege: Besieged, wire: bytes, *, anthropic: bool = False) -> tuple[int, str]:
    """The status and the word of a refusal that reaches no provider and is one sound line in the log at most."""
    siege.new_lines()
    with siege.unheard():
        answer = siege.send(wire)
    assert_refusal(answer, anthropic=anthropic)
    lines = siege.new_lines()
    assert len(lines) <= 1, lines
    assert all(LINE.match(line) for line in lines), lines
    return answer.status, answer.code


# -- bodies


@pytest.mark.parametrize("case", cases("json_bodies"))
def test_bodies(siege: Besieged, case: Case) -> None:
    """Refused with words of its own, or passed on byte for byte: there is no third reading."""
    body = expand(case.facts["body"])
    verdict = case.facts["verdict"]
    if verdict == "y":
        before = len(siege.provider.requests)
        answer = siege.post(body)
        assert answer.status == 200, answer.body
        assert [each.body for each in siege.provider.requests[before:]] == [body]
        return
    siege.new_lines()
    with siege.unheard():
        answer = siege.post(body)
    assert answer.status == {"n": 400, "denied": 403}[verdict], answer.body[:300]
    assert_refusal(answer)
    error = answer.error()
    assert answer.headers["x-should-retry"] == "false"
    assert "code" not in case.facts or answer.code == case.facts["code"]
    assert "param" not in case.facts or error["param"] == case.facts["param"]
    assert case.facts.get("says", "") in error["message"]
    assert len(error["message"]) < 400
    lines = siege.new_lines()
    assert len(lines) <= 1
    assert all(LINE.match(line) for line in lines), lines


ONLY_OPENAI = re.compile(r"max_tokens: 0$|1e400 (?:as|in|beside) a picture")
"""Cases that Anthropic takes, or in which what is wrong stands in no place of its own."""


@pytest.mark.parametrize("case", cases("json_bodies"))
def test_the_same_bodies_in_the_other_protocol(siege: Besieged, case: Case) -> None:
    """As Anthropic messages: what is bad JSON or a bad limit is so there too, in that protocol's shape."""
    body = expand(case.facts["body"]).replace(b"gpt-4o-mini", b"claude-3-haiku")
    before = len(siege.provider.requests)
    siege.new_lines()
    answer = siege.post(body, "anthropic-version: 2023-06-01", target=MESSAGES)
    if answer.status == 200:
        assert case.facts["verdict"] == "y" or ONLY_OPENAI.match(case.name)
        assert [each.body for each in siege.provider.requests[before:]] == [body]
        return
    assert answer.status in {400, 403}, answer.body
    assert_refusal(answer, anthropic=True)
    assert answer.headers["x-should-retry"] == "false"
    assert len(siege.provider.requests) == before
    assert len(siege.new_lines()) <= 1


ANTHROPIC_BODIES: dict[str, tuple[str, int]] = {
    "no max_tokens": ('{"model":"claude-3-haiku","messages":[]}', 400),
    "max_tokens null": ('{"model":"claude-3-haiku","messages":[],"max_tokens":null}', 400),
    "stream a text": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"stream":"true"}', 400),
    "stream 1": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"stream":1}', 400),
    "speed a list": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"speed":["fast"]}', 400),
    "tier a number": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"service_tier":1}', 400),
    "a long tier": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"service_tier":"%s"}' % ("a" * 65), 400),
    "max_tokens -0": ('{"model":"claude-3-haiku","messages":[],"max_tokens":-0}', 400),
    "max_tokens 0": ('{"model":"claude-3-haiku","messages":[],"max_tokens":0}', 200),
    "thinking twice within": (
        '{"model":"claude-3-haiku","messages":[],"max_tokens":5,"thinking":{"type":"disabled","type":"enabled"}}', 400,
    ),
    "a source twice within": (
        '{"model":"claude-3-haiku","max_tokens":5,"messages":[{"role":"user","content":[{"type":"image",'
        '"source":{"type":"url","url":"https://a","type":"file"}}]}]}', 400,
    ),
    "a file": (
        '{"model":"claude-3-haiku","max_tokens":5,"messages":[{"role":"user","content":[{"type":"document",'
        '"source":{"type":"file","file_id":"f"}}]}]}', 200,  # bounded by the window
    ),
    "a server's tool": (
        '{"model":"claude-3-haiku","messages":[],"max_tokens":5,"tools":[{"type":"web_search_20250305","name":"w"}]}',
        403,
    ),
    "n": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"n":5}', 403),
    "another limit too": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"max_completion_tokens":9}', 403),
    "the limit in other letters": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"Max_Tokens":9}', 403),
    "the limit in full width": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"\uff4dax_tokens":9}', 403),
    "a key composed and decomposed": (
        '{"model":"claude-3-haiku","messages":[],"max_tokens":5,"metadata":{"\u00e9":1,"e\u0301":2}}', 200,
    ),
    "the system in parts": (
        '{"model":"claude-3-haiku","messages":[],"max_tokens":5,"system":[{"type":"text","text":"a"}]}', 200,
    ),
    "a system of another shape": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"system":{"a":1}}', 403),
    "a system that is a number": ('{"model":"claude-3-haiku","messages":[],"max_tokens":5,"system":1e400}', 400),
}  # fmt: skip


@pytest.mark.parametrize("name", ANTHROPIC_BODIES)
def test_bodies_of_anthropic_s_own(siege: Besieged, name: str) -> None:
    """B-P49, B-P52, B-P53: by the fields that only Anthropic has, and those that it has not."""
    text, status = ANTHROPIC_BODIES[name]
    before = len(siege.provider.requests)
    answer = siege.post(text.encode(), target=MESSAGES)
    assert answer.status == status, answer.body
    if status == 200:
        assert siege.provider.requests[before].body == text.encode()
    else:
        assert_refusal(answer, anthropic=True)
        assert len(siege.provider.requests) == before


def test_each_refusal_has_words_of_its_own(siege: Besieged) -> None:
    """B-P50: a repeated key, two output limits and what has no bound are three different sentences."""
    twice, both, unbounded = (
        siege.post(GOOD_BODY[:-1] + more).error()
        for more in (b',"max_tokens":5}', b',"max_completion_tokens":5}', b',"web_search_options":{"a":1}}')
    )
    assert twice["message"] == "The request body has a field twice: max_tokens."
    assert both["message"] == "Give `max_completion_tokens` or `max_tokens`, not both."
    assert unbounded["message"].startswith("The cost of this call has no bound")
    assert "web_search_options" in unbounded["message"]
    assert [error["code"] for error in (twice, both, unbounded)] == [
        "duplicate_field",
        "invalid_request",
        "request_not_boundable",
    ]


@pytest.mark.parametrize(
    ("target", "name"), [("/v1/chat/completions", "max_tokens"), (MESSAGES, "max_tokens")], ids=["openai", "anthropic"]
)
def test_a_limit_above_the_model_s_own_is_held_for(siege: Besieged, target: str, name: str) -> None:
    """B-P49: a limit beyond what the model can make is not free: it is refused, or the whole of it is held."""
    body = json.dumps({**json.loads(GOOD_BODY if target != MESSAGES else GOOD_MESSAGE), name: 2_000_000_000}).encode()
    with siege.unheard():
        answer = siege.post(body, target=target)
    assert answer.status in {400, 402}, answer.body


# -- who is spending


def test_who_pays_is_asked_for_by_name(siege: Besieged) -> None:
    """B-P40: without an identity nothing runs, and the answer names the header that is missing."""
    answer = siege.post(who="")
    assert (answer.status, answer.code) == (400, "customer_required")
    assert "Spend-Customer" in answer.error()["message"]


@pytest.mark.parametrize("who", ["nobody", "ACME", "acme.", "acme2", "0", "customer:acme", "__proto__", "constructor"])
def test_an_unknown_customer_is_refused(siege: Besieged, who: str) -> None:
    """B-P41: no default bucket, no guess."""
    assert refused(siege, request(who=who)) == (403, "customer_unknown")


def test_an_unknown_node_of_the_tree_is_refused(siege: Besieged) -> None:
    """B-P41, B-C10: a path names what was made before; nothing is made by spending."""
    assert refused(siege, request(GOOD_BODY, "Spend-Path: team:nobody")) == (403, "customer_unknown")


@pytest.mark.parametrize(
    "lines",
    [
        ("baggage: spend.customer=other",),
        ("baggage: a=1, SPEND.Customer=other;p=1",),
        ("baggage: spend.customer=acme, spend.customer=other",),
        ("Spend-User: ada", "baggage: spend.user=bob"),
        ("Spend-Session: s1", "baggage: spend.session=%73%32"),
        ("baggage: spend.customer=acme", "Baggage: spend.customer=other"),
    ],
)
def test_two_values_for_one_field_are_a_conflict(siege: Besieged, lines: tuple[str, ...]) -> None:
    """B-P43: whoever chose between them would choose who pays."""
    assert refused(siege, request(GOOD_BODY, *lines)) == (400, "subject_conflict")


def test_the_body_decides_nothing(siege: Besieged) -> None:
    """B-P43: `user` and `metadata` are the provider's; by default they neither name nor contradict who pays."""
    body = GOOD_BODY[:-1] + b',"user":"mallory","metadata":{"customer":"mallory","spend.customer":"mallory"}}'
    answer = siege.post(body, "Spend-User: ada")
    assert answer.status == 200
    facts = siege.explained(answer)
    assert (facts["customer"], facts["subject"].get("user")) == ("acme", "ada")


TAGS = {
    "10 KB": "a" * 10_240, "129": "a" * 129, "empty": "", "up": "../", "a slash": "a/b", "a percent": "%",
    "escaped": "%41", "an equals": "a=b",
    "an emoji": "\xf0\x9f\x98\x80", "right to left": "\xe2\x80\xae", "a blank": "a b",
    "a comma": "a,b", "a quote": 'a"b',
    "angles": "<script>", "braces": "{{7*7}}", "a tab": "a\tb", "a semicolon": "a;b", "SQL": "' OR 1=1--",
}  # fmt: skip


@pytest.mark.parametrize("field", ["Session", "Agent", "Feature", "User", "Product", "Customer"])
@pytest.mark.parametrize("name", TAGS)
def test_tags_are_plain(siege: Besieged, field: str, name: str) -> None:
    """B-P44: at most 128 of [A-Za-z0-9._:@-]; anything else is refused and not repeated."""
    who = "" if field == "Customer" else "acme"
    status, code = refused(siege, request(GOOD_BODY, f"Spend-{field}: {TAGS[name]}", who=who))
    allowed = {(400, "invalid_subject"), (400, "malformed_request")}
    assert (status, code) in (allowed if name != "10 KB" else {(431, "head_too_large")})


@pytest.mark.parametrize(
    "path",
    ["team", "team:", ":x", "team:a/team:b", "customer:x", "team:a//b:c", "team:a/", "/team:a", "Team:a", "user:ada",
     "team:" + "a" * 129, "/".join(f"k{n}:a" for n in range(17)), "team:a b", "team:../x", "team:%41"],
)  # fmt: skip
def test_paths_are_plain(siege: Besieged, path: str) -> None:
    """B-P44: kind:id parts, each kind once, 16 at most."""
    assert refused(siege, request(GOOD_BODY, f"Spend-Path: {path}")) == (400, "invalid_subject")


def test_a_customer_cannot_make_children_without_end(siege: Besieged) -> None:
    """B-P44, L33: each new session under a budget for each costs an account, so an hour has only so many."""
    siege.fund("crowd")
    form = {"path": "crowd", "limit": "1", "per": "day", "each": "session", "currency": "usd"}
    assert siege.ask("/v1/budgets", form)[0] < 300
    answers = [siege.post(GOOD_BODY, f"Spend-Session: s{n}", who="crowd") for n in range(MAX_NEW_CHILDREN + 10)]
    assert [answer.status for answer in answers] == [200] * MAX_NEW_CHILDREN + [403] * 10
    assert answers[-1].code == "too_many_subjects"
    assert siege.post().status == 200
    time.sleep(BELIEVED_S)
    assert siege.post(GOOD_BODY, "Spend-Session: s0", who="crowd").status == 200


def test_a_crowd_of_new_children_does_not_stop_the_known(siege: Besieged) -> None:
    """B-P44: only what is new is turned away."""
    siege.fund("busy")
    form = {"path": "busy", "limit": "1", "per": "day", "each": "session", "currency": "usd"}
    assert siege.ask("/v1/budgets", form)[0] < 300
    for n in range(MAX_NEW_CHILDREN):
        assert siege.post(GOOD_BODY, f"Spend-Session: s{n}", who="busy").status == 200
    assert siege.post(GOOD_BODY, "Spend-Session: new", who="busy").status == 403
    assert siege.post(GOOD_BODY, "Spend-Session: s0", who="busy").status == 200


# -- heads that others trust


FOREIGN = [
    "Proxy-Authorization: Basic x", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https",
    "X-Forwarded-Prefix: /admin", "Forwarded: for=10.0.0.1;host=evil", "X-Real-IP: 10.0.0.1", "Cookie: a=b",
    "Proxy-Connection: keep-alive", "Keep-Alive: timeout=5", "TE: trailers", "Accept-Encoding: gzip, br, zstd",
]  # fmt: skip


def test_what_other_proxies_say_is_neither_sent_on_nor_believed(siege: Besieged) -> None:
    """B-P46: nothing of it goes out, and who spends is who it was."""
    before = len(siege.provider.requests)
    answer = siege.post(GOOD_BODY, *FOREIGN, "X-Own: kept")
    assert answer.status == 200
    (received,) = siege.provider.requests[before:]
    names = {line.partition(":")[0].lower() for line in FOREIGN} - {"accept-encoding"}
    assert not names & set(received.headers)
    assert received.headers["accept-encoding"] == "identity"
    assert received.headers["x-own"] == "kept"
    assert received.headers["host"].startswith("localhost:")


@pytest.mark.parametrize(
    "line",
    ["X-Upstream: http://evil", "X-Portkey-Custom-Host: http://evil", "X-Target-URL: http://evil",
     "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE", "api-base: http://evil",
     "Helicone-Target-Url: http://evil", "Spend-Upstream: http://evil"],
)  # fmt: skip
def test_no_header_picks_a_host(siege: Besieged, line: str) -> None:
    """S-50: the upstream is the configuration's, whatever a header says."""
    before = len(siege.provider.requests)
    assert siege.post(GOOD_BODY, line).status == 200
    (received,) = siege.provider.requests[before:]
    assert received.target == "/v1/chat/completions"


@pytest.mark.parametrize("field", ["api_base", "base_url", "custom_llm_provider", "upstream"])
def test_no_field_picks_a_host(siege: Besieged, field: str) -> None:
    """S-50: nor does a field of the body; one that we do not know has no bound."""
    body = GOOD_BODY[:-1] + f',"{field}":"http://evil"}}'.encode()
    assert refused(siege, request(body)) == (403, "request_not_boundable")


@pytest.mark.parametrize(
    "origin", ["https://evil", "http://localhost.evil", "null", "http://127.0.0.1@evil", "file://"]
)
def test_a_web_page_is_no_caller(siege: Besieged, origin: str) -> None:
    """B-P70: 403 for its call and for its preflight, and no header that would let it read the answer."""
    with siege.unheard():
        called = siege.post(GOOD_BODY, f"Origin: {origin}")
        head = f"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n"
        asked = siege.send(head.encode() + b"Access-Control-Request-Method: POST\r\n\r\n")
    for answer in (called, asked):
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]


# -- bodies that are too much, or coded


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1], ids=["at the bound", "one byte more"])
def test_the_bound_of_a_body_is_exact(siege: Besieged, framing: str, size: int) -> None:
    """B-P59: at the cap it is read (and refused for its content), one byte more is 413, in both framings."""
    body = b"x" * size
    if framing == "chunked":
        half = size // 2
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])]
        wire = expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n") + b"".join(parts) + b"0\r\n\r\n"
    else:
        wire = request(body)
    with siege.unheard(), siege.connect() as raw:
        raw.send_what_is_taken(wire)
        answer = raw.answer()
    assert answer.status == (400 if size == MAX_BODY_BYTES else 413)
    assert_refusal(answer)


@pytest.mark.parametrize("size", [LOCAL_BODY_BYTES_MAX, LOCAL_BODY_BYTES_MAX + 1], ids=["at the bound", "one more"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_question_to_ourselves_is_short(siege: Besieged, framing: str, size: int) -> None:
    """B-P59's neighbour: /spend/v1/ has a bound of its own, as exact, in its own form."""
    body = b" " * size
    lines = ("Content-Type: application/json",)
    if framing == "chunked":
        head = request(b"", *lines, target="/spend/v1/check").replace(
            b"Content-Length: 0", b"Transfer-Encoding: chunked"
        )
        wire = head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:50_000], body[50_000:]))
        wire += b"0\r\n\r\n"
    else:
        wire = request(body, *lines, target="/spend/v1/check")
    with siege.unheard(), siege.connect() as raw:
        raw.send_what_is_taken(wire)
        answer = raw.answer()
    assert answer.headers["content-type"] == "application/problem+json"
    told = json.loads(answer.body)
    fits = size == LOCAL_BODY_BYTES_MAX
    assert (answer.status, told["code"]) == ((400, "malformed_json") if fits else (413, "body_too_large"))


def test_a_question_that_is_too_long_is_not_read(siege: Besieged) -> None:
    """B-P59, B-P37: told by its length alone, without a 100 before it; an endless one is read to the bound."""
    line = "POST /spend/v1/usage HTTP/1.1\r\n%HOST%%WHO%"
    with siege.connect() as raw:
        raw.send(expand(line + f"Expect: 100-continue\r\nContent-Length: {MAX_BODY_BYTES - 1}\r\n\r\n"))
        assert raw.answer().status == 413
        assert raw.rest() == b""
    with siege.connect() as raw:
        raw.send(expand(line + "%CHUNKED%\r\n"))
        for _ in range(6):  # less than a model call may have
            raw.send_what_is_taken(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        answer = raw.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")


def test_an_endless_body_ends_at_the_bound(siege: Besieged) -> None:
    """B-P59, F-51: chunks without end cost no more than the cap."""
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n"))
        for _ in range(200):
            raw.send_what_is_taken(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        assert raw.answer().status == 413


GZIPPED = gzip.compress(GOOD_BODY)
CODED = {
    "good": GZIPPED, "cut off": GZIPPED[:-9], "damaged": GZIPPED[:10] + b"\xff" * 20, "no gzip at all": GOOD_BODY,
    "a bomb": gzip.compress(bytes(10_000_000)), "deflate": zlib.compress(GOOD_BODY), "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", CODED)
def test_gzip_is_not_read(siege: Besieged, name: str) -> None:
    """B-P61: what is declared gzip is 415 whatever it is (nothing is inflated); undeclared, it is no JSON: 400."""
    declared = refused(siege, request(CODED[name], "Content-Encoding: gzip"))
    assert declared == (415, "content_encoding_not_supported")
    if name != "no gzip at all":
        assert refused(siege, request(CODED[name])) == (400, "invalid_json")


@pytest.mark.parametrize(
    "coding",
    [
        "gzip, gzip",
        "br",
        "zstd",
        "deflate",
        "compress",
        "x-gzip",
        "unknown",
        "identity, gzip",
        "gzip;q=1",
        "aws-chunked",
    ],
)
def test_codings_are_not_taken(siege: Besieged, coding: str) -> None:
    """B-P62: what cannot be read cannot be priced."""
    wire = request(GOOD_BODY, f"Content-Encoding: {coding}")
    assert refused(siege, wire) == (415, "content_encoding_not_supported")


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/messages?beta=true"])
@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-7", "application/json;charset=Shift_JIS", 'text/plain; charset="UTF-16"',
     "application/json; charset=", "application/json; a=b ; CHARSET = latin-1", "x; charset=utf-8; charset=utf-7"],
)  # fmt: skip
def test_another_charset_is_another_reading(siege: Besieged, content_type: str, target: str) -> None:
    """B-P55, B-P62's neighbour: a server that believed it would read other fields out of the same bytes."""
    wire = request(GOOD_BODY, f"Content-Type: {content_type}", target=target)
    assert refused(siege, wire, anthropic="messages" in target)[0] == 415


def test_the_attack_that_a_charset_would_be() -> None:
    """Why: by us one text, by Python's own reader of UTF-7 a text and another output limit."""
    body = b'{"max_tokens":5,"a":"+ACI-,+ACI-max_tokens+ACI-:9999,+ACI-b+ACI-:+ACI-"}'
    assert json.loads(body.decode())["max_tokens"] == 5
    assert json.loads(body.decode("utf-7"))["max_tokens"] == 9999


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", 'application/json;charset="UTF-8"', "application/json; charset=us-ascii", "",
     "text/plain", "application/json; boundary=x", "application/vnd.api+json", "text/json", "application/octet-stream"],
)  # fmt: skip
def test_a_type_that_says_nothing_else_goes_on(siege: Besieged, content_type: str) -> None:
    """Whatever clients write who mean JSON in UTF-8."""
    before = len(siege.provider.requests)
    assert siege.post(GOOD_BODY, f"Content-Type: {content_type}").status == 200
    assert siege.provider.requests[before].headers["content-type"] == content_type


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/completions", "/messages"])
@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "application/x-protobuf", "text/xml",
     "application/json, application/x-www-form-urlencoded", "application/msgpack", "form; charset=utf-8", "json"],
)  # fmt: skip
def test_another_type_is_another_reading(siege: Besieged, content_type: str, target: str) -> None:
    """B-P55, B-P58's neighbour: what says that it is no JSON is not read as JSON, however well it looks like some."""
    wire = request(A_FORM_TOO, f"Content-Type: {content_type}", target=target)
    assert refused(siege, wire, anthropic="messages" in target)[0] == 415


A_FORM_TOO = GOOD_BODY.replace(b'"hi"', b'"&model=gpt-5&max_tokens=9999&"')


def test_the_attack_that_a_type_would_be() -> None:
    """Why: by us a short call of a cheap model, by a reader of forms a long one of a dear one."""
    assert (json.loads(A_FORM_TOO)["model"], json.loads(A_FORM_TOO)["max_tokens"]) == ("gpt-4o-mini", 5)
    form = parse_qs(A_FORM_TOO.decode())
    assert (form["model"], form["max_tokens"]) == (["gpt-5"], ["9999"])


@pytest.mark.parametrize("said", ["; charset=utf-16", ';charset="utf-7"', "; a=b; charset=latin-1", "; charset="])
def test_a_question_in_another_charset_is_not_taken(siege: Besieged, said: str) -> None:
    """B-P55's neighbour at /spend/v1: read in UTF-8 or not at all."""
    body = b'{"feature":"agent_step","quantity":1}'
    for more, status in ((said, 415), ('; charset="UTF-8"', 200)):
        wire = request(body, f"Content-Type: application/json{more}", target="/spend/v1/check")
        assert siege.send(wire).status == status


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Cross-Site"])
@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/files", "/spend/v1/check"])
def test_what_a_browser_sends_without_an_origin(siege: Besieged, target: str, site: str) -> None:
    """B-P70's neighbour: it still says that another site made it do so."""
    with siege.unheard():
        answer = siege.post(GOOD_BODY, f"Sec-Fetch-Site: {site}", "Content-Type: application/json", target=target)
    assert answer.status == 403


def multipart(parts: int, *, nested: bool = False) -> bytes:
    """A form with so many parts."""
    inner = b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--" if nested else b"\r\nx"
    return b"".join(b"--b\r\n" + inner + b"\r\n" for _ in range(parts)) + b"--b--\r\n"


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/files"])
@pytest.mark.parametrize("kind", ["100,000 parts", "nested", "no boundary"])
def test_forms(siege: Besieged, kind: str, target: str) -> None:
    """B-P58: a metered path takes none; on a path that passes uncounted the cap holds, and no part is looked at."""
    body = {"100,000 parts": multipart(100_000), "nested": multipart(3, nested=True), "no boundary": b"--b\r\n"}[kind]
    content_type = "multipart/form-data" + ("" if kind == "no boundary" else "; boundary=b")
    with siege.connect() as raw:
        raw.send_what_is_taken(request(body, f"Content-Type: {content_type}", target=target))
        answer = raw.answer()
    if kind == "100,000 parts":
        assert answer.status == 413
    else:
        assert answer.status == (400 if target != "/v1/files" else 200)


# -- idempotency keys


@pytest.mark.parametrize(
    "key", ["", " ", "a" * 256, "a" * 10_240, "a b", "a\tb", "\xff\xfe", "\xc3\xa9"],
    ids=["empty", "blank", "256", "10 KB", "a blank within", "a tab", "binary", "UTF-8"],
)  # fmt: skip
def test_idempotency_keys_are_plain(siege: Besieged, key: str) -> None:
    """B-P65: 1 to 255 characters of printable ASCII."""
    status, _ = refused(siege, request(GOOD_BODY, f"Idempotency-Key: {key}"))
    assert status == (400 if len(key) < 9000 else 431)


def test_a_good_idempotency_key_goes_on(siege: Besieged) -> None:
    """B-P65: of 1 and of 255 characters; it is the provider's to use."""
    for key in ("a", "~" * 255):
        before = len(siege.provider.requests)
        assert siege.post(GOOD_BODY, f"Idempotency-Key: {key}").status == 200
        assert siege.provider.requests[before].headers["idempotency-key"] == key


def test_a_key_used_for_another_body_is_refused(siege: Besieged) -> None:
    """B-P64: a captured request cannot be changed and sent again under its key; the same one is a call of its own."""
    key = "Idempotency-Key: k-1"
    assert siege.post(GOOD_BODY, key).status == 200
    assert siege.post(GOOD_BODY, key).status == 200
    assert refused(siege, request(GOOD_BODY.replace(b"hi", b"ho"), key)) == (400, "idempotency_mismatch")
    siege.fund("other")
    assert siege.post(GOOD_BODY.replace(b"hi", b"ho"), key, who="other").status == 200


# -- whatever else somebody may think of

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["gpt-4o-mini", "", "auto"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "tools", "functions",
     "response_format", "prediction", "modalities", "audio", "service_tier", "metadata", "user", "system", "thinking",
     "web_search_options", "container", "mcp_servers", "context_management", "cache_control", "speed", "temperature"]
)  # fmt: skip
_REQUESTS = st.dictionaries(_FIELDS | st.text(max_size=6), _VALUES, max_size=8)


@settings(max_examples=150)
@given(fields=_REQUESTS, usual=st.booleans(), target=st.sampled_from(["/v1/chat/completions", MESSAGES]))
def test_no_json_brings_it_down(siege: Besieged, fields: dict[str, Any], usual: bool, target: str) -> None:
    """Any JSON under any known field: passed on as it was, or refused with 4xx in its protocol's shape."""
    base = json.loads(GOOD_MESSAGE if target == MESSAGES else GOOD_BODY) if usual else {}
    body = json.dumps({**base, **fields}).encode()
    before = len(siege.provider.requests)
    answer = siege.post(body, target=target)
    assert answer.status == 200 or 400 <= answer.status < 500, answer.body
    if answer.status == 200:
        sent = siege.provider.requests[before].body
        asked = re.sub(rb'"stream_options":\{"include_usage":true\},', b"", sent)
        assert asked == body or json.loads(sent)["stream_options"]["include_usage"] is True
        assert siege.explained(answer)["outcome"] == "settled"
    else:
        assert_refusal(answer, anthropic=target == MESSAGES)
        assert len(siege.provider.requests) == before


@settings(max_examples=150)
@given(body=mutated("request"), target=st.sampled_from(["/v1/chat/completions", MESSAGES]))
def test_no_body_brings_it_down(siege: Besieged, body: bytes, target: str) -> None:
    """Good requests with some of their bytes changed: passed on as they are but for the usage asked for, or 4xx."""
    before = len(siege.provider.requests)
    answer = siege.post(body, target=target)
    if answer.status == 200:
        (sent,) = siege.provider.requests[before:]
        theirs, ours = json.loads(sent.body), json.loads(body)
        if sent.body != body:
            assert theirs.pop("stream_options")["include_usage"] is True
            ours.pop("stream_options", None)
        assert theirs == ours
        assert siege.explained(answer)["outcome"] == "settled"
    else:
        assert 400 <= answer.status < 500, answer.body
        assert_refusal(answer, anthropic=target == MESSAGES)
        assert len(siege.provider.requests) == before


_HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
_MEMBER = st.builds(
    lambda key, value: f"{key}={value}",
    st.sampled_from(["spend.customer", "spend.user", "spend.path", "spend.session", "SPEND.agent", "spend.", "a", ""]),
    _HEADER_TEXT,
)
_BAGGAGE = st.one_of(_HEADER_TEXT, st.lists(_MEMBER, max_size=4).map(",".join))


@settings(max_examples=150)
@given(
    fields=st.dictionaries(
        st.sampled_from(["Customer", "Path", "User", "Agent", "Session", "Feature", "Product", "Limit", "Anything"]),
        st.one_of(_HEADER_TEXT, st.sampled_from(["acme", "team:a", "ada", "s-1"])),
        max_size=4,
    ),
    baggage=st.none() | _BAGGAGE,
)
def test_no_identity_brings_it_down(siege: Besieged, fields: dict[str, str], baggage: str | None) -> None:
    """Any identity headers and baggage: a call of who was named, or 4xx; nothing of ours leaves."""
    lines = [f"Spend-{name}: {value}" for name, value in fields.items()]
    lines += [] if baggage is None else [f"baggage: {baggage}"]
    before = len(siege.provider.requests)
    answer = siege.send(request(GOOD_BODY, *lines, who="" if "Customer" in fields else "acme"))
    assert answer.status == 200 or 400 <= answer.status < 500, answer.body
    if answer.status == 200:
        facts = siege.explained(answer)
        assert facts["customer"] == "acme"
        head = siege.provider.requests[before].head.lower()
        assert b"\r\nspend-" not in head
        assert not re.search(rb"baggage:.*spend\.(?:customer|user|path|session|agent)=", head)
    else:
        assert_refusal(answer)
        assert len(siege.provider.requests) == before
