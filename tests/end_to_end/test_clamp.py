"""Near a limit an answer is shortened so that it fits, and nothing is refused that could have been served."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product

AGENTS = 20
ASKED = 32_000
USED = 500
CUSTOMER = {"Spend-Customer": "acme"}


def client(product: Product) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{product.proxy}/v1", api_key="sk-test", default_headers=CUSTOMER, max_retries=0)


def spend_limit(product: Product, limit: str, *more: str) -> None:
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", limit, "--per", "lifetime", *more)


def ask(product: Product, body: dict[str, Any]) -> httpx2.Response:
    return httpx2.post(f"{product.proxy}/v1/chat/completions", json=body, headers=CUSTOMER, timeout=30)


def said(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "Tell me about sheep."}], **more}


def test_a_newcomer_with_less_than_the_longest_answer_costs_is_served(product: Product, provider: LLMProvider) -> None:
    """No output limit is sent, the longest answer would not fit: the limit is written in, and told."""
    provider.plan = Plan(usage=lambda _body, _raw: (12, USED))
    spend_limit(product, "0.05")  # gpt-4o's longest answer costs 0.16384
    answer = client(product).chat.completions.with_raw_response.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Tell me about sheep."}]
    )
    assert answer.parse().choices[0].message.content
    sent = provider.served[-1].body["max_completion_tokens"]
    assert answer.headers["Spend-Clamped"] == str(sent)
    assert 256 <= sent <= 5_000  # 0.05 at 10 a million
    explained = product.spend("explain", answer.headers["Spend-Request-Id"])
    assert f"output limit {sent} tokens, asked for: none" in explained.stdout


def test_anthropic_is_told_in_its_own_field(product: Product, provider: LLMProvider) -> None:
    """The caller's own `max_tokens` is lowered; the header names both."""
    spend_limit(product, "0.05")
    caller = anthropic.Anthropic(base_url=product.proxy, api_key="k", default_headers=CUSTOMER, max_retries=0)
    answer = caller.messages.with_raw_response.create(
        model="claude-haiku-4-5", max_tokens=16_000, messages=[{"role": "user", "content": "Tell me about sheep."}]
    )
    sent = provider.served[-1].body["max_tokens"]
    assert sent < 16_000
    assert answer.headers["Spend-Clamped"] == f"{sent}; asked=16000"


def test_where_answers_must_not_be_shortened_it_is_refused(product: Product, provider: LLMProvider) -> None:
    """`--no-clamp` on one hard budget that applies is enough; taken back, the call is served."""
    spend_limit(product, "0.05", "--no-clamp")
    with pytest.raises(openai.APIStatusError) as refused:
        client(product).chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Sheep?"}])
    assert refused.value.status_code == 402
    assert provider.served == []
    product.spend("budgets", "set", "acme", "--limit", "0.05", "--per", "lifetime")
    assert ask(product, said()).status_code == 200


def test_below_the_floor_it_is_refused(product: Product, provider: LLMProvider) -> None:
    """An answer of a few words is worth less than a clear no."""
    spend_limit(product, "0.002")  # some 190 tokens
    refused = ask(product, said())
    assert refused.status_code == 402
    assert 0 < refused.json()["error"]["spend"]["max_affordable_output_tokens"] < 256
    assert provider.served == []


def test_twenty_agents_see_no_false_refusal_before_four_fifths(product: Product, provider: LLMProvider) -> None:
    """L0: holds many times the cost do not refuse what fits, and what was admitted never exceeds the limit.

    An agent waits and asks again where it is told to (429), as the SDKs do, twice at most. The provider keeps
    to the output limit that it is sent.
    """
    provider.plan = Plan(usage=lambda body, _raw: (20, min(USED, body["max_tokens"])), delay_s=0.05)
    limit_atoms, cost_atoms = 1_000_000_000, 20 * 2_000 + USED * 8_000
    spend_limit(product, "1")  # 32,000 tokens at 8 a million are 0.256: three fit at once
    calls = limit_atoms * 8 // 10 // cost_atoms

    def one(_: int) -> int:
        for _ in range(3):
            answer = ask(product, said(model="gpt-4.1", max_tokens=ASKED))
            if answer.status_code != 429:
                break
            time.sleep(int(answer.headers["retry-after-ms"]) / 1000)
        return answer.status_code

    with ThreadPoolExecutor(AGENTS) as agents:
        seen = list(agents.map(one, range(calls)))
    assert seen == [200] * calls
    with ThreadPoolExecutor(AGENTS) as agents:
        rest = list(agents.map(one, range(3 * AGENTS)))
    assert {*rest} <= {200, 402, 429}
    used = sum(row["charge"]["atoms"] for row in product.usage("acme"))
    assert used == sum(one.input_tokens * 2_000 + one.output_tokens * 8_000 for one in provider.served)
    assert used <= limit_atoms
