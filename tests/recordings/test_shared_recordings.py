"""Real traffic, recorded by others: the usage read from it equals an independent, slow reading.

The recordings are not part of this repository; where they are absent these tests are skipped.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.app.tokenizing import SplintrTokenizer
from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Tokens, Usage, UsageState
from sidecar.providers.dialect import BadRequest, Dialect, Ending, RequestFacts
from sidecar.providers.exact_tokens import countable, counted
from sidecar.providers.registry import (
    ANTHROPIC_MESSAGES,
    OLLAMA,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    OPENAI_RESPONSES,
)
from tests.recordings.exchange import cut_at

FOLDER: Final = Path(__file__).parents[3] / "shared" / "recordings"
DIALECTS: Final[dict[str, Dialect]] = {
    "openai.chat": OPENAI_CHAT,
    "openai.responses": OPENAI_RESPONSES,
    "openai.responses_compact": OPENAI_RESPONSES,
    "openai.completions": OPENAI_COMPLETIONS,
    "openai.embeddings": OPENAI_EMBEDDINGS,
    "ollama.chat": OLLAMA,
    "ollama.generate": OLLAMA,
    "anthropic.messages": ANTHROPIC_MESSAGES,
}
NOT_JSON: Final = 6
"""Recorded requests whose own JSON is broken (Writer): they are refused, and so have no ceiling."""

LEAST_COUNTED: Final = 150
"""Recorded prompts that can be counted, at least: fewer, and what is meant to be shown is not."""

VOYAGE: Final = "Voyage tells `total_tokens` alone, which of embeddings is the input; the slow reading leaves it unsaid"
DEVIATIONS: Final[dict[str, str]] = {
    "openllmetry.jsonl.gz:1056": VOYAGE,
    "openllmetry.jsonl.gz:1057": VOYAGE,
    "pydantic-ai.jsonl.gz:104": VOYAGE,
    "pydantic-ai.jsonl.gz:106": VOYAGE,
    "pydantic-ai.jsonl.gz:107": VOYAGE,
    "pydantic-ai.jsonl.gz:108": VOYAGE,
    "pydantic-ai.jsonl.gz:109": VOYAGE,
}
"""Exchanges whose reading is meant to differ, and why."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")


@cache
def recorded() -> tuple[dict[str, Any], ...]:
    """All recorded exchanges of these protocols."""
    found = []
    for file in sorted(FOLDER.glob("*.jsonl.gz")):
        for number, line in enumerate(gzip.decompress(file.read_bytes()).splitlines()):
            if any(name.encode() in line for name in DIALECTS):
                exchange = json.loads(line) | {"name": f"{file.name}:{number}"}
                if exchange["endpoint"] in DIALECTS:
                    found.append(exchange)
    return tuple(found)


def facts_of(exchange: dict[str, Any]) -> RequestFacts | None:
    """What its request says; None where it is not JSON."""
    try:
        return DIALECTS[exchange["endpoint"]].read_request(base64.b64decode(exchange["request_body_b64"] or ""))
    except BadRequest:
        return None


def bodies(exchange: dict[str, Any]) -> Iterator[tuple[bytes, str]]:
    """The answer as it was decoded, and as it came compressed where that was kept."""
    yield base64.b64decode(exchange["body_b64"]), ""
    if exchange.get("wire_body_b64"):
        yield base64.b64decode(exchange["wire_body_b64"]), exchange["recorded_encoding"]


def read(exchange: dict[str, Any], pieces: list[bytes], encoding: str) -> tuple[bytes, Usage]:
    """Feed an answer in these pieces: what the caller sees, and the usage."""
    facts = facts_of(exchange) or RequestFacts(Ceiling("unknown", 1000, 100), stream=False, body=b"")
    meter = DIALECTS[exchange["endpoint"]].meter(facts, status=exchange["status"], lines=b"", content_encoding=encoding)
    shown = b"".join([meter.feed(piece) for piece in pieces]) + meter.flush()
    return shown, meter.usage(Ending.COMPLETE)


def differences(usage: Usage, expected: dict[str, Any]) -> dict[str, Any]:
    """Each field that is not as the independent reading has it: (ours, theirs)."""
    total = usage.total()
    ours: dict[str, Any] = {field: getattr(total, field) for field in Tokens.__struct_fields__}
    theirs: dict[str, Any] = {field: expected.get(field) for field in ours}
    ours |= {"state": usage.state, "units": usage.units, "tier": usage.tier}
    theirs |= {"state": UsageState.FINAL, "units": expected["units"], "tier": expected["service_tier"] or None}
    if expected.get("lines"):
        ours["lines"] = [(line.tokens.input_tokens, line.tokens.output_tokens, line.model) for line in usage.lines]
        theirs["lines"] = [(line["input_tokens"], line["output_tokens"], line["model"]) for line in expected["lines"]]
    return {field: (ours[field], theirs[field]) for field in ours if ours[field] != theirs[field]}


def pieces_of(exchange: dict[str, Any], body: bytes) -> Iterator[list[bytes]]:
    yield [body]
    dice = random.Random(exchange["name"])
    yield cut_at(body, sorted(dice.randrange(len(body) + 1) for _ in range(dice.randint(3, 12))))
    yield [body[i : i + 1] for i in range(len(body))]


def test_every_recorded_usage_is_read_as_the_slow_reading_has_it() -> None:
    """Final usage is equal field by field, whole and cut; everything else ends in a stated state (L5)."""
    wrong: dict[str, Any] = {}
    finals = 0
    for exchange in recorded():
        facts = facts_of(exchange)
        for body, encoding in bodies(exchange):
            for pieces in pieces_of(exchange, body):
                shown, usage = read(exchange, pieces, encoding)
                if facts is None or not facts.hide_usage:
                    assert shown == body, exchange["name"]
                if exchange["usage_state"] == "final":
                    finals += 1
                    if found := differences(usage, exchange["usage"]):
                        wrong[exchange["name"]] = found
                else:
                    assert usage.state in {UsageState.ESTIMATED, UsageState.ERROR, UsageState.ABSENT}, exchange["name"]
    assert finals > 3000
    assert wrong.keys() == DEVIATIONS.keys(), wrong


def test_no_recorded_call_that_we_bound_exceeds_its_bound() -> None:
    """L0: the input never passes the ceiling, nor the output its limit, for any call called boundable."""
    bounded, refused, beyond = 0, 0, {}
    for exchange in recorded():
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
    assert refused == NOT_JSON
    assert bounded > 1000
    assert not beyond


def test_a_stream_whose_usage_is_asked_for_is_shown_without_the_chunk() -> None:
    """Recorded streams with a usage chunk of their own: hidden, and nothing else is missing."""
    hidden = 0
    for exchange in recorded():
        if exchange["endpoint"] != "openai.chat" or exchange["framing"] != "sse":
            continue
        body = base64.b64decode(exchange["body_b64"])
        facts = RequestFacts(Ceiling("m", 1000, 100), stream=True, body=b"", hide_usage=True)
        meter = OPENAI_CHAT.meter(facts, status=200, lines=b"", content_encoding="")
        shown = b"".join([meter.feed(body[i : i + 777]) for i in range(0, len(body), 777)]) + meter.flush()
        events, left = body.split(b"\n\n"), shown.split(b"\n\n")
        missing = [event for event in events if event not in left]
        assert [event for event in events if event in left] == left
        for event in missing:
            chunk = json.loads(event.removeprefix(b"data:"))
            assert chunk["choices"] == []
            assert chunk["usage"]
        hidden += len(missing)
    assert hidden > 30


def test_a_counted_bound_is_never_below_what_openai_counted() -> None:
    """L0: on every recorded prompt of OpenAI's that can be counted, for a fraction of what its bytes would hold."""
    tokenizer, seen, bytes_bound, counted_bound = SplintrTokenizer(), 0, 0, 0
    for exchange in recorded():
        told = (exchange["usage"] or {}).get("input_tokens")
        facts = facts_of(exchange) if exchange["endpoint"] == "openai.chat" else None
        if exchange["provider"] not in {"openai", "azure"} or not told or facts is None:
            continue
        found = countable(facts)
        if found is None:
            continue
        tokens = tokenizer.count(found.vocabulary, found.texts)
        assert tokens < told, (exchange["name"], "the count itself is no bound: the frame comes on top")
        lower = counted(facts, found, tokens)
        bound = tokens + found.frame_tokens
        assert bound >= told, exchange["name"]
        assert lower is None or lower.ceiling.input_tokens == bound
        seen += 1
        bytes_bound += facts.ceiling.input_tokens
        counted_bound += min(bound, facts.ceiling.input_tokens)
    assert seen >= LEAST_COUNTED
    assert counted_bound < bytes_bound
    print(f"{seen} prompts, {bytes_bound} tokens by their bytes, {counted_bound} by count")
