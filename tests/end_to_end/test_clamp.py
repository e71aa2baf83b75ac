"""Near a limit an answer is shortened so that it fits, and nothing is refused that could have been served."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product

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
    sent = provider.served[-1].body["max_tokens"]  # this provider is not OpenAI itself, whatever its name here
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


@pytest.mark.parametrize("choices", [2, 5])
def test_several_answers_share_what_is_left(product: Product, provider: LLMProvider, choices: int) -> None:
    """L0: the limit that is written in is for each of `n`; all of them at their longest still fit."""
    provider.plan = Plan(usage=lambda body, _raw: (20, body["max_tokens"] * body["n"]))
    spend_limit(product, "0.05")
    answer = client(product).chat.completions.with_raw_response.create(n=choices, **said())
    sent = provider.served[-1].body["max_tokens"]
    assert answer.headers["Spend-Clamped"] == str(sent)
    assert 256 <= sent <= 5_000 // choices  # 0.05 at 10 a million, among them all
    assert sent > 4_000 // choices
    assert [choice.finish_reason for choice in answer.parse().choices] == ["length"] * choices
    (row,) = product.usage("acme")
    assert row["charge"]["atoms"] == 20 * 2_500 + sent * choices * 10_000 <= 50_000_000
    assert ask(product, said(n=choices)).status_code == 402


def test_a_shortened_stream_ends_as_the_provider_ends_it(product: Product, provider: LLMProvider) -> None:
    """OpenAI's own client reads the whole of it, and sees `length`; a model that knows one field only is told in it."""
    provider.plan = Plan(usage=lambda body, _raw: (20, body.get("max_tokens") or body["max_completion_tokens"]))
    spend_limit(product, "0.05")
    stream = client(product).chat.completions.create(stream=True, **said(model="gpt-5"))
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("word1 ")
    assert chunks[-1].choices[0].finish_reason == "length"
    assert {name for name in provider.served[-1].body if name.startswith("max_")} == {"max_completion_tokens"}
    (row,) = product.usage("acme")
    assert "estimated" not in row["flags"]


def test_a_shortened_message_ends_as_the_provider_ends_it(product: Product, provider: LLMProvider) -> None:
    """Anthropic's own client sees `max_tokens`."""
    provider.plan = Plan(usage=lambda body, _raw: (20, body["max_tokens"]))
    spend_limit(product, "0.05")
    caller = anthropic.Anthropic(base_url=product.proxy, api_key="k", default_headers=CUSTOMER, max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "Tell me about sheep."}]
    with caller.messages.stream(model="claude-haiku-4-5", max_tokens=16_000, messages=messages) as stream:
        said_whole = stream.get_final_message()
    assert said_whole.stop_reason == "max_tokens"
    assert said_whole.usage.output_tokens == provider.served[-1].body["max_tokens"] < 16_000
    (row,) = product.usage("acme")
    assert "estimated" not in row["flags"]


def test_a_check_says_what_the_call_would_be_given(product: Product, provider: LLMProvider) -> None:
    """It may be done, shortened; the call then is. Where it would be refused, the check says no."""
    spend_limit(product, "0.05")
    asked = {"model": "gpt-4o", "provider": "openai", "input_tokens": 200, "max_output_tokens": 16_000}
    checked = httpx2.post(f"{product.proxy}/spend/v1/check", json=asked, headers=CUSTOMER, timeout=30).json()
    assert (checked["allowed"], checked["reason"]) == (True, "")
    assert 256 <= checked["clamped_to"] <= 5_000
    assert checked["cost"]["atoms"] <= 50_000_000
    answer = ask(product, said(max_tokens=16_000))
    assert answer.status_code == 200
    assert abs(provider.served[-1].body["max_tokens"] - checked["clamped_to"]) < 300  # the prompt's bound differs
    product.spend("budgets", "set", "acme", "--limit", "0.05", "--per", "lifetime", "--no-clamp")
    checked = httpx2.post(f"{product.proxy}/spend/v1/check", json=asked, headers=CUSTOMER, timeout=30).json()
    assert (checked["allowed"], checked["clamped_to"]) == (False, None)
    assert checked["max_affordable_output_tokens"] > 256


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
