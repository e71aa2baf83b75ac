"""Streams to cut, and what must hold of the charge wherever they are cut (L25).

What was visible is counted by a reading that knows nothing of the meters, in the tokens of a real vocabulary. To cut at
every byte, one meter reads a stream byte by byte, and at each a copy of it is told that the stream ended there: reading
every beginning anew would take the square of the time.
"""

from __future__ import annotations

import base64
import json
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import msgspec

from sidecar.app.tokenizing import SplintrTokenizer
from sidecar.core.credits.amounts import Currency
from sidecar.core.pricing.ceilings import price_ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates
from sidecar.core.pricing.usage import UsageState
from sidecar.providers.content_decoding import GZIP_MAGIC
from sidecar.providers.dialect import AnswerMeter, Dialect, Ending, RequestFacts
from sidecar.providers.registry import dialect_for
from sidecar.proxy.settle import ESTIMATED, NOT_BILLED, Prices, settle
from tests.recordings import test_shared_clouds, test_shared_recordings
from tests.recordings.exchange import Exchange
from tests.recordings.test_own_exchanges import EXCHANGES
from tests.support.twins import twin
from tests.support.visible import shown_events, unzipped

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
GOES_ON = {
    "usage alone at first, then text": "usage alone is where a count closes; here text comes after it",
    "growing usage, the last of it after [DONE]": "what comes after a stream's own end mark was not to be waited for",
}
"""Streams of our own that say their last figures and then others: a cut between is charged by the provider's word."""

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
    """Cut a stream at each of these bytes, in their order; say of each charge that is too low how it is."""
    if stream.encoding or stream.body.startswith(GZIP_MAGIC):
        yield from check_compressed(stream, places, unzipped, tokenizer)
        return
    judge = Judge(stream, stream.body, tokenizer)
    reader, read = stream.meter(), 0
    for place in places:
        reader.feed(stream.body[read:place])
        read = place
        yield from judge.wrong(place, place, twin(reader))


def check_compressed(
    stream: Stream, places: Iterable[int], decoded: Callable[[bytes], bytes], tokenizer: SplintrTokenizer
) -> Iterator[str]:
    """The same of a compressed stream, each beginning read anew; `decoded` gives what its caller can read of one."""
    judge = Judge(stream, decoded(stream.body), tokenizer)
    for place in places:
        beginning = stream.body[:place]
        meter = stream.meter()
        meter.feed(beginning)
        yield from judge.wrong(place, len(decoded(beginning)), meter)


def every_byte(stream: Stream) -> range:
    """Every place at which it can be cut, before its first byte and behind its last too."""
    return range(len(stream.body) + 1)


class Judge:
    """Holds what a cut stream is charged against what was visible of it. `plain` is its answer, not compressed."""

    def __init__(self, stream: Stream, plain: bytes, tokenizer: SplintrTokenizer) -> None:
        facts = stream.facts
        self._name, self._status, self._may_reason = stream.name, stream.status, facts.may_reason
        self._ceiling = msgspec.structs.replace(
            facts.ceiling, unbounded=(), units=(), tier=None, geo=None, cache_write=""
        )
        self._held = price_ceiling(self._ceiling, CARD, USD)
        self._ends, self._seen = seen_tokens(plain, tokenizer)
        self._longest = self._ceiling.output_tokens(CARD)
        self._prices = [
            Prices(self._ceiling, CARD, USD, BOOK, 1, stops_billing=stops_billing, may_reason=facts.may_reason)
            for stops_billing in (False, True)
        ]
        whole = stream.meter()
        whole.feed(stream.body)
        self._whole = whole.usage(Ending.COMPLETE)

    def wrong(self, place: int, visible: int, meter: AnswerMeter) -> Iterator[str]:
        """What is wrong with a cut at this byte, of which so many bytes could be read; `meter` has read up to it."""
        seen = self._seen[bisect_right(self._ends, visible)]
        least, held = min(seen, self._longest) * TOKEN_ATOMS, self._held
        for ending in HANGS_UP:
            usage = meter.usage(ending)
            final = usage.state is UsageState.FINAL
            if final and self._name not in GOES_ON and usage.total() != self._whole.total():
                yield f"{self._name} at {place}, {ending}: the last word is {usage}, and of the whole {self._whole}"
            for prices in self._prices:
                settled = settle(held, prices, usage, ending=ending, status=self._status)
                charge = settled.charge_atoms
                assert charge is not None
                if not final and ESTIMATED not in settled.flags and NOT_BILLED not in settled.flags:
                    yield f"{self._name} at {place}: {usage.state} is flagged {settled.flags}"
                if charge < least and not final:
                    yield f"{self._name} at {place}, {ending}: {charge} for {seen} tokens seen ({usage})"
                if not prices.stops_billing and not final and charge < held:
                    yield f"{self._name} at {place}, {ending}: {charge} is below the hold of {held} ({usage})"


def seen_tokens(plain: bytes, tokenizer: SplintrTokenizer) -> tuple[list[int], list[int]]:
    """Where the events end that show something, and how many tokens had been seen before each and after all."""
    ends, seen, text = [], [0], ""
    for end, texts in shown_events(plain):
        if texts:
            text += "".join(texts)
            ends.append(end)
            seen.append(tokenizer.count(VOCABULARY, [text]))
    return ends, seen


def every_event_and_a_spread(stream: Stream) -> list[int]:
    """The bytes about the end of each event, some between, and the last ones."""
    size, dice = len(stream.body), random.Random(stream.name)
    near = {end.end() + by for end in EVENT_END.finditer(stream.body) for by in (-1, 0, 1)}
    spread = {dice.randrange(size + 1) for _ in range(SPREAD)} | set(range(size - 3, size + 1)) if size else set()
    return sorted(place for place in near | spread if 0 <= place <= size)
