"""Whatever bytes come, each parser reads them or refuses them in its own words, and reads alike however they are cut.

Cases begin at a corpus (`bad_input/corpus/parsers.jsonl`, and messages and records made here) and are changed at
random: bytes replaced, put in, doubled, left out, two cases joined. What a run finds goes into the corpus.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.app.settings import load_settings
from sidecar.catalog.strict_yaml import read_yaml
from sidecar.contract import messages
from sidecar.contract.change_frames import FrameReader, change_frame
from sidecar.contract.codec import decode, encode
from sidecar.core.governance.decisions import Denied
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import ConfigurationError, WireFormatError
from sidecar.outbox.frames import frame, scan
from sidecar.outbox.records import (
    LeaseTally,
    admit_record,
    clean_record,
    ended_record,
    lease_record,
    read_record,
    settle_record,
)
from sidecar.providers.content_decoding import DECODED_PIECE_MAX, Inflater
from sidecar.providers.dialect import BadRequest
from sidecar.providers.registry import ANTHROPIC_MESSAGES, OPENAI_CHAT
from sidecar.proxy.answer_framing import AnswerHead
from sidecar.proxy.identify import Identifier
from sidecar.proxy.refusals import Refused
from sidecar.proxy.request_filter import outgoing_head
from sidecar.proxy.request_head import LOOPBACK_HOSTS, read_head
from sidecar.proxy.route import Route, Routes
from sidecar.proxy.unfit import Unfit
from sidecar.proxy.upstream_connection import Break, UpstreamConnection
from tests.support.corpus import cases
from tests.unit.contract.test_codec import ADMISSION, EVENT, REPLY, SYNC

DIALECTS = (OPENAI_CHAT, ANTHROPIC_MESSAGES)
SEEDS: dict[str, list[bytes]] = {}
for _parameter in cases("parsers"):
    _case = cast(Any, _parameter.values[0])
    SEEDS.setdefault(_case.id, []).append(_case.facts["seed"].encode())

TOKENS: dict[str, list[bytes]] = {
    "request": [b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800", b"1e400", b"-0", b"9" * 320, b"null",
                b'"max_tokens":', b'"content":', b'"n":', b'"stream":true,', b",", b":", b"\xff", b"\xef\xbb\xbf"],
    "answer": [b"\r\n", b"\n", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n", b"\0", b"-1", b"ffffffff",
               b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b" ", b":", b"Connection: close\r\n", b"\xff", b"+2"],
    "baggage": [b",", b";", b"=", b"%", b"%00", b"spend.", b"customer", b" ", b"sk-spend-a", b"\t", b"~" * 130],
    "target": [b"/", b"//", b"..", b"%2f", b"%", b"#", b"?", b"\\", b";", b"*", b"/v1/messages", b"chat/completions"],
    "yaml": [b": ", b"- ", b"\n", b"&a ", b"*a", b"!!x ", b"---\n", b"{", b"[", b"|\n", b"? ", b"\t", b"#", b"'", b'"',
             b"\0", b"\xff", b"0x1", b".nan", b"<<: "],
    "messages": [b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xc0", b"\x80", b"\xcb\x7f\xf8\0\0\0\0\0\0",
                 b"\xcf" + b"\xff" * 8],
}  # fmt: skip

SUBJECT = Subject("acme", user="ada")
CHANGES = [messages.Change("acme", revision) for revision in (1, 2)]
SEEDS["messages"] = [encode(message) for message in (ADMISSION, EVENT, SYNC, REPLY, *CHANGES)] + [
    admit_record(ADMISSION), settle_record(encode(EVENT)), lease_record("i/a", LeaseTally("acme", 9, 1)),
    ended_record("i/a"), clean_record(), b"".join(map(change_frame, CHANGES)),
    frame(clean_record()) + frame(ended_record("i/a")),
]  # fmt: skip

KINDS: list[type[msgspec.Struct]] = [
    kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
]


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """A case of the corpus, changed a few times."""
    piece = st.one_of(st.sampled_from(TOKENS[name]), st.binary(max_size=6), st.sampled_from(SEEDS[name]))
    edit = st.tuples(st.integers(0, 10_000), st.integers(0, 12), piece, st.sampled_from(["put", "double", "cut"]))

    def changed(seed: bytes, edits: Sequence[tuple[int, int, bytes, str]]) -> bytes:
        for place, length, new, how in edits:
            at = place % (len(seed) + 1)
            if how == "put":
                seed = seed[:at] + new + seed[at + length :]
            elif how == "double":
                seed = seed[: at + length] + seed[at:]
            else:
                seed = seed[:at] if length > 9 else seed[:at] + seed[at + length :]
        return seed

    return st.builds(changed, st.sampled_from(SEEDS[name]), st.lists(edit, max_size=5))


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


# -- requests


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(body=mutated("request"))
def test_requests(dialect: Any, body: bytes) -> None:
    """Read or refused; what is read is bounded, and the provider reads no other limit than we do, nor another model."""
    refused: BadRequest | None = None
    try:
        facts = dialect.read_request(body)
    except BadRequest as bad:
        refused = bad
    if refused is not None:
        assert len(str(refused)) < 400
        return
    theirs = json.loads(facts.body)
    assert theirs["model"] == facts.model
    assert theirs.get("stream") in (facts.stream, None)
    ours = json.loads(body)
    limits = [ours[name] for name in ("max_tokens", "max_completion_tokens") if ours.get(name) is not None]
    assert all(type(limit) is int and (facts.ceiling.output_limit or 0) >= limit for limit in limits)
    if facts.body != body:
        assert theirs.pop("stream_options")["include_usage"] is True
        ours.pop("stream_options", None)
    assert theirs == ours
    shorter = dialect.limit_output(facts, 1, own_field=False)
    if shorter is not None:
        assert dialect.read_request(shorter.body).ceiling.output_limit == 1


@given(value=mutated("baggage"), customer=st.sampled_from([None, b"acme", b"a b", b"\xff", b""]))
def test_identities(value: bytes, customer: bytes | None) -> None:
    """Baggage and header, whatever they say: somebody, or a refusal; a somebody is plain text."""
    fields = {b"baggage": value} | ({} if customer is None else {b"spend-customer": customer})
    found = Identifier().identify(fields)
    assert isinstance(found, Subject | Denied | Unfit)
    if isinstance(found, Subject):
        assert found.customer
        assert all(found.customer.isprintable() and "sk-spend-" not in text for text in (found.customer, found.user))


@given(
    target=mutated("target"),
    method=st.sampled_from(["POST", "GET", "HEAD", "CONNECT", "post", ""]),
    lines=st.lists(
        st.tuples(
            st.sampled_from([b"Host", b"host", b"Spend-Customer", b"baggage", b"Origin", b"Connection", b"Expect",
                             b"Content-Type", b"Content_Length", b"Transfer-Encoding", b"X-A", b"Idempotency-Key"]),
            st.one_of(st.sampled_from([b"localhost", b"acme", b"chunked", b"close", b"X-A", b"", b"localhost:9"]),
                      mutated("baggage")),
        ),
        max_size=6,
    ),
)  # fmt: skip
def test_heads_and_routes(target: bytes, method: str, lines: list[tuple[bytes, bytes]]) -> None:
    """Refused, or a head of which nothing of ours goes out; what is metered is exactly a metered path."""
    asked = target.decode("latin-1")
    routes = Routes(further=["vllm"], pass_through=["GET /v1/*", "POST /v1/*"])
    found = routes.find(method, asked, anthropic=False)
    assert isinstance(found, Route | Unfit)
    if isinstance(found, Route) and found.dialect is not None:
        path = asked.partition("?")[0]
        assert path.removeprefix("/vllm") in {"/v1/chat/completions", "/v1/messages", "/messages"} or (
            path.startswith("/vllm/") and path.endswith(("/chat/completions", "/messages"))
        )
    with contextlib.suppress(Refused):
        clean = [(name, value.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")) for name, value in lines]
        head = read_head(method, asked, (1, 1), clean, hosts=LOOPBACK_HOSTS)
        sent = outgoing_head(head, target="/v1/x", host=b"provider", body_bytes=2)
        assert sent.endswith(b"\r\n\r\n")
        assert sent.count(b"\r\n\r\n") == 1
        assert b"\r\nspend-" not in sent.lower()
        assert sent.lower().count(b"\r\nhost:") == sent.lower().count(b"\r\ncontent-length:") == 1


# -- answers


class Sink:
    """Takes an answer, and holds its caller to the order of calls that it was promised."""

    method = "POST"

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self.body = b""
        self.ended: str | None = None

    def answer_began(self, head: AnswerHead) -> None:
        assert self.head is None
        assert self.ended is None
        self.head = head

    def answer_moved(self, piece: bytes, *, complete: bool) -> None:
        assert self.head is not None
        assert self.ended is None
        self.body += piece
        self.ended = "complete" if complete else None

    def answer_broke(self, why: Break, detail: str) -> None:
        assert self.ended is None
        self.ended = why.value


class Wire:
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        self.aborted = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_: 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Pool:
    """Where the connection belongs."""

    def __init__(self) -> None:
        self.taken_back = 0

    def take_back(self, _: UpstreamConnection) -> None:
        self.taken_back += 1

    def forget(self, _: UpstreamConnection) -> None:
        """Nothing to do."""


def read_answer(pieces: Sequence[bytes]) -> tuple[Sink, Pool]:
    """What a caller would get of an answer that comes in these pieces, then the connection's end."""
    pool, sink, wire = Pool(), Sink(), Wire()
    connection = UpstreamConnection(pool)
    connection.connection_made(cast(asyncio.Transport, wire))
    connection.send(sink, b"head", b"")
    for piece in pieces:
        if not wire.aborted:
            connection.data_received(piece)
    connection.connection_lost(None)
    return sink, pool


@given(wire=mutated("answer"), places=st.lists(st.integers(0, 10_000), max_size=5))
def test_answers(wire: bytes, places: list[int]) -> None:
    """Complete, cut or broken, once; the same head, the same end and the same body however it was cut."""
    whole, _ = read_answer([wire])
    pieces, pool = read_answer(cut(wire, places))
    singly, _ = read_answer([wire[at : at + 1] for at in range(len(wire))])
    for other in (pieces, singly):
        assert (other.ended, other.head) == (whole.ended, whole.head)
        if whole.ended == "complete":
            assert other.body == whole.body
    assert whole.ended is not None
    assert pool.taken_back <= 1
    if whole.head is not None:
        assert 200 <= whole.head.status <= 599
        assert b"\r\n\r\n" not in whole.head.lines
        assert whole.head.lines.count(b"\n") == whole.head.lines.count(b"\r\n")
        if whole.head.length is not None and whole.head.has_body and whole.ended == "complete":
            assert len(whole.body) == whole.head.length


@given(
    data=st.binary(max_size=400),
    coding=st.sampled_from(["gzip", "x-gzip", "deflate", "br", "zstd"]),
    places=st.lists(st.integers(0, 400), max_size=4),
)
def test_codings(data: bytes, coding: str, places: list[int]) -> None:
    """Anything that is said to be compressed gives bytes in bounded pieces, or nothing more."""
    inflater = Inflater(coding)
    for piece in cut(data, places):
        assert all(len(out) <= DECODED_PIECE_MAX for out in inflater.feed(piece))


# -- what our own processes say and keep


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=mutated("messages"))
def test_messages(kind: type[msgspec.Struct], data: bytes) -> None:
    """A message of its kind, or WireFormatError, which repeats nothing of it."""
    refused: WireFormatError | None = None
    try:
        assert isinstance(decode(data, kind), kind)
    except WireFormatError as problem:
        refused = problem
    assert refused is None or "acme" not in str(refused)


@given(data=mutated("messages"), places=st.lists(st.integers(0, 10_000), max_size=4))
def test_changes(data: bytes, places: list[int]) -> None:
    """The stream of changes reads alike however it is cut, up to the same mistake."""

    def read(pieces: Sequence[bytes]) -> tuple[list[messages.Change], bool]:
        reader, found = FrameReader(), list[messages.Change]()
        for piece in pieces:
            try:
                found += reader.feed(piece)
            except WireFormatError:
                return [], True
        return found, False

    assert read(cut(data, places)) == read([data])


@given(data=mutated("messages"))
def test_records(data: bytes) -> None:
    """A record or WireFormatError; on disk frames and damage, without gaps, whatever stands there."""
    with contextlib.suppress(WireFormatError):
        read_record(data)
    spans = scan(data)
    assert b"".join(data[span.start : span.end] for span in spans) == data
    for span in spans:
        if span.payload is not None:
            with contextlib.suppress(WireFormatError):
                read_record(span.payload)


# -- configuration


@given(data=mutated("yaml"))
def test_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Plain values or a report with the file's name; so for the settings made of them."""
    path = tmp_path_factory.getbasetemp() / "spend.yaml"
    path.write_bytes(data)
    for read in (partial(read_yaml, "spend.yaml", data), partial(load_settings, path, {}, {})):
        problems = ["spend.yaml"]
        try:
            read()
        except ConfigurationError as error:
            problems = list(error.problems)
        assert problems
        assert all("spend.yaml" in problem for problem in problems)
