"""A provider's key that the product injects is found nowhere but at that provider (S-20, S-22, S-24, B-P47).

Canaries are planted wherever a secret can be: the injected key, the caller's own keys in every
header that may hold one and in the query, a virtual key, a cookie, and the prompt itself. Then every
byte that the callers got, that the other upstream got, that was logged, counted, explained or
written to disk is searched for each of them.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input.conftest import Started
from tests.support.besieged import GOOD_BODY, GOOD_MESSAGE, MESSAGES, Answer, Besieged, request
from tests.support.recording_provider import RecordingProvider, recording_provider
from tests.support.scripted_provider import Script, Wait

INJECTED = "canaryInjected5f2b9c71e0"
"""Without `sk-` in front: it must not be found by its looks."""

OWN = "sk-canary-own-0a1b2c3d4e"
VIRTUAL = "sk-spend-canary-9f8e7d6c5b"
COOKIE = "canaryCookie44aa55bb66"
PROMPT = "canaryPrompt77cc88dd99"

SEEN: list[bytes] = []
"""Every byte that callers got."""


@pytest.fixture(scope="module")
def other() -> Iterator[RecordingProvider]:
    """Anthropic's place: an upstream without an injected key."""
    with recording_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def siege(started: Started, other: RecordingProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    """The product with a key for OpenAI, logging all it can."""
    secret = tmp_path_factory.mktemp("secret") / "openai"
    secret.write_text(f"{INJECTED}\n")
    settings = {
        "SPEND_UPSTREAMS__OPENAI__KEY_FILE": str(secret),
        "SPEND_UPSTREAMS__ANTHROPIC__BASE_URL": other.url,
        "SPEND_LOG__LEVEL": "DEBUG",
    }
    with started(**settings) as siege:
        yield siege


def kept(answer: Answer) -> Answer:
    """The answer, remembered for the search."""
    SEEN.append(answer.head + answer.body)
    return answer


OWN_KEYS = [
    f"Authorization: Bearer {OWN}",
    f"x-api-key: {OWN}",
    f"api-key: {OWN}",
    f"x-goog-api-key: {OWN}",
]


@pytest.mark.parametrize("line", OWN_KEYS)
def test_the_caller_s_own_key_gives_way(siege: Besieged, line: str) -> None:
    """B-P47: where a key is injected the caller's own never goes out, in whatever header it came."""
    before = len(siege.provider.requests)
    assert kept(siege.post(GOOD_BODY, line)).status == 200
    (received,) = siege.provider.requests[before:]
    assert received.headers["authorization"] == f"Bearer {INJECTED}"
    assert OWN.encode() not in received.head + received.body


@pytest.mark.parametrize("query", [f"key={OWN}", f"a=1&key={OWN}&b=2", f"key={OWN}&key={OWN}", f"&key={OWN}"])
def test_a_key_in_the_query_gives_way_too(siege: Besieged, query: str) -> None:
    """B-P47: Gemini takes a key there."""
    before = len(siege.provider.requests)
    assert kept(siege.post(GOOD_BODY, target=f"/v1/chat/completions?{query}")).status == 200
    assert OWN not in siege.provider.requests[before].target


@pytest.mark.parametrize(
    "query", [f"KEY={OWN}", f"%6bey={OWN}", f"api_key={OWN}", f"api-key={OWN}", f"access_token={OWN}"]
)
def test_a_key_in_the_query_by_another_name(siege: Besieged, query: str) -> None:
    """B-P47: whatever some server would read as a key in the query is not sent on beside the injected one."""
    before = siege.provider.heard
    kept(siege.post(GOOD_BODY, target=f"/v1/chat/completions?{query}"))
    assert OWN.encode() not in siege.provider.all_heard()[before:]


def test_without_injection_the_own_key_goes_to_its_provider_and_no_other(
    siege: Besieged, other: RecordingProvider
) -> None:
    """S-20: a key goes to the provider that it was sent for; the injected one never to another."""
    answer = kept(siege.post(GOOD_MESSAGE, f"x-api-key: {OWN}", "anthropic-version: 2023-06-01", target=MESSAGES))
    assert answer.status == 200
    assert OWN.encode() in other.all_heard()
    assert INJECTED.encode() not in other.all_heard()


@pytest.mark.parametrize(
    "line",
    [f"Authorization: Bearer {VIRTUAL}", f"x-api-key: {VIRTUAL}", f"Spend-Key: {VIRTUAL}", f"X-Trace: {VIRTUAL}",
     f"X-Request-Id: {VIRTUAL}", f"baggage: key={VIRTUAL}", f"User-Agent: {VIRTUAL}", f"{VIRTUAL}: 1",
     f"Spend-User: {VIRTUAL}", f"Cookie: {VIRTUAL}"],
)  # fmt: skip
def test_a_virtual_key_never_leaves(siege: Besieged, other: RecordingProvider, line: str) -> None:
    """Ours names who spends; no provider has any use for it, with injection or without, whatever it was put into."""
    kept(siege.post(GOOD_BODY, line))
    kept(siege.post(GOOD_MESSAGE, line, target=MESSAGES))
    for place in (
        f"{MESSAGES}?key={VIRTUAL}",
        f"{MESSAGES}?{VIRTUAL}",
        f"{MESSAGES}?a=1&{VIRTUAL}=1",
        f"/v1/{VIRTUAL}",
    ):
        assert kept(siege.post(GOOD_MESSAGE, line, target=place)).status in (400, 401)
    assert VIRTUAL.encode() not in siege.provider.all_heard() + other.all_heard()


@pytest.mark.parametrize(
    "script",
    [
        Script(
            401, (("Content-Type", "application/json"), ("WWW-Authenticate", f'Bearer realm="{INJECTED}"')), (b"{}",)
        ),
        Script(200, (("X-Debug", f"authorization: Bearer {INJECTED}"),), (b"{}",)),
        Script(302, (("Location", f"http://169.254.169.254/?key={INJECTED}"),), (b"",)),
        Script(200, (("X-A", "1"), ("Set-Cookie", f"k={INJECTED}")), (b"{}",)),
    ],
    ids=["WWW-Authenticate", "a debug header", "Location", "a cookie"],
)
def test_a_provider_that_repeats_the_key_in_a_header(siege: Besieged, script: Script) -> None:
    """S-20: response headers that hold the injected key stay here."""
    siege.provider.then(script)
    answer = kept(siege.post())
    assert answer.status == script.status
    assert INJECTED.encode() not in answer.head


@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_provider_that_repeats_the_key_in_its_answer(siege: Besieged, status: int) -> None:
    """S-20: in a whole answer it is blackened, byte for byte; the rest stays as it was."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {INJECTED}."}}).encode()
    siege.provider.then(Script(status, (("Content-Type", "application/json"),), (body,)))
    answer = kept(siege.post())
    assert answer.status == status
    assert len(answer.body) == len(body)
    assert answer.body == body.replace(INJECTED.encode(), b"*" * len(INJECTED))


@pytest.mark.parametrize("cut", [1, 8, len(INJECTED) - 1, len(INJECTED)])
def test_a_provider_that_repeats_the_key_in_a_stream(siege: Besieged, cut: int) -> None:
    """S-20: wherever the network cuts it, also where only the first bytes of it come and then others."""
    key = INJECTED.encode()
    stream: list[bytes | Wait] = [
        b"data: {" + key[:cut],
        Wait(0.02),
        key[cut:] + b"}\n\ndata: " + key[:cut],
        Wait(0.02),
        b"\n\n",
        key,
    ]
    siege.provider.then(Script.stream([piece for piece in stream if piece]))
    answer = kept(siege.post(GOOD_BODY[:-1] + b',"stream":true}'))
    whole = b"".join(piece for piece in stream if isinstance(piece, bytes))
    assert answer.complete
    assert answer.body == whole.replace(key, b"*" * len(key))


def test_a_provider_that_breaks_over_the_key(siege: Besieged) -> None:
    """S-22: what is broken is not repeated in our error, nor in the log."""
    for wire in (b"HTTP/1.1 999 " + INJECTED.encode() + b"\r\n\r\n", INJECTED.encode() + b" HTTP/1.1\r\n\r\n"):
        siege.provider.then(Script.raw(wire))
        assert kept(siege.post()).status == 502


MALFORMED = [
    f"Authorization: Bearer {OWN}\x01",
    f"{OWN}: x",
    f"X-{OWN}\xff: x",
    f"Authorization: Bearer {OWN}\r\nAuthorization: Bearer {OWN}",
    f"Spend-User: {OWN} {OWN}",
    f"Spend-Path: {OWN}",
    f"Idempotency-Key: {OWN} x",
    f"Content-Encoding: {OWN}",
    f"Transfer-Encoding: {OWN}",
    f"Expect: {OWN}",
    f"Origin: https://{OWN}",
]


@pytest.mark.parametrize("line", MALFORMED)
def test_what_is_refused_is_not_repeated(siege: Besieged, line: str) -> None:
    """S-22: a key in a place where it makes the request bad comes back in no refusal."""
    answer = kept(siege.post(GOOD_BODY, line))
    assert OWN.encode() not in answer.head + answer.body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o-mini","max_tokens":"' + OWN.encode() + b'"}',
        b'{"model":["' + OWN.encode() + b'"]}',
        b'{"' + OWN.encode() + b'":1,"' + OWN.encode() + b'":2}',
        OWN.encode(),
        GOOD_BODY[:-1] + b',"service_tier":"' + OWN.encode() * 5 + b'"}',
    ],
)
def test_a_bad_body_is_not_repeated_in_the_log(siege: Besieged, body: bytes) -> None:
    """S-22, S-23: the caller may be shown its own field's name; the log may not."""
    siege.new_lines()
    siege.post(body)
    assert not [line for line in siege.new_lines() if OWN in line]


def test_prompts_are_nowhere(siege: Besieged) -> None:
    """S-23: what was asked is in no log, no metric and no file."""
    body = GOOD_BODY.replace(b'"hi"', f'"{PROMPT}"'.encode())
    assert siege.post(body, f"Cookie: session={COOKIE}").status == 200
    assert siege.post(body[:-1] + b',"max_completion_tokens":1}').status == 400
    assert siege.post(body, who="nobody").status == 403


def test_no_canary_is_anywhere(siege: Besieged) -> None:
    """Every byte that left the process or stays behind it, searched; runs last."""
    ids = [
        line.split("request_id=")[1].split()[0] for line in siege.product.log().splitlines() if "request_id=" in line
    ]
    assert len(ids) >= 10
    explained = [siege.ask(f"/v1/requests/{request_id}") for request_id in ids]
    told = [
        siege.ask("/v1/customers/acme/entries"),
        siege.ask("/v1/usage?customer=acme"),
        siege.ask("/v1/customers/acme/balance"),
    ]
    with urllib.request.urlopen(f"{siege.product.health}/metrics") as scraped:
        metrics = scraped.read()
    assert siege.product.process is not None
    command = Path(f"/proc/{siege.product.process.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{siege.product.process.pid}/environ").read_bytes()
    files = {path: path.read_bytes() for path in siege.product.data.rglob("*") if path.is_file()}
    places = {
        "log": siege.product.log().encode(), "metrics": metrics, "explain": repr(explained).encode(),
        "admin": repr(told).encode(), "command line": command, "environment": environment,
        **{str(path): data for path, data in files.items()},
    }  # fmt: skip
    assert len(files) >= 3
    for canary in (INJECTED, OWN, VIRTUAL, COOKIE, PROMPT):
        found = [place for place, data in places.items() if canary.encode() in data]
        assert found == [], canary
    for canary in (INJECTED, VIRTUAL, COOKIE, PROMPT):
        assert not [seen for seen in SEEN if canary.encode() in seen], canary


def test_the_search_can_find(siege: Besieged) -> None:
    """The canaries are where they belong: a search that finds nothing there either proves nothing."""
    assert siege.send(request(GOOD_BODY.replace(b'"hi"', f'"{PROMPT}"'.encode()))).status == 200
    assert INJECTED.encode() in siege.provider.all_heard()
    assert PROMPT.encode() in siege.provider.all_heard()
    assert len(SEEN) > 20
