"""A provider that cuts its streams: the caller sees a cut, and the book one settlement, for no less than was seen."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path
from typing import Final

import pytest

from sidecar.app.tokenizing import SplintrTokenizer
from tests.recordings.exchange import ANTHROPIC, OPENAI
from tests.recordings.test_own_exchanges import EXCHANGES
from tests.support.product import Product, provider_environment, running_product
from tests.support.recording_provider import recording_provider
from tests.support.scripted_provider import Script
from tests.support.visible import shown_texts

CUTS_OF_EACH: Final = 4
STREAM_BYTES_MAX: Final = 8_000
ENOUGH_SEEN: Final = 10
MODELS: Final = {OPENAI: "gpt-4o", ANTHROPIC: "claude-sonnet-4-5"}
TOKEN_ATOMS: Final = {OPENAI: 10_000, ANTHROPIC: 15_000}
"""What a token of the answer costs there, in atoms (10⁻⁹ usd): $10 and $15 a million."""

STOPS: Final = {"SPEND_UPSTREAMS__ANTHROPIC__STOPS_BILLING_ON_DISCONNECT": "the test's own provider, 2026-11"}
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def streams(path: str) -> list[bytes]:
    """Streams of our own making in one protocol that come to their end."""
    return [
        exchange.answer
        for exchange in EXCHANGES
        if (exchange.path, exchange.status, exchange.encoding, exchange.finished) == (path, 200, "", True)
        and len(exchange.answer) < STREAM_BYTES_MAX
    ]


def ask(product: Product, path: str) -> tuple[str, bytes, bool]:
    """Ask for a stream: its request id, what came of it, and whether it ended as if it were whole."""
    body = {"model": MODELS[path], "max_tokens": 900, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    if path == OPENAI:
        body["stream_options"] = {"include_usage": True}
    connection = http.client.HTTPConnection(product.proxy.removeprefix("http://"), timeout=30)
    connection.request("POST", path, json.dumps(body), {"Spend-Customer": "acme", "Authorization": "Bearer sk-test"})
    answer, came = connection.getresponse(), b""
    assert answer.status == 200
    try:
        while piece := answer.read1():
            came += piece
    except (http.client.HTTPException, ConnectionError):
        return answer.headers["Spend-Request-Id"], came, False
    finally:
        connection.close()
    return answer.headers["Spend-Request-Id"], came, True


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_stream_that_its_provider_cuts_is_settled_once(tmp_path: Path, path: str) -> None:
    """L25, F-22: at whatever byte; of a provider that stops billing when hung up on too (Anthropic, here)."""
    tokenizer, dice = SplintrTokenizer(), random.Random(path)
    least: dict[str, int] = {}
    with (
        recording_provider() as provider,
        running_product(tmp_path / "spend", provider_environment(provider.url) | STOPS) as product,
    ):
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("budgets", "set", "acme", "--limit", "1000", "--per", "month")
        for stream in streams(path):
            for place in sorted(dice.sample(range(1, len(stream)), CUTS_OF_EACH)):
                provider.then(Script.raw(HEAD + b"%x\r\n" % len(stream) + stream[:place]))
                request_id, came, whole = ask(product, path)
                assert not whole, "a cut must not look like an end"
                assert stream.startswith(came)
                least[request_id] = tokenizer.count("o200k_base", ["".join(shown_texts(came))]) * TOKEN_ATOMS[path]
        booked = product.usage("acme")
    assert sorted(row["request_id"] for row in booked) == sorted(least)
    assert sum(atoms > 0 for atoms in least.values()) > ENOUGH_SEEN
    for row in booked:
        assert row["charge"]["atoms"] >= max(1, least[row["request_id"]]), row
