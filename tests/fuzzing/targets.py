"""What is fuzzed: a function of bytes that raises where a parser breaks its word, and what to begin with."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast
from unittest import mock

from sidecar.catalog.strict_yaml import read_yaml
from sidecar.contract import messages
from sidecar.contract.change_frames import FrameReader
from sidecar.contract.codec import decode, encode
from sidecar.core.pricing.usage import UsageState
from sidecar.errors import ConfigurationError, WireFormatError
from sidecar.outbox.frames import scan
from sidecar.outbox.records import admit_record, read_record, settle_record
from sidecar.providers.cheap_bounds import cheap_bound
from sidecar.providers.content_decoding import DECODED_PIECE_MAX, Inflater
from sidecar.providers.dialect import BadRequest, Dialect, Ending, RequestFacts
from sidecar.providers.image_tokens import picture_size
from sidecar.providers.metering import Meter
from sidecar.providers.registry import DIALECTS, dialect_for
from sidecar.proxy.identify import Identifier
from sidecar.proxy.makers import answer_id_in
from sidecar.proxy.refusals import Refused
from sidecar.proxy.request_head import LOOPBACK_HOSTS, read_head
from sidecar.proxy.route import Routes
from tests.recordings import (
    anthropic_exchanges,
    bedrock_exchanges,
    cohere_exchanges,
    completions_exchanges,
    gemini_exchanges,
    images_exchanges,
    ollama_exchanges,
    openai_exchanges,
    responses_exchanges,
)
from tests.support.corpus import cases
from tests.unit.contract.test_codec import ADMISSION, EVENT, REPLY, SYNC

CODINGS = ("gzip", "deflate", "br", "zstd")
STATUSES = (200, 400, 503)

_EXCHANGES: Sequence[Any] = [
    exchange
    for module in (
        anthropic_exchanges, bedrock_exchanges, cohere_exchanges, completions_exchanges, gemini_exchanges,
        images_exchanges, ollama_exchanges, openai_exchanges, responses_exchanges,
    )
    for exchange in cast(Any, module).EXCHANGES
]  # fmt: skip
_TARGETS: dict[str, str] = {}
"""By dialect's name a path that it is asked on."""
for _exchange in _EXCHANGES:
    _dialect = dialect_for(_exchange.path.partition("?")[0])
    if _dialect is not None:
        _TARGETS.setdefault(_dialect.name, _exchange.path)


class Target(NamedTuple):
    """One parser, or several of a kind: the first byte of a case tells which."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def _numbered(data: bytes, count: int) -> tuple[int, bytes]:
    return (data[0] % count, data[1:]) if data else (0, b"")


def _of_corpus(name: str, before: bytes = b"") -> Iterable[bytes]:
    for parameter in cases("parsers"):
        case = cast(Any, parameter.values[0])
        if case.id == name:
            yield before + case.facts["seed"].encode()


def requests(data: bytes) -> None:
    """A request is read, within bounds, or refused in a sentence; shortened, it is read again with its limit."""
    number, body = _numbered(data, len(DIALECTS))
    dialect: Dialect = DIALECTS[number]
    cheap_bound("gpt-4o", body)
    try:
        facts = dialect.read_request(body, _TARGETS.get(dialect.name, "/v1/x"))
    except BadRequest as bad:
        if len(str(bad)) >= 400:
            raise AssertionError("a refusal as long as its request") from bad
        return
    if facts.ceiling.input_tokens < 0 or len(facts.ceiling.unbounded) > 16:
        raise AssertionError(f"no bound: {facts.ceiling}")
    shorter = dialect.limit_output(facts, 16, own_field=False)
    if shorter is not None:
        again = dialect.read_request(shorter.body, _TARGETS.get(dialect.name, "/v1/x"))
        if again.ceiling.output_limit != 16:
            raise AssertionError(f"shortened to 16, read as {again.ceiling.output_limit}")


def request_seeds() -> Iterable[bytes]:
    """The requests of all exchanges, each before its own dialect."""
    numbers = {dialect.name: bytes([number]) for number, dialect in enumerate(DIALECTS)}
    yield from _of_corpus("request", numbers["openai.chat"])
    yield from _of_corpus("request", numbers["anthropic.messages"])
    for exchange in _EXCHANGES:
        dialect = dialect_for(exchange.path.partition("?")[0])
        if dialect is not None:
            yield numbers[dialect.name] + json.dumps(exchange.request).encode()


_FACTS: dict[str, RequestFacts] = {}


def _facts_of(dialect: Dialect) -> RequestFacts:
    if not _FACTS:
        for exchange in _EXCHANGES:
            found = dialect_for(exchange.path.partition("?")[0])
            if found is not None and found.name not in _FACTS:
                with contextlib.suppress(BadRequest):
                    _FACTS[found.name] = found.read_request(json.dumps(exchange.request).encode(), exchange.path)
    return _FACTS[dialect.name]


_METERED = [dialect for dialect in DIALECTS if dialect.name in _TARGETS]


def answers(data: bytes) -> None:
    """An answer is passed on to the byte and read alike however it is cut; no fault of ours is swallowed unseen."""
    number, rest = _numbered(data, len(_METERED))
    how, body = _numbered(rest, 6)
    dialect = _METERED[number]
    facts = _facts_of(dialect)
    wrong: list[BaseException] = []
    given_up = Meter._give_up

    def give_up(meter: Meter, piece: bytes) -> bytes:
        found = sys.exc_info()[1]
        if found is not None and not isinstance(found, WireFormatError):
            wrong.append(found)
        return given_up(meter, piece)

    readings = []
    for size in (len(body) or 1, 7):
        with mock.patch.object(Meter, "_give_up", give_up):
            meter = dialect.meter(facts, status=STATUSES[how % 3], lines=b"", content_encoding="")
            seen = b"".join(meter.feed(body[at : at + size]) for at in range(0, len(body), size)) + meter.flush()
            usage = meter.usage(Ending.COMPLETE if how < 3 else Ending.CUT)
        if not facts.hide_usage and seen != body:
            raise AssertionError("an answer was changed")
        # What we count ourselves of bytes that are no protocol's may depend on the cut: it is charged no less than its
        # floor. A provider's figures may not.
        counted = usage.state in {UsageState.ESTIMATED, UsageState.PARTIAL}
        readings.append((usage.state, None if counted else usage.total(), usage.units))
    if wrong:
        raise wrong[0]
    if readings[0] != readings[1] and not body.startswith(b"\0"):  # a wrong checksum ends a reading where a piece ends
        raise AssertionError(f"read otherwise in pieces: {readings}")


def answer_seeds() -> Iterable[bytes]:
    """The answers of all exchanges that came as plain bytes."""
    numbers = {dialect.name: bytes([number]) for number, dialect in enumerate(_METERED)}
    for exchange in _EXCHANGES:
        dialect = dialect_for(exchange.path.partition("?")[0])
        if dialect is not None and not exchange.encoding:
            yield numbers[dialect.name] + b"\0" + exchange.answer


def codings(data: bytes) -> None:
    """Anything that is said to be compressed gives bounded pieces, or nothing more."""
    number, body = _numbered(data, len(CODINGS))
    inflater = Inflater(CODINGS[number])
    for at in range(0, len(body), 64):
        for out in inflater.feed(body[at : at + 64]):
            if len(out) > DECODED_PIECE_MAX:
                raise AssertionError(f"a piece of {len(out)} bytes")


def coding_seeds() -> Iterable[bytes]:
    """A little of each that the standard library writes."""
    import gzip
    import zlib

    yield b"\0" + gzip.compress(b'{"usage": {}}' * 20)
    yield b"\1" + zlib.compress(b'{"usage": {}}' * 20)
    yield b"\1" + zlib.compress(b'{"usage": {}}' * 20)[2:-4]


def heads(data: bytes) -> None:
    """A head is read or refused, an identity told or refused, a path found or not."""
    target, _, value = data.partition(b"\n")
    asked = target.decode("latin-1")
    Routes(further=["vllm"], pass_through=["GET /v1/*", "POST /v1/*"]).find("POST", asked, anthropic=False)
    answer_id_in(asked)
    Identifier().identify({b"baggage": value, b"spend-customer": b"acme"})
    lines = [line.partition(b": ")[::2] for line in value.split(b"\n")]
    with contextlib.suppress(Refused):
        read_head("POST", asked, (1, 1), lines, hosts=LOOPBACK_HOSTS)


def head_seeds() -> Iterable[bytes]:
    """Paths and baggage of the corpus."""
    for target in _of_corpus("target"):
        yield target + b"\nHost: localhost"
    for value in _of_corpus("baggage"):
        yield b"/v1/chat/completions\n" + value


def records(data: bytes) -> None:
    """A record, a message or a frame is one or is refused; damage on disk is told without gaps."""
    with contextlib.suppress(WireFormatError):
        read_record(data)
    spans = scan(data)
    if b"".join(data[span.start : span.end] for span in spans) != data:
        raise AssertionError("a gap")
    with contextlib.suppress(WireFormatError):
        FrameReader().feed(data)
    for kind in (messages.UsageEvent, messages.SyncRequest, messages.SyncReply, messages.Admission):
        with contextlib.suppress(WireFormatError):
            decode(data, kind)


def record_seeds() -> Iterable[bytes]:
    """What is said and kept."""
    yield from (encode(message) for message in (ADMISSION, EVENT, SYNC, REPLY))
    yield from (admit_record(ADMISSION), settle_record(encode(EVENT)))


def configuration(data: bytes) -> None:
    """Plain values, or a report."""
    with contextlib.suppress(ConfigurationError):
        read_yaml("spend.yaml", data)


def pictures(data: bytes) -> None:
    """A size within bounds, or none."""
    import base64

    size = picture_size("data:image/png;base64," + base64.b64encode(data).decode())
    if size is not None and not all(0 < side <= 2**20 for side in size):
        raise AssertionError(f"a picture of {size}")


def picture_seeds() -> Iterable[bytes]:
    """A head of each format."""
    yield b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40\x08\2\0\0\0"
    yield b"GIF89a\x40\0\x40\0\0\0\0"
    yield b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x11\x08\0\x40\0\x40\3\1\x22\0\2\x11\1\3\x11\1"
    yield b"RIFF\0\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0\x3f\0\0\x3f\0\0"
    yield b"RIFF\0\0\0\0WEBPVP8 \n\0\0\0\0\0\0\x9d\x01\x2a\x40\0\x40\0"


TARGETS: dict[str, Target] = {
    "requests": Target(requests, request_seeds),
    "answers": Target(answers, answer_seeds),
    "codings": Target(codings, coding_seeds),
    "heads": Target(heads, head_seeds),
    "records": Target(records, record_seeds),
    "configuration": Target(configuration, lambda: _of_corpus("yaml")),
    "pictures": Target(pictures, picture_seeds),
}
