"""Hostile heads and framing on the proxy's port (B-P01 … B-P38, B-P67, B-P68): one clear answer, and nothing gets on.

Every request here is a usual one but for one thing, so that a door which did not see that thing
would let it through to the provider. The cases stand in `corpus/framing.jsonl` and
`corpus/smuggling.jsonl`; more of the same, in one process and on both loops, is in
`end_to_end/test_accepting.py`.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bad_input.conftest import Started
from tests.support.besieged import GOOD_BODY, LINE, Answer, Besieged, assert_refusal, request
from tests.support.corpus import Case, cases, expand

MAX_BODY_BYTES = 1_000_000
HEAD_TIMEOUT_S = 1
BODY_TIMEOUT_S = 2

FENCE = "%GOOD%X-Fence: 1\r\n\r\n%BODY%"
WELL_FORMED = re.compile(rb"POST /v1/chat/completions HTTP/1\.1\r\n(?:[!-9;-~]+: [ -~]*\r\n)+\r\n")
EVENTS = {"request_refused", "request_unfit", "request_denied", "request_settled"}


@pytest.fixture(scope="module")
def siege(started: Started) -> Iterator[Besieged]:
    """The product with short deadlines and a small body."""
    bounds = {
        "SPEND_DOOR__MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "SPEND_DOOR__HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S),
        "SPEND_DOOR__BODY_TIMEOUT_S": str(BODY_TIMEOUT_S),
        "SPEND_DOOR__BODY_GRACE_S": "0.5",
        "SPEND_DOOR__BODY_MIN_BYTES_PER_S": "1000",
        "SPEND_DOOR__LINGER_S": "0.2",
    }
    with started(**bounds) as siege:
        yield siege


def test_a_usual_request_passes(siege: Besieged) -> None:
    """What every case is a change of."""
    before = len(siege.provider.requests)
    answer = siege.send(expand("%GOOD%\r\n%BODY%"))
    assert answer.status == 200
    assert siege.provider.requests[before].body == GOOD_BODY
    assert siege.send(expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n%CHUNKS%")).status == 200
    assert siege.provider.requests[before + 1].body == GOOD_BODY


@pytest.mark.parametrize("case", cases("framing"))
def test_hostile_framing_is_refused(siege: Besieged, case: Case) -> None:
    """One answer, then the end; nothing sent on, nothing repeated, one line in the log at most, no fault."""
    siege.new_lines()
    with siege.unheard(), siege.connect() as raw:
        raw.send_what_is_taken(case.wire)
        answer = raw.answer(method=case.wire.partition(b" ")[0].decode("latin-1"))
        assert answer.status in case.statuses, answer.body
        if case.wire.startswith(b"POST"):
            assert_refusal(answer)
            assert b"evil" not in answer.body
            assert b"admin" not in answer.body
        if "code" in case.facts:
            assert answer.code == case.facts["code"]
        if answer.headers.get("connection") == "close":
            assert raw.rest() == b""
    lines = siege.new_lines()
    assert len(lines) <= 1
    assert all(LINE.match(line) and "evil" not in line and line.split()[2] in EVENTS for line in lines), lines


BROKEN_HEADS = {
    "a bad line": b"X Y: a\r\n\r\n", "a long line": b"X: " + b"a" * 9000 + b"\r\n\r\n",
    "too many lines": b"X: a\r\n" * 200 + b"\r\n", "a head without end": (b"X: " + b"a" * 8000 + b"\r\n") * 10,
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "a drip": b"X: a\r\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN_HEADS)
@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("target", ["/v1/messages", "/messages?beta=true", "/v1/chat/completions", "/spend/v1/check"])
def test_a_head_that_cannot_be_read_is_refused_in_its_sender_s_protocol(
    siege: Besieged, target: str, pieces: int, kind: str
) -> None:
    """Told by the target of its first line, in how many pieces it came; an SDK shows its user our words so."""
    wire = expand(f"POST {target} HTTP/1.1\r\n%HOST%%WHO%") + BROKEN_HEADS[kind]
    at = [0, 1, 10][:pieces]  # within the method, and within the target
    with siege.unheard(), siege.connect() as raw:
        for start, end in zip(at, [*at[1:], len(wire)], strict=True):
            raw.send_what_is_taken(wire[start:end])
            time.sleep(0.01)
        answer = raw.answer()
        assert raw.rest() == b""
    assert answer.status in {400, 408, 431}
    if target.startswith("/spend"):
        assert answer.headers["content-type"] == "application/problem+json"
    else:
        assert_refusal(answer, anthropic="messages" in target)


@pytest.mark.parametrize("case", cases("smuggling"))
def test_nothing_is_smuggled(siege: Besieged, case: Case) -> None:
    """As many answers as there are requests, by our reading; what hides behind one is never sent on."""
    before = len(siege.provider.requests)
    allowed: list[list[int]] = case.facts["answers"]
    answers: list[Answer] = []
    with siege.connect() as raw:
        raw.send_what_is_taken(case.wire)
        while not answers or (answers[-1].status == 200 and len(answers) < max(map(len, allowed))):
            answers.append(raw.answer(method="HEAD" if "head" in case.facts else "POST"))
            if answers[-1].headers.get("connection") == "close":
                break
        statuses = [answer.status for answer in answers]
        assert statuses in allowed
        if answers[-1].headers.get("connection") == "close":
            assert "head" in case.facts or raw.rest() == b""
        else:  # both sides agree on where the next request begins
            raw.send(expand(FENCE))
            statuses.append(raw.answer().status)
            assert statuses[-1] == 200
            assert raw.pending() == b""
    passed = siege.provider.requests[before:]
    assert len(passed) == statuses.count(200)
    for received in passed:
        assert received.body == GOOD_BODY
        assert b"smuggled" not in received.head
        assert WELL_FORMED.fullmatch(received.head)
        assert received.head.lower().count(b"\r\ncontent-length:") == 1
        assert received.head.lower().count(b"\r\nhost:") == 1
        assert b"\r\ntransfer-encoding:" not in received.head.lower()
    assert siege.provider.strays() == []


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_no_request(siege: Besieged, seed: int) -> None:
    """B-P13: 256 bytes of noise: 400 and closed, or 408 if they might have become a head."""
    noise = random.Random(seed).randbytes(256)
    with siege.unheard(), siege.connect() as raw:
        raw.send_what_is_taken(noise)
        answer = raw.answer()
        assert answer.status in {400, 408}
        assert raw.rest() == b""


def test_trailers_never_become_headers(siege: Besieged) -> None:
    """B-P25: what comes behind a chunked body is ignored: it names no customer, and does not go on."""
    before = len(siege.provider.requests)
    head = expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n%SIZE%\r\n%BODY%\r\n0\r\n")
    answer = siege.send(head + b"X-T: 1\r\nSpend-Customer: nobody\r\nAuthorization: Bearer t\r\n\r\n")
    assert answer.status == 200
    assert siege.explained(answer)["customer"] == "acme"
    (received,) = siege.provider.requests[before:]
    assert not {"x-t", "authorization"} & set(received.headers)
    nobody = head.replace(b"Spend-Customer: acme\r\n", b"")
    answer = siege.send(nobody + b"Spend-Customer: acme\r\n\r\n")
    assert (answer.status, answer.code) == (400, "customer_required")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_stays_away_is_given_up(siege: Besieged, framing: str) -> None:
    """B-P26, F-49: 408 at the deadline, and the connection is closed."""
    says = "Content-Length: 100\r\n\r\n{" if framing == "length" else "%CHUNKED%\r\n5\r\n{"
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand("%LINE%%HOST%%WHO%" + says))
        answer = raw.answer()
        assert answer.status == 408
        assert_refusal(answer)
        assert raw.rest() == b""


def test_a_body_that_drips_is_given_up(siege: Besieged) -> None:
    """B-P26, F-49: below the least rate it is 408, however alive it looks."""
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand("%LINE%%HOST%%WHO%Content-Length: 100000\r\n\r\n{"))
        for _ in range(10):
            raw.send(b" ")
            time.sleep(0.05)
        assert raw.answer().status == 408


def test_what_is_counted_of_one_request_is_not_held_against_the_next(siege: Besieged) -> None:
    """B-P22: heads in two pieces and bodies in small chunks, again and again on one connection, pass."""
    plain = request(GOOD_BODY, "X-Long: " + "a" * 7000)
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in GOOD_BODY) + b"0\r\n\r\n"
    chunked = expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n") + chunks
    with siege.connect() as raw:
        for _ in range(15):
            for wire in (plain, chunked):
                raw.send(wire[:300], wire[300:], pause_s=0.002)
                assert raw.answer().status == 200
        raw.send(chunked + chunked + plain[:3000], plain[3000:], pause_s=0.02)
        assert [raw.answer().status for _ in range(3)] == [200, 200, 200]


LONG_HEAD = request(GOOD_BODY, *(f"X-{number}: {'a' * 6000}" for number in range(6)))
LINE_ALONE = expand("%LINE%")
CHUNKED_CALL = expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n%CHUNKS%")


@pytest.mark.parametrize("before", [0, 2, 3, 4], ids=lambda cut: f"{cut} bytes of the end")
def test_a_long_head_behind_chunks_is_not_their_framing(siege: Besieged, before: int) -> None:
    """B-P22: in one read with the chunks' end, or a part of it, comes most of the next head: both are answered."""
    end = len(CHUNKED_CALL) - before
    with siege.connect() as raw:
        for _ in range(2):
            pieces = (CHUNKED_CALL[:end], CHUNKED_CALL[end:] + LONG_HEAD[:25_000], LONG_HEAD[25_000:])
            raw.send(*[piece for piece in pieces if piece], pause_s=0.05)
            assert [raw.answer().status for _ in range(2)] == [200, 200]
        raw.send(CHUNKED_CALL + LONG_HEAD[:25_000], LONG_HEAD[25_000:] + CHUNKED_CALL + LONG_HEAD, pause_s=0.05)
        assert [raw.answer().status for _ in range(4)] == [200] * 4


def test_padding_is_seen_whatever_follows_it(siege: Besieged) -> None:
    """B-P22: a chunk's extension of 20 KB is refused with a whole request, or a part of one, behind it."""
    padded = expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n%SIZE%;") + b"a" * 20_000 + expand("\r\n%BODY%\r\n0\r\n\r\n")
    for behind in (b"", LINE_ALONE, LONG_HEAD[:5000], LONG_HEAD, CHUNKED_CALL):
        with siege.unheard(), siege.connect() as raw:
            raw.send_what_is_taken(padded + behind)
            answer = raw.answer()
            assert (answer.status, answer.code) == (400, "malformed_request")
            assert raw.rest() == b""


def test_a_head_that_began_behind_chunks_has_its_deadline(siege: Besieged) -> None:
    """F-48: it is counted from the read that brought its first bytes, though nothing follows them."""
    with siege.connect() as raw:
        raw.send(CHUNKED_CALL + LONG_HEAD[:5000])
        assert raw.answer().status == 200
        answer = raw.answer()
        assert answer.status == 408
        assert_refusal(answer)


def test_padding_that_comes_piece_by_piece(siege: Besieged) -> None:
    """B-P22: nor do chunk extensions pass that come in many reads."""
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n%SIZE%;"))
        for _ in range(40):
            raw.send_what_is_taken(b"a" * 1000)
            time.sleep(0.002)
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "malformed_request")


def test_a_head_that_drips_is_given_up(siege: Besieged) -> None:
    """B-P26's neighbour, F-48: the head has a deadline of its own, from its first byte to its last."""
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand("%LINE%"))
        for number in range(8):
            raw.send(b"X-%d: drip\r\n" % number)
            time.sleep(0.1)
        answer = raw.answer()
        assert answer.status == 408
        assert_refusal(answer)
        assert raw.rest() == b""


def test_an_expected_body_over_the_bound_is_not_invited(siege: Besieged) -> None:
    """B-P37, F-51: the final 413 comes by the length alone, without a 100 before it."""
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand("%LINE%%HOST%%WHO%Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n"))
        answer = raw.answer()
        assert answer.status == 413
        assert_refusal(answer)
        assert raw.rest() == b""


REFUSED_BY_HEAD = {
    "nobody who spends": (expand("%LINE%%HOST%"), 400, "customer_required"),
    "who is malformed": (expand("%LINE%%HOST%%WHO%Spend-User: a b\r\n"), 400, "invalid_subject"),
    "two who differ": (expand("%LINE%%HOST%%WHO%baggage: spend.customer=other\r\n"), 400, "subject_conflict"),
    "no path of ours": (expand("POST /v1/nothing HTTP/1.1\r\n%HOST%%WHO%"), 403, "endpoint_not_metered"),
}


@pytest.mark.parametrize("why", REFUSED_BY_HEAD)
@pytest.mark.parametrize("framing", ["Content-Length: 900000", "Transfer-Encoding: chunked"])
def test_a_body_that_could_not_help_is_not_invited(siege: Besieged, why: str, framing: str) -> None:
    """B-P37's neighbour: what the head alone refuses has no 100 before its refusal, and what follows is no request."""
    head, status, code = REFUSED_BY_HEAD[why]
    with siege.unheard(), siege.connect() as raw:
        raw.send(head + f"{framing}\r\nExpect: 100-continue\r\n\r\n".encode())
        answer = raw.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")
        assert_refusal(answer)
        raw.send_what_is_taken(expand("%HIDDEN%"))
        assert raw.rest() == b""


def test_who_half_closes_has_gone(siege: Besieged) -> None:
    """B-P67: a caller who shuts its writing side gets nothing more; its call is measured and settled all the same."""
    settled = siege.metric("spend_settlements_total")
    with siege.connect() as raw:
        raw.send(request())
        raw.shut_writing()
        raw.rest()
    until = time.monotonic() + 5
    while siege.metric("spend_settlements_total") == settled and time.monotonic() < until:
        time.sleep(0.02)
    admitted = siege.metric('spend_decisions_total{outcome="admitted"')
    assert siege.metric("spend_settlements_total") == admitted


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("framing", ["%LEN%\r\n%BODY%", "%CHUNKED%\r\n%CHUNKS%"], ids=["length", "chunked"])
def test_a_get_has_no_body(siege: Besieged, method: str, framing: str) -> None:
    """B-P68: 400, and closed: the next request may begin anywhere in it."""
    with siege.unheard(), siege.connect() as raw:
        raw.send(expand(f"{method} /v1/chat/completions HTTP/1.1\r\n%HOST%%WHO%" + framing))
        answer = raw.answer(method=method)
        assert answer.status == 400
        assert raw.rest() == b""


NONSENSE = {
    "no request": b"nonsense\r\n\r\n",
    "no JSON": request(b"nonsense"),
    "no metered path": request(target="/nonsense"),
    "no subject": request(GOOD_BODY, "Spend-User: nonsense nonsense"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_flood_of_refusals_is_not_a_flood_of_lines(siege: Besieged, kind: str) -> None:
    """S-26: whoever sends nonsense does not fill the disk: few lines a second, each short and of one piece."""
    siege.new_lines()
    began = time.monotonic()
    for _ in range(100):
        assert siege.send(NONSENSE[kind]).status in {400, 403}
    lines = siege.new_lines()
    assert len(lines) <= 5 * (time.monotonic() - began + 2)
    assert all(len(line) < 200 and "nonsense" not in line for line in lines)


# -- whatever else somebody may think of

_TOKEN = st.text("!#$%&'*+-.^_`|~" + "abcdefghijXYZ019", min_size=1, max_size=12).map(str.encode)
_JUNK = st.binary(max_size=24)
_NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade", b"Spend-Customer",
     b"Spend-Path", b"baggage", b"Origin", b"Content-Encoding", b"Trailer", b"TE", b"Content-Type"]
)  # fmt: skip
_VALUES = st.sampled_from(
    [b"localhost", b"82", b"0", b"chunked", b"close", b"keep-alive", b"100-continue", b"acme", b"", b"*", b"gzip"]
)
_LINES = st.tuples(
    st.one_of(_NAMES, _TOKEN, _JUNK),
    st.sampled_from([b": ", b":", b" : ", b"", b":\t"]),
    st.one_of(_VALUES, _TOKEN, _JUNK),
    st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"", b"\r\n "]),
).map(b"".join)
_HEADS = st.builds(
    lambda method, target, version, lines, usual: b"%b %b %b\r\n%b%b\r\n" % (method, target, version, usual, lines),
    st.one_of(st.sampled_from([b"POST", b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b""]), _TOKEN),
    st.one_of(st.sampled_from([b"/v1/chat/completions", b"/v1/messages", b"*", b"/", b"http://evil/"]), _JUNK),
    st.one_of(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b""]), _JUNK),
    st.lists(_LINES, max_size=6).map(b"".join),
    st.sampled_from([b"", expand("%HOST%%WHO%%LEN%"), expand("%HOST%%WHO%"), expand("%HOST%%WHO%%CHUNKED%")]),
)


@settings(max_examples=150)
@given(head=_HEADS, body=st.one_of(st.just(GOOD_BODY), _JUNK))
def test_no_head_brings_it_down(siege: Besieged, head: bytes, body: bytes) -> None:
    """Any head at all: an answer that HTTP has for it, or a wait for more that its deadline ends; never a fault."""
    assert_answered_or_waited_for(siege, head + body)


_SIZES = st.one_of(
    st.sampled_from([b"52", b"0", b"052", b"1", b"ffffffff", b"-1", b"", b"52;a=b", b'52;a="b\r\n"', b"5g", b"0x52"]),
    _JUNK,
)
_CHUNKS = st.tuples(
    _SIZES,
    st.sampled_from([b"\r\n"] * 6 + [b"\n", b""]),
    st.one_of(st.just(GOOD_BODY), _JUNK),
    st.sampled_from([b"\r\n"] * 6 + [b"\n", b""]),
).map(b"".join)


@settings(max_examples=100)
@given(chunks=st.lists(_CHUNKS, max_size=4), end=st.sampled_from([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n", b""]))
def test_no_chunks_bring_it_down(siege: Besieged, chunks: list[bytes], end: bytes) -> None:
    """Any chunks: taken as a whole, or refused, or waited for; what goes on is the body that we read and no more."""
    assert_answered_or_waited_for(siege, expand("%LINE%%HOST%%WHO%%CHUNKED%\r\n") + b"".join(chunks) + end)


def assert_answered_or_waited_for(siege: Besieged, wire: bytes) -> None:
    """No status of a fault, no refusal without its shape, nothing at the provider but whole requests of ours."""
    with siege.connect() as raw:
        raw.send_what_is_taken(wire)
        answer = raw.answer_at_once(0.15)
        if answer is not None:
            assert answer.status < 500 or answer.status in {501, 505}, answer.body
            assert answer.status >= 200, answer.head
    assert siege.provider.strays() == []
