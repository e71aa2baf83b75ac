"""Twenty agents at one budget that ask for 32,000 tokens and use 500: nothing is refused that would have fitted.

Streamed and not, at a provider that stops billing when it is hung up on and at one that does not. An agent waits and
asks again where it is told to (429), a few times at most. The provider knows what it billed: that never passes the
limit either.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2
import pytest

from tests.support.llm_provider import LLMProvider, Plan, Served, running_provider
from tests.support.product import Product, provider_environment, running_product

AGENTS: Final = 20
ASKED: Final = 32_000
USED: Final = 500
GIVEN: Final = 20
WORDS: Final = 250
"""Of a streamed answer, two tokens each."""

LIMIT_ATOMS: Final = 1_000_000_000
INPUT_RATE, OUTPUT_RATE = 2_000, 8_000
COST_ATOMS: Final = GIVEN * INPUT_RATE + USED * OUTPUT_RATE
MODEL: Final = "gpt-4.1"
STOPS: Final = {"SPEND_UPSTREAMS__OPENAI__STOPS_BILLING_ON_DISCONNECT": "the tests' provider, 2026-11"}
ASK: Final[dict[str, Any]] = {
    "model": MODEL, "max_tokens": ASKED, "messages": [{"role": "user", "content": "Tell me about sheep."}],
}  # fmt: skip
RETRIES: Final = 2
RETRIES_OF_HELD_WHOLE: Final = 4
"""Of streams that are held for whole: what open ones hold is out of reach while they run (L44), and they run longer."""


@pytest.fixture(scope="module", params=[True, False], ids=["stops_billing", "bills_on"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`spend up` before such a provider."""
    stops = bool(request.param)
    with running_provider() as provider:
        environment = provider_environment(provider.address) | (STOPS if stops else {})
        with running_product(tmp_path_factory.mktemp("agents") / "data", environment) as product:
            yield Stage(product, provider, stops)


class Stage:
    """The product and its provider, with a new customer for each test."""

    def __init__(self, product: Product, provider: LLMProvider, stops: bool) -> None:
        self.product, self.provider, self.stops = product, provider, stops
        self.customer = ""
        self.client = httpx2.Client(timeout=60)

    def begin(self, customer: str, *, delay_s: float, chunk_delay_s: float) -> None:
        """A customer with the limit, and nothing served yet."""
        self.customer = customer
        self.product.spend("customers", "add", customer, "--wallet", "none")
        self.product.spend("budgets", "set", customer, "--limit", "1", "--per", "lifetime")
        self.provider.served.clear()
        self.provider.plan = Plan(
            usage=lambda body, _raw: (GIVEN, min(USED, body["max_tokens"])),
            chunks=WORDS,
            delay_s=delay_s,
            chunk_delay_s=chunk_delay_s,
        )

    def one(self, stream: bool) -> tuple[int, str]:
        """A call, asked again where it is told to; gives its status, and how its answer ended."""
        for _ in range(1 + (RETRIES_OF_HELD_WHOLE if stream and not self.stops else RETRIES)):
            answer = self.client.post(
                f"{self.product.proxy}/v1/chat/completions",
                json=ASK | ({"stream": True} if stream else {}),
                headers={"Spend-Customer": self.customer},
            )
            if answer.status_code != 429:
                break
            time.sleep(int(answer.headers["retry-after-ms"]) / 1000)
        return answer.status_code, finish_of(answer, stream) if answer.status_code == 200 else ""

    def billed(self, *, finished: bool = False) -> int:
        """What the provider bills: of what hung up on it, where it stops billing then, what it had written."""
        served = [one for one in self.provider.served if one.finished or not finished]
        return sum(one.input_tokens * INPUT_RATE + self._made(one) * OUTPUT_RATE for one in served)

    def _made(self, one: Served) -> int:
        return min(2 * one.sent, one.output_tokens) if self.stops and not one.finished else one.output_tokens

    def charged(self) -> int:
        """What the book has."""
        return sum(row["charge"]["atoms"] for row in self.product.usage(self.customer))


def finish_of(answer: httpx2.Response, stream: bool) -> str:
    if not stream:
        return str(answer.json()["choices"][0]["finish_reason"])
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return str(next(c["finish_reason"] for one in reversed(chunks) for c in one["choices"] if c["finish_reason"]))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_l0_l44_twenty_agents_see_no_false_refusal_before_four_fifths(stage: Stage, stream: bool) -> None:
    """And then, at the limit, spend stays below it to the atom, by the book and by the provider's own count.

    Streams whose holds grow all come to their own end before that; the others may be shortened, and are not refused.
    """
    grows = stage.stops and stream
    stage.begin(f"agents-{stream}-{stage.stops}", delay_s=0.02, chunk_delay_s=0.001 if grows else 0.0)
    calls = LIMIT_ATOMS * 8 // 10 // COST_ATOMS
    with ThreadPoolExecutor(AGENTS) as agents:
        seen = list(agents.map(lambda _: stage.one(stream), range(calls)))
    assert {status for status, _ in seen} == {200}
    whole = sum(finish == "stop" for _, finish in seen)
    assert whole == calls or not grows
    used_at_refusal: list[int] = []

    def until_refused(_: int) -> int:
        status = stage.one(stream)[0]
        if status != 200:
            used_at_refusal.append(stage.billed(finished=True))
        return status

    with ThreadPoolExecutor(AGENTS) as agents:
        rest = list(agents.map(until_refused, range(4 * AGENTS)))
    assert {*rest} == {200, 402} or {*rest} == {200, 402, 429}
    charged, billed = stage.charged(), stage.billed()
    print(
        f"{whole} of {calls} whole; used at the first refusal {min(used_at_refusal) / LIMIT_ATOMS:.2%}, then {charged}"
    )
    assert charged <= LIMIT_ATOMS
    assert billed <= LIMIT_ATOMS
    assert charged >= LIMIT_ATOMS * 95 // 100
