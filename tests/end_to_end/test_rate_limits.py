"""Rate limits on real processes: a ledger, two sidecars, a Redis that is killed; and `spend up` alone."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.end_to_end.test_fleet import running_fleet, set_limit
from tests.end_to_end.test_hard_limit import BODY, PATH
from tests.support.caller import call_from_processes
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product
from tests.support.redis import Server, needs_redis

FULL = (429, "rate_limit_exceeded")


def crowd(on: Sequence[Product], calls: int, customer: str = "acme") -> Counter[tuple[int, str]]:
    """So many calls at one instant on each; how many of each outcome."""
    bodies = [{"headers": {"spend-customer": customer}, "body": BODY} for _ in range(calls)]
    with ThreadPoolExecutor(len(on)) as pool:
        both = pool.map(lambda one: call_from_processes(one.proxy, PATH, bodies, processes=1), on)
        return Counter((result["status"], result["code"]) for some in both for result in some)


def metric(product: Product, name: str) -> float:
    """One of its figures."""
    with urllib.request.urlopen(f"{product.health}/metrics", timeout=5) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_f_12_a_fleet_keeps_a_rate_limit_with_redis_and_without(tmp_path: Path, provider: LLMProvider) -> None:
    """L37, F-12: exactly the limit while Redis answers; when it is killed no more than once again, and then nothing.

    Who has no rate limit never asks it; what a budget holds stands as ever.
    """
    needs_redis()
    redis = Server()
    settings = {"SPEND_REDIS__URL": redis.url, "SPEND_REDIS__DEADLINE_S": "5"}
    with running_fleet(tmp_path, provider, **settings) as fleet:
        for customer in ("acme", "beta"):
            fleet.ledger.spend("customers", "add", customer, "--wallet", "none")
        set_limit(fleet, 100_000)
        fleet.ledger.spend("budgets", "set", "beta", "--limit", "1000", "--per", "lifetime")
        assert set(crowd(fleet.sidecars, 20, "beta")) == {(200, "")}
        assert [metric(one, "spend_redis_orders") for one in fleet.sidecars] == [0, 0]

        fleet.ledger.spend("limits", "set", "acme", "--requests", "40", "--per", "1h")
        before = len(provider.served)
        found = crowd(fleet.sidecars, 100)
        assert found == Counter({(200, ""): 40, FULL: 160})
        assert len(provider.served) - before == 40
        assert all(metric(one, "spend_redis_orders") > 0 for one in fleet.sidecars)
        assert [metric(one, "spend_redis_unanswered") for one in fleet.sidecars] == [0, 0]

        redis.kill()
        for _ in range(3):
            assert set(crowd(fleet.sidecars, 60)) <= {(200, ""), FULL}
        assert len(provider.served) - before <= 80
        once_more = len(provider.served)
        assert set(crowd(fleet.sidecars, 20)) == {FULL}
        assert len(provider.served) == once_more
        redis.start()
        assert crowd(fleet.sidecars, 20)[200, ""] == 0
        assert fleet.ledger.problems("acme") == []
    redis.remove()


def test_spend_up_keeps_rate_limits_by_itself(product: Product, provider: LLMProvider) -> None:
    """Without any Redis one process is the whole fleet: of requests, tokens and calls at once exactly the limit."""
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "1000", "--per", "lifetime")
    made = product.spend("limits", "set", "acme", "--requests", "7", "--per", "1h")
    assert "acme may use 7 requests in any 1h" in made.stdout
    assert crowd([product], 40) == Counter({(200, ""): 7, FULL: 33})
    listed = product.spend("limits", "list", "acme").stdout
    name = listed.split()[-1]
    product.spend("limits", "remove", "acme", name, "--reason", "too narrow")
    assert crowd([product], 10) == Counter({(200, ""): 10})
    product.spend("limits", "set", "acme", "--concurrent", "0")
    assert crowd([product], 3) == Counter({FULL: 3})
    assert len(provider.served) == 17


def test_an_answer_is_shortened_to_what_a_window_of_tokens_has_left(product: Product, provider: LLMProvider) -> None:
    """As near a budget: written into the body, told in header and `explain`; below the floor it is 429."""
    provider.plan = Plan(usage=lambda body, _raw: (20, body["max_tokens"]))
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "1000", "--per", "lifetime")
    product.spend("limits", "set", "acme", "--tokens", "5000", "--per", "1h")

    def ask(**more: int) -> tuple[int, dict[str, str]]:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Tell me about sheep."}], **more}
        url, headers = f"{product.proxy}/v1/chat/completions", {"Spend-Customer": "acme"}
        answer = httpx2.post(url, json=body, headers=headers, timeout=30)
        return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}

    status, headers = ask(max_tokens=3_000)
    assert (status, "spend-clamped" in headers) == (200, False)
    status, headers = ask()
    sent = provider.served[-1].body["max_tokens"]
    assert (status, headers["spend-clamped"]) == (200, str(sent))
    assert 256 <= sent < 5_000 - 3_020
    explained = product.spend("explain", headers["spend-request-id"])
    assert f"output limit {sent} tokens, asked for: none" in explained.stdout
    status, headers = ask()
    assert (status, headers["x-ratelimit-limit-tokens"], len(provider.served)) == (429, "5000", 2)
    assert sum(one.input_tokens + one.output_tokens for one in provider.served) <= 5_000
