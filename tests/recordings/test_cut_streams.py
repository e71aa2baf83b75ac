"""A provider that cuts every stream at every byte: each is settled, for no less than what was visibly produced (L25).

The streams of our own making are cut at every third byte here and at every byte under `soak`; the recorded ones, where
they are, around the end of every event and at a spread of bytes, all of them under `soak`. What was visible is counted
by a reading that knows nothing of the meters, in the tokens of a real vocabulary.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import msgspec
import pytest

from sidecar.app.tokenizing import SplintrTokenizer
from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.ceilings import price_ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates
from sidecar.core.pricing.usage import UsageState
from sidecar.providers.dialect import AnswerMeter, Dialect, Ending, RequestFacts
from sidecar.providers.registry import dialect_for
from sidecar.proxy.settle import ESTIMATED, NOT_BILLED, Prices, settle
from tests.recordings import test_shared_clouds, test_shared_recordings
from tests.recordings.exchange import Exchange
from tests.recordings.test_own_exchanges import EXCHANGES
from tests.support.visible import shown_texts

USD = Currency("usd", 9)
INPUT_RATE, OUTPUT_RATE = 1_000, 1_000_000
CARD = RateCard(
    "card", "any", ("m",), 0, "usd", (ContextTier(0, Rates(input=INPUT_RATE, output=OUTPUT_RATE)),), 16_384, 128_000,
    "test", "2026-11",
)  # fmt: skip
BOOK = RateBook((CARD,), (USD,), sha256="")
TOKEN_ATOMS = OUTPUT_RATE // 1_000
VOCABULARY = "o200k_base"
EVENT_END = re.compile(rb"\r?\n\r?\n|\r\r|\n|:message-type")
SPREAD = 12
LEAST_CUTS = 10_000
CUTS_OF_EACH = 40
SHORT_BYTES = 4_000
needs_recordings = pytest.mark.skipif(
    not test_shared_recordings.FOLDER.is_dir(), reason=f"no recordings at {test_shared_recordings.FOLDER}"
)
HANGS_UP = (Ending.CUT, Ending.ABANDONED, Ending.TIMED_OUT)


@dataclass(frozen=True)
class Stream:
    """A stream to cut: how its request reads, and its bytes."""

    name: str
    dialect: Dialect
    facts: RequestFacts
    body: bytes
    status: int = 200
    encoding: str = ""
    head: bytes = b"HTTP/1.1 200 OK\r\n"

    def meter(self) -> AnswerMeter:
        """A meter for its answer."""
        return self.dialect.meter(self.facts, status=self.status, lines=self.head, content_encoding=self.encoding)


def own_streams() -> list[Stream]:
    """Every stream of our own making that a provider answers with a 200."""
    found = []
    for exchange in EXCHANGES:
        stream = _own(exchange)
        if exchange.status == 200 and stream.facts.stream:
            found.append(stream)
    return found


def _own(exchange: Exchange) -> Stream:
    dialect = dialect_for(exchange.path.partition("?")[0])
    assert dialect is not None
    facts = dialect.read_request(json.dumps(exchange.request).encode(), exchange.path)
    return Stream(exchange.name, dialect, facts, exchange.answer, encoding=exchange.encoding)


@cache
def recorded_streams() -> tuple[Stream, ...]:
    """Every recorded stream of a protocol that is metered."""
    found = []
    for exchange in test_shared_recordings.recorded():
        if exchange["framing"] in {"sse", "ndjson"} and exchange["status"] == 200:
            facts = test_shared_recordings.facts_of(exchange)
            dialect = test_shared_recordings.DIALECTS[exchange["endpoint"]]
            if facts is not None:
                found.append(Stream(exchange["name"], dialect, facts, base64.b64decode(exchange["body_b64"])))
    for protocol in test_shared_clouds.PROTOCOLS.values():
        for exchange in test_shared_clouds.recorded(protocol.endpoints):
            facts = test_shared_clouds.facts_of(exchange)
            if exchange["framing"] != "json" and exchange["status"] == 200 and facts is not None:
                body = base64.b64decode(exchange["body_b64"])
                found.append(Stream(exchange["name"], exchange["dialect"], facts, body))
    return tuple(found)


def check(stream: Stream, places: Iterable[int], tokenizer: SplintrTokenizer) -> Iterator[str]:
    """Cut a stream at each of these bytes; say of each charge that is too low how it is."""
    facts = stream.facts
    ceiling = msgspec.structs.replace(facts.ceiling, unbounded=(), units=(), tier=None, geo=None, cache_write="")
    held = price_ceiling(ceiling, CARD, USD)
    longest = ceiling.output_tokens(CARD)
    texts: list[str] = []
    seen_tokens = 0
    for place in places:
        beginning = stream.body[:place]
        shown = shown_texts(beginning)
        if shown != texts:
            texts, seen_tokens = shown, tokenizer.count(VOCABULARY, ["".join(shown)])
        least = min(seen_tokens, longest) * TOKEN_ATOMS
        meter = stream.meter()
        meter.feed(beginning)
        for ending in HANGS_UP:
            usage = meter.usage(ending)
            for stops_billing in (False, True):
                prices = Prices(ceiling, CARD, USD, BOOK, 1, stops_billing=stops_billing, may_reason=facts.may_reason)
                settled = settle(held, prices, usage, ending=ending, status=stream.status)
                charge = settled.charge_atoms
                assert charge is not None
                final = usage.state is UsageState.FINAL
                if not final and ESTIMATED not in settled.flags and NOT_BILLED not in settled.flags:
                    yield f"{stream.name} at {place}: {usage.state} is flagged {settled.flags}"
                if charge < least and not final:
                    yield f"{stream.name} at {place}, {ending}: {charge} for {seen_tokens} tokens seen ({usage})"
                if not stops_billing and not final and charge < held:
                    yield f"{stream.name} at {place}, {ending}: {charge} is below the hold of {held} ({usage})"


def every_event_and_a_spread(stream: Stream) -> list[int]:
    """The bytes about the end of each event, some between, and the last ones."""
    size, dice = len(stream.body), random.Random(stream.name)
    near = {end.end() + by for end in EVENT_END.finditer(stream.body) for by in (-1, 0, 1)}
    spread = {dice.randrange(size + 1) for _ in range(SPREAD)} | set(range(size - 3, size + 1)) if size else set()
    return sorted(place for place in near | spread if 0 <= place <= size)


@pytest.fixture(scope="module")
def tokenizer() -> SplintrTokenizer:
    return SplintrTokenizer()


@pytest.mark.parametrize("stream", own_streams(), ids=lambda stream: f"{stream.dialect.name} {stream.name}")
def test_a_stream_cut_anywhere_is_charged_what_was_seen(stream: Stream, tokenizer: SplintrTokenizer) -> None:
    """L25: of our own streams, at every third byte and about every end of an event."""
    places = {*every_event_and_a_spread(stream)[:LEAST_CUTS], *range(0, min(len(stream.body), LEAST_CUTS), 3)}
    assert not list(check(stream, sorted(places), tokenizer))


@pytest.mark.soak
@pytest.mark.parametrize("stream", own_streams(), ids=lambda stream: f"{stream.dialect.name} {stream.name}")
def test_a_stream_cut_at_every_byte_is_charged_what_was_seen(stream: Stream, tokenizer: SplintrTokenizer) -> None:
    """L25: of our own streams, at every byte (of the longest, at every byte of the beginning)."""
    places = {*every_event_and_a_spread(stream)[:LEAST_CUTS], *range(min(len(stream.body) + 1, LEAST_CUTS))}
    assert not list(check(stream, sorted(places), tokenizer))


@needs_recordings
def test_recorded_streams_cut_anywhere_are_charged_what_was_seen(tokenizer: SplintrTokenizer) -> None:
    """L25: of each recorded stream, at some ends of events and at some bytes."""
    wrong: list[str] = []
    cuts = 0
    for stream in recorded_streams():
        dice = random.Random(stream.name)
        places = every_event_and_a_spread(stream)
        places = sorted(dice.sample(places, min(len(places), CUTS_OF_EACH)))
        cuts += len(places)
        wrong += check(stream, places, tokenizer)
    assert not wrong
    assert cuts > LEAST_CUTS


@needs_recordings
@pytest.mark.soak
def test_recorded_streams_cut_at_every_event_are_charged_what_was_seen(tokenizer: SplintrTokenizer) -> None:
    """L25: of each recorded stream, about the end of every event; of those that are short, at every byte."""
    wrong: list[str] = []
    for stream in recorded_streams():
        short = range(len(stream.body) + 1 if len(stream.body) < SHORT_BYTES else 0)
        wrong += check(stream, sorted({*every_event_and_a_spread(stream), *short}), tokenizer)
    assert not wrong
