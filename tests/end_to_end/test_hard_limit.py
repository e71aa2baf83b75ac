"""400 calls at one instant against a limit worth ten: real processes, one provider that counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from sidecar.app.settings import default_catalog
from sidecar.catalog.read import read_catalog
from sidecar.core.credits.amounts import format_amount
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.providers.registry import dialect_for
from tests.support.caller import call_from_processes
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product

PATH = "/v1/chat/completions"
BODY = json.dumps(
    {"model": "gpt-4o-mini", "max_tokens": 200, "messages": [{"role": "user", "content": "Count the sheep."}]}
)
CALLS = 400


def bound() -> Ceiling:
    """The most that BODY can use."""
    dialect = dialect_for(PATH)
    if dialect is None:
        raise AssertionError(PATH)
    return dialect.read_request(BODY.encode()).ceiling


def ceiling_atoms() -> int:
    """The most that BODY can cost."""
    rates = read_catalog(Path(default_catalog())).rates
    card = rates.find("openai", "gpt-4o-mini", 1_795_000_000_000)
    if card is None:
        raise AssertionError("gpt-4o-mini has no price")
    return price_ceiling(bound(), card, rates.currencies["usd"])


def amount(atoms: int) -> str:
    """Atoms of usd as the command line takes them."""
    rates = read_catalog(Path(default_catalog())).rates
    return format_amount(atoms, rates.currencies["usd"])


def uses_the_whole_ceiling(_body: dict[str, Any], _raw: bytes) -> tuple[int, int]:
    """A provider that bills the very bound."""
    return bound().input_tokens, 200


def calls(**headers: str) -> list[dict[str, Any]]:
    """The same call, as often as the test makes it."""
    return [{"headers": {"spend-customer": "acme", **headers}, "body": BODY} for _ in range(CALLS)]


def check_refusals(results: list[dict[str, Any]], served: int) -> None:
    """Every other call was refused as documented: for good with 402, or for now with 429."""
    assert sum(result["status"] == 200 for result in results) == served
    refusals = Counter((result["status"], result["code"]) for result in results if result["status"] != 200)
    final = {(402, "budget_exceeded"), (402, "request_exceeds_budget"), (402, "credit_balance_exhausted")}
    assert set(refusals) <= {*final, (429, "budget_in_flight")}, refusals
    for result in results:
        if result["status"] == 429:
            assert result["headers"]["x-should-retry"] == "true"
        elif result["status"] == 402:
            assert result["headers"]["x-should-retry"] == "false"


def test_ten_ceilings_admit_ten_calls(product: Product, provider: LLMProvider) -> None:
    """L0, L39, L40, F-30: the provider saw ten, the book says ten, to the atom; nothing else moved."""
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.05)
    limit = 10 * ceiling_atoms()
    for name in ("acme", "bystander"):
        product.spend("customers", "add", name, "--wallet", "none")
        product.spend("budgets", "set", name, "--limit", amount(limit), "--per", "lifetime")
    product.spend("budgets", "set", "acme", "--limit", "1000", "--per", "day", "--match", "agent=other")

    results = call_from_processes(product.proxy, PATH, calls())

    check_refusals(results, 10)
    assert len(provider.served) == 10
    booked = product.usage("acme")
    assert [row["charge"]["atoms"] for row in booked] == [ceiling_atoms()] * 10
    matched, other = sorted(product.balance("acme")["budgets"], key=lambda budget: bool(budget["match"]))
    assert [child["used"]["atoms"] for child in matched["children"]] == [limit]
    assert matched["children"][0]["remaining"]["atoms"] == 0
    assert all(child["used"]["atoms"] == 0 for child in other["children"])
    assert product.usage("bystander") == []


def test_half_used_ceilings_never_spend_more_than_the_budget(product: Product, provider: LLMProvider) -> None:
    """L39, L44: what settles below its hold is free again; still at most twenty, and never above the limit."""
    half = bound().input_tokens // 2, 100
    provider.plan = Plan(usage=lambda _body, _raw: half, delay_s=0.05)
    limit = 10 * ceiling_atoms()
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", amount(limit), "--per", "day")

    results = call_from_processes(product.proxy, PATH, calls())

    served = len(provider.served)
    assert 10 <= served <= 20
    check_refusals(results, served)
    assert sum(row["charge"]["atoms"] for row in product.usage("acme")) <= limit


def test_each_session_has_its_own_ten(product: Product, provider: LLMProvider) -> None:
    """L33: first requests of unseen sessions, all at once, admit ten each."""
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.05)
    product.spend("customers", "add", "acme", "--wallet", "none")
    limit = amount(10 * ceiling_atoms())
    product.spend("budgets", "set", "acme", "--limit", limit, "--per", "lifetime", "--each", "session")
    sessions = ("one", "two", "three", "four")
    mixed = [calls(**{"spend-session": sessions[index % 4]})[0] for index in range(CALLS)]

    results = call_from_processes(product.proxy, PATH, mixed)

    check_refusals(results, 40)
    booked = Counter(row["session"] for row in product.usage("acme"))
    assert booked == dict.fromkeys(sessions, 10)


def test_three_grants_burn_in_order_to_the_atom(product: Product, provider: LLMProvider) -> None:
    """L11, L12, L16: the promotional lot that ends first is used up first; the three pay ten calls together."""
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.05)
    one = ceiling_atoms()
    product.spend("customers", "add", "acme", "--wallet", "required")
    product.spend("grants", "add", "acme", amount(4 * one - one // 3))
    product.spend("grants", "add", "acme", amount(3 * one + one // 3), "--category", "promotional", "--expires", "2d")
    product.spend("grants", "add", "acme", amount(3 * one), "--expires", "9d")

    results = call_from_processes(product.proxy, PATH, calls())

    check_refusals(results, 10)
    grants = product.balance("acme")["grants"]
    assert [grant["consumed"]["atoms"] for grant in grants] == [grant["issued"]["atoms"] for grant in grants]
    rows = product.entries("acme", "usage")
    paid = [[leg["account"] for leg in row["legs"] if leg["bucket"] == "consumed"] for row in rows]
    order = [account for accounts in paid for account in accounts if account.startswith("grant:")]
    firsts = list(dict.fromkeys(order))
    wanted = sorted(grants, key=lambda grant: (grant["expires_at_ms"] is None, grant["expires_at_ms"]))
    assert firsts == [f"grant:{grant['grant_id']}" for grant in wanted]


def test_a_partly_used_wallet_burns_the_first_grant_first(product: Product, provider: LLMProvider) -> None:
    """L12, L16: after one call only the earliest-ending grant is touched."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 10))
    product.spend("customers", "add", "acme")
    product.spend("grants", "add", "acme", "5")
    product.spend("grants", "add", "acme", "5", "--expires", "2d")
    call_from_processes(product.proxy, PATH, calls()[:1], processes=1, head_start_s=0.5)
    consumed = {
        grant["expires_at_ms"] is None: grant["consumed"]["atoms"] for grant in product.balance("acme")["grants"]
    }
    assert consumed[True] == 0
    assert consumed[False] == product.usage("acme")[0]["charge"]["atoms"] > 0


def test_a_soft_budget_serves_all_and_says_so_once(product: Product, provider: LLMProvider) -> None:
    """L36a, L53: 400 served, one entry for the crossing."""
    provider.plan = Plan(usage=uses_the_whole_ceiling, delay_s=0.05)
    product.spend("customers", "add", "acme")
    product.spend("grants", "add", "acme", "1000")
    product.spend("budgets", "set", "acme", "--limit", amount(10 * ceiling_atoms()), "--per", "day", "--soft")

    results = call_from_processes(product.proxy, PATH, calls())

    assert [result["status"] for result in results] == [200] * CALLS
    assert len(provider.served) == len(product.usage("acme")) == CALLS
    assert len(product.entries("acme", "threshold_crossed")) == 1
    used = product.balance("acme")["budgets"][0]["children"][0]["used"]["atoms"]
    assert used == CALLS * ceiling_atoms()
