"""The `[tokenizers]` extra in the product: what the bytes of a prompt would refuse, its tokens let through."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from tests.support.llm_provider import LLMProvider
from tests.support.product import provider_environment, running_product

WORDS = 6_000
"""Of "sheep ": 36,000 bytes cost $0.09 at gpt-4o's price, as many tokens a sixth of that."""


@pytest.mark.parametrize("installed", [True, False])
def test_a_long_prompt_near_a_limit(installed: bool, tmp_path: Path, provider: LLMProvider) -> None:
    """Served with the extra and held for by its count; refused without, the provider hearing nothing."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['splintr'] = None\n")
    environment = provider_environment(provider.address) | ({} if installed else {"PYTHONPATH": str(tmp_path)})
    with running_product(tmp_path / "data", environment) as product:
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("budgets", "set", "acme", "--limit", "0.05", "--per", "lifetime")
        body = {"model": "gpt-4o", "max_tokens": 20, "messages": [{"role": "user", "content": "sheep " * WORDS}]}
        answer = httpx2.post(
            f"{product.proxy}/v1/chat/completions", json=body, headers={"Spend-Customer": "acme"}, timeout=30
        )
        assert len(provider.served) == int(installed)
        if not installed:
            assert (answer.status_code, answer.json()["error"]["code"]) == (402, "request_exceeds_budget"), answer.text
            return
        assert answer.status_code == 200, answer.text
        told = product.spend("explain", answer.headers["Spend-Request-Id"], "--json")
        held = json.loads(told.stdout)
        assert held["outcome"] == "settled"
