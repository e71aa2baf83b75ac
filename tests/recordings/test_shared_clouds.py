"""Recorded traffic of Google, Amazon and Cohere, read as an independent, slow reading has it; skipped where absent."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import BadRequest, Dialect, Ending, RequestFacts
from sidecar.providers.registry import dialect_for
from tests.recordings.exchange import cut_at
from tests.recordings.test_shared_recordings import FOLDER, differences

TOLD_BY_THE_ANSWER: Final = "the answer says which tier served, which the slow reading does not look at"
COUNTED_IN_THE_HEAD: Final = "a guardrail left the output out of the body's usage; the head has it"
EDITED: Final = "its recorder took a long system prompt out of the request"
NOT_JSON: Final = 1
"""Recorded requests to Converse whose own JSON is broken."""

ONLY_A_TIER: Final = "its usage object has a tier and no count: unknown is not zero (L5)"


@dataclass(frozen=True)
class Protocol:
    """Its endpoints in the recordings, how many usages are final at least, and what is meant to differ."""

    endpoints: tuple[str, ...]
    finals: int
    bounded: int
    deviations: dict[str, str]
    beyond: dict[str, str]
    not_taken: int = 0


PROTOCOLS: Final = {
    "gemini": Protocol(
        ("gemini.generate", "gemini.stream"),
        finals=425,
        bounded=300,
        deviations={"pydantic-ai.jsonl.gz:756": ONLY_A_TIER},
        beyond={},
    ),
    "embeddings": Protocol(
        ("gemini.embed", "vertex.predict", "cohere.embed"), finals=19, bounded=19, deviations={}, beyond={}
    ),
    "cohere": Protocol(("cohere.chat_v1", "cohere.chat_v2"), finals=59, bounded=59, deviations={}, beyond={}),
    "bedrock.converse": Protocol(
        ("bedrock.converse", "bedrock.converse_stream"),
        finals=240,
        bounded=185,
        deviations={
            "pydantic-ai.jsonl.gz:634": TOLD_BY_THE_ANSWER,
            "pydantic-ai.jsonl.gz:637": TOLD_BY_THE_ANSWER,
        },
        beyond={},
        not_taken=NOT_JSON,
    ),
    "bedrock.invoke": Protocol(
        ("bedrock.invoke", "bedrock.invoke_stream"),
        finals=95,
        bounded=85,
        deviations={f"openllmetry.jsonl.gz:{number}": COUNTED_IN_THE_HEAD for number in (166, 167, 168)},
        beyond={
            f"openllmetry.jsonl.gz:{number}": EDITED for number in (117, 118, 138, 139, 140, 141, 142, 143, 181, 182)
        },
    ),
}

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}"),
    pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS),
]


@cache
def recorded(endpoints: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """All recorded exchanges of these endpoints, each with a name, its target and its dialect."""
    found = []
    for file in sorted(Path(FOLDER).glob("*.jsonl.gz")):
        for number, line in enumerate(gzip.decompress(file.read_bytes()).splitlines()):
            if not any(name.encode() in line for name in endpoints):
                continue
            exchange = json.loads(line)
            if exchange["endpoint"] in endpoints:
                url = urlsplit(exchange["url"])
                dialect = dialect_for(url.path)
                assert dialect is not None, exchange["url"]
                target = url.path + (f"?{url.query}" if url.query else "")
                found.append(exchange | {"name": f"{file.name}:{number}", "target": target, "dialect": dialect})
    return tuple(found)


def facts_of(exchange: dict[str, Any]) -> RequestFacts | None:
    """What its request says; None where it cannot be taken."""
    dialect: Dialect = exchange["dialect"]
    try:
        return dialect.read_request(base64.b64decode(exchange["request_body_b64"] or ""), exchange["target"])
    except BadRequest:
        return None


def bodies(exchange: dict[str, Any]) -> Iterator[tuple[bytes, str]]:
    """The answer as it was decoded, and as it came compressed where that was kept."""
    yield base64.b64decode(exchange["body_b64"]), ""
    if exchange.get("wire_body_b64"):
        yield base64.b64decode(exchange["wire_body_b64"]), exchange["recorded_encoding"]


def pieces_of(exchange: dict[str, Any], body: bytes) -> Iterator[list[bytes]]:
    """Whole, cut at random, and byte by byte."""
    yield [body]
    dice = random.Random(exchange["name"])
    yield cut_at(body, sorted(dice.randrange(len(body) + 1) for _ in range(dice.randint(3, 12))))
    yield [body[i : i + 1] for i in range(len(body))]


def read(exchange: dict[str, Any], facts: RequestFacts | None, pieces: list[bytes], encoding: str) -> Usage:
    """Feed an answer in these pieces, of which none is changed; its usage."""
    dialect: Dialect = exchange["dialect"]
    facts = facts or RequestFacts(Ceiling("unknown", 1000, 100), stream=False, body=b"")
    status = exchange["status"]
    lines = [f"{name}: {value[0]}\r\n" for name, value in exchange["response_headers"].items()]
    head = "".join(["HTTP/1.1 200 OK\r\n", *lines]).encode()
    meter = dialect.meter(facts, status=status, lines=head, content_encoding=encoding)
    for piece in pieces:
        assert meter.feed(piece) == piece
    assert meter.flush() == b""
    return meter.usage(Ending.COMPLETE)


def test_every_recorded_usage_is_read_as_the_slow_reading_has_it(protocol: Protocol) -> None:
    """Final usage is equal field by field, whole and cut; everything else ends in a stated state (L5)."""
    wrong: dict[str, Any] = {}
    finals = 0
    for exchange in recorded(protocol.endpoints):
        facts = facts_of(exchange)
        for body, encoding in bodies(exchange):
            for pieces in pieces_of(exchange, body):
                usage = read(exchange, facts, pieces, encoding)
                if exchange["usage_state"] != "final":
                    assert usage.state in {UsageState.ESTIMATED, UsageState.ERROR, UsageState.ABSENT}, exchange["name"]
                elif found := differences(usage, exchange["usage"]):
                    wrong[exchange["name"]] = found
        finals += exchange["usage_state"] == "final"
    assert finals >= protocol.finals
    assert wrong.keys() == protocol.deviations.keys(), wrong


def test_no_recorded_call_that_we_bound_exceeds_its_bound(protocol: Protocol) -> None:
    """L0: the input never passes the ceiling, nor the output its limit, for any call called boundable."""
    bounded, refused, beyond = 0, 0, {}
    for exchange in recorded(protocol.endpoints):
        facts = facts_of(exchange)
        if facts is None:
            refused += 1
        elif exchange["usage_state"] == "final" and not facts.ceiling.unbounded:
            bounded += 1
            ceiling, usage = facts.ceiling, exchange["usage"]
            limit = ceiling.output_limit
            if (usage["input_tokens"] or 0) > ceiling.input_tokens or (
                limit is not None and (usage["output_tokens"] or 0) > limit * ceiling.choices
            ):
                beyond[exchange["name"]] = (ceiling, usage["input_tokens"], usage["output_tokens"])
    assert refused == protocol.not_taken
    assert bounded >= protocol.bounded
    assert beyond.keys() == protocol.beyond.keys(), beyond
