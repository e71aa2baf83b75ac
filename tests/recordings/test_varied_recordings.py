"""Recorded answers written in other words have the usage that they had: order, spacing and framing say nothing.

What was recorded is a sample of what providers send; other servers write the same otherwise. Skipped where the
recordings are absent.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import pytest

from sidecar.providers.dialect import Dialect, Ending, RequestFacts
from tests.recordings import test_shared_clouds, test_shared_recordings, varying
from tests.recordings.test_shared_recordings import FOLDER, differences

DEVIATIONS = test_shared_recordings.DEVIATIONS.keys() | {
    name for protocol in test_shared_clouds.PROTOCOLS.values() for name in protocol.deviations
}
CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], str]]] = {
    "tight": (varying.same, varying.tight),
    "spaced": (varying.same, varying.spaced),
    "over many lines": (varying.same, varying.pretty),
    "the other way round": (varying.turned, varying.tight),
    "with members that nobody knows": (varying.extended, varying.tight),
    "counts as text": (varying.as_text, varying.spaced),
    "counts as floats": (varying.as_float, varying.tight),
}
FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": varying.with_carriage_returns,
    "CR": varying.with_bare_returns,
    "pings, ids and a byte order mark": varying.with_pings,
    "no blanks, no last line": varying.without_blanks,
}
EVERY = 9
COUNTED_IN_THE_HEAD = "x-amzn-bedrock-input-token-count"
LEAST_TOLD = 2_500
LEAST_STREAMS = 250
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")


@cache
def told() -> tuple[tuple[dict[str, Any], Dialect, RequestFacts], ...]:
    """Every recorded exchange whose answer tells its last figures, with its dialect and what its request says."""
    return tuple(found for found in _told() if found[0]["name"] not in DEVIATIONS)


def _told() -> Iterator[tuple[dict[str, Any], Dialect, RequestFacts]]:
    for exchange in test_shared_recordings.recorded():
        facts = test_shared_recordings.facts_of(exchange)
        if facts is not None and exchange["usage_state"] == "final":
            yield exchange, test_shared_recordings.DIALECTS[exchange["endpoint"]], facts
    for protocol in test_shared_clouds.PROTOCOLS.values():
        for exchange in test_shared_clouds.recorded(protocol.endpoints):
            facts = test_shared_clouds.facts_of(exchange)
            if facts is not None and exchange["usage_state"] == "final":
                yield exchange, exchange["dialect"], facts


def wrongly_read(exchange: dict[str, Any], dialect: Dialect, facts: RequestFacts, body: bytes) -> dict[str, Any]:
    """What is read of this body otherwise than the slow reading has it, cut in some pieces."""
    lines = [f"{name}: {value[0]}\r\n" for name, value in exchange["response_headers"].items()]
    head = "".join(["HTTP/1.1 200 OK\r\n", *lines]).encode()
    meter = dialect.meter(facts, status=exchange["status"], lines=head, content_encoding="")
    size = random.Random(exchange["name"]).choice((7, 100, len(body)))
    for at in range(0, len(body), size):
        meter.feed(body[at : at + size])
    meter.flush()
    return differences(meter.usage(Ending.COMPLETE), exchange["usage"])


def wrong_of(exchanges: Iterable[tuple[dict[str, Any], Dialect, RequestFacts]], change: str) -> dict[str, Any]:
    """Of these, changed so, what is read otherwise."""
    how, written = CHANGES[change]
    wrong = {}
    for exchange, dialect, facts in exchanges:
        body = varying.varied(base64.b64decode(exchange["body_b64"]), how, written, exchange["framing"])
        if found := wrongly_read(exchange, dialect, facts, body):
            wrong[f"{exchange['name']} {exchange['endpoint']}"] = found
    return wrong


@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_in_other_words_has_the_same_usage(change: str) -> None:
    """L4: the members' order, the spacing, members that nobody knows, counts that are text or floats: every ninth."""
    first = list(CHANGES).index(change)
    assert not wrong_of(told()[first::EVERY], change)


@pytest.mark.soak
@pytest.mark.parametrize("change", CHANGES)
def test_every_answer_in_other_words_has_the_same_usage(change: str) -> None:
    """L4: the same of every recorded answer."""
    assert not wrong_of(told(), change)
    assert len(told()) > LEAST_TOLD


def test_an_answer_with_other_counts_is_read_otherwise() -> None:
    """That the comparison sees a difference: every count raised by one, unless the head has them."""
    for exchange, dialect, facts in told()[::EVERY]:
        if any(name.lower() == COUNTED_IN_THE_HEAD for name in exchange["response_headers"]):
            continue
        body = varying.varied(
            base64.b64decode(exchange["body_b64"]), varying.raised, varying.tight, exchange["framing"]
        )
        assert wrongly_read(exchange, dialect, facts, body), exchange["name"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_stream_in_another_framing_has_the_same_usage(framing: str) -> None:
    """B-U01, B-U02: each recorded stream of events, whatever its lines end in and whatever stands between them."""
    wrong, read = {}, 0
    for exchange, dialect, facts in told():
        if exchange["framing"] != "sse":
            continue
        plain = varying.varied(base64.b64decode(exchange["body_b64"]), varying.same, varying.tight, "sse")
        read += 1
        if found := wrongly_read(exchange, dialect, facts, FRAMINGS[framing](plain)):
            wrong[exchange["name"], exchange["endpoint"]] = found
    assert not wrong, (len(wrong), dict(list(wrong.items())[:5]))
    assert read > LEAST_STREAMS
