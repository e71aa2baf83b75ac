"""Every recorded exchange is claimed: by a test that holds its usage, or by name, with the reason why none does.

Skipped where the recordings are absent.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from sidecar.core.pricing.ceilings import Ceiling
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.cloud_doors import COHERE_GENERATE, COHERE_RERANK
from sidecar.providers.dialect import Dialect, Ending, RequestFacts
from sidecar.providers.doors import DoorTable, Kind
from sidecar.providers.registry import ALL_DOORS, OPENAI_IMAGES, OPENAI_RESPONSES
from tests.recordings import test_shared_clouds, test_shared_recordings
from tests.recordings.test_shared_recordings import FOLDER, differences

RECORDED: Final = 3_062
FURTHER: Final[dict[str, Dialect]] = {
    "cohere.generate": COHERE_GENERATE,
    "rerank": COHERE_RERANK,
    "openai.images": OPENAI_IMAGES,
    "openai.responses_retrieve": OPENAI_RESPONSES,
}
"""Endpoints with few recordings, held here."""

BY_TOKENS: Final = "Voyage bills a rerank by tokens, and this is how Cohere's are read"
DEVIATIONS: Final = {"openllmetry.jsonl.gz:1058": BY_TOKENS, "openllmetry.jsonl.gz:1059": BY_TOKENS}
DOORS_UNMETERED: Final = {"openai.assistants": Kind.AGENTS, "count_tokens": Kind.FREE}
"""Endpoints that are known and not metered: refused, passed on and counted, or free."""

NOT_PROVIDERS: Final = Counter({
    "os-api.agno.com": 12,  # telemetry
    "api-staging.traceloop.com": 22,
    "mcp.deepwiki.com": 17,
    "upload.wikimedia.org": 3,
    "github.com": 1,
})  # fmt: skip
PASSED_BY: Final = Counter({
    "/v1/traces/ingest": 16,  # OpenAI's own telemetry
    "/v1/predictions": 6,  # Replicate: no usage in any answer
    "/v1/models/meta/llama-2-70b-chat/predictions": 3,
    "/v1/streams": 3,
    "/ml/v1-beta/generation": 4,  # watsonx: nobody's path here
    "/v1beta/cachedContents": 1,  # a file is held, and nothing is generated
    "/v1/realtime/calls": 4,  # a later issue
    "/openai/v1/realtime/calls": 2,
})  # fmt: skip

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")


@cache
def recorded() -> tuple[dict[str, Any], ...]:
    """All exchanges, each with its name, without its answer where another test holds that."""
    return tuple(
        json.loads(line) | {"name": f"{file.name}:{number}"}
        for file in sorted(FOLDER.glob("*.jsonl.gz"))
        for number, line in enumerate(gzip.decompress(file.read_bytes()).splitlines())
    )


def held_elsewhere() -> set[str]:
    """The names of those whose usage the two other modules hold."""
    names = {exchange["name"] for exchange in test_shared_recordings.recorded()}
    for protocol in test_shared_clouds.PROTOCOLS.values():
        names |= {exchange["name"] for exchange in test_shared_clouds.recorded(protocol.endpoints)}
    return names


def test_no_recorded_exchange_is_passed_over() -> None:
    """All are held by a test, are at a door that is known, or are no provider's; of these each kind is counted."""
    held = held_elsewhere()
    left = [exchange for exchange in recorded() if exchange["name"] not in held and exchange["endpoint"] not in FURTHER]
    assert len(recorded()) == RECORDED
    hosts: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    for exchange in left:
        url = urlsplit(exchange["url"])
        door = DoorTable(ALL_DOORS).find(exchange["method"], url.path)
        kind = DOORS_UNMETERED.get(exchange["endpoint"])
        if kind is not None:
            assert door is not None, exchange["url"]
            assert (door.dialect, door.kind) == (None, kind), exchange["url"]
        elif url.netloc in NOT_PROVIDERS:
            hosts[url.netloc] += 1
        else:
            assert door is None or door.dialect is None, exchange["url"]
            paths[next((path for path in PASSED_BY if url.path.startswith(path)), exchange["url"])] += 1
    assert hosts == NOT_PROVIDERS
    assert paths == PASSED_BY


def test_the_usage_of_the_further_endpoints() -> None:
    """L5: equal to the slow reading, field by field; a rerank has units, and no tokens that anybody bills."""
    wrong, finals = {}, 0
    for exchange in recorded():
        dialect = FURTHER.get(exchange["endpoint"])
        if dialect is None:
            continue
        usage = read(exchange, dialect)
        if exchange["usage_state"] != "final":
            assert usage.state in {UsageState.ERROR, UsageState.ABSENT}
            continue
        finals += 1
        expected = exchange["usage"]
        if exchange["endpoint"] == "rerank":
            expected = expected | {"input_tokens": 0, "output_tokens": 0}
        if found := differences(usage, expected):
            wrong[exchange["name"]] = found
    assert finals == 17
    assert wrong.keys() == DEVIATIONS.keys(), wrong


def read(exchange: dict[str, Any], dialect: Dialect) -> Usage:
    """The usage of an answer, fed in pieces; what is asked for with no body is as its answer says."""
    body = base64.b64decode(exchange["request_body_b64"] or "")
    facts = dialect.read_request(body) if body else RequestFacts(Ceiling("m", 1000, 100), stream=False, body=b"")
    meter = dialect.meter(facts, status=exchange["status"], lines=b"", content_encoding="")
    answer = base64.b64decode(exchange["body_b64"])
    for at in range(0, len(answer), 13):
        meter.feed(answer[at : at + 13])
    meter.flush()
    return meter.usage(Ending.COMPLETE)


def test_no_stream_is_without_a_figure_once_usage_was_asked_for() -> None:
    """F-27: of each recorded stream that never told its usage: asked for it and told, it is final; cut, it is counted.

    These were recorded without `include_usage`, which we ask for. So each is given the chunk that OpenAI then adds, and
    read again as it was recorded, and broken off.
    """
    told = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    last = b'data: {"id":"x","choices":[],"usage":' + json.dumps(told).encode() + b"}\n\n"
    seen = 0
    for exchange in test_shared_recordings.recorded():
        if exchange["usage_state"] != "stream-without-usage":
            continue
        facts = test_shared_recordings.facts_of(exchange)
        assert facts is not None
        body = base64.b64decode(exchange["body_b64"])
        assert b'"include_usage":true' in facts.body.replace(b": ", b":")
        dialect = test_shared_recordings.DIALECTS[exchange["endpoint"]]
        at = body.rfind(b"data: [DONE]") if b"data: [DONE]" in body else len(body)  # Writer sends no such mark
        for answer, ending, states in (
            (body[:at] + last + body[at:], Ending.COMPLETE, {UsageState.FINAL}),
            (body, Ending.COMPLETE, {UsageState.ESTIMATED, UsageState.ABSENT}),
            (body[: len(body) // 2], Ending.CUT, {UsageState.ESTIMATED, UsageState.ABSENT}),
        ):
            meter = dialect.meter(facts, status=200, lines=b"", content_encoding="")
            meter.feed(answer)
            usage = meter.usage(ending)
            assert usage.state in states, (exchange["name"], usage)
            assert usage.state is UsageState.ABSENT or (usage.total().output_tokens or 0) > 0, exchange["name"]
        seen += 1
    assert seen == 155
