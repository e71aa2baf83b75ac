"""`kill -9` at random moments under streamed load: the provider's truth and the book agree."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sidecar.app.data_folder import BOOK
from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product, provider_environment, running_product

CALLS_PER_ROUND = 24


def rate_atoms(given: int, made: int) -> int:
    """What gpt-4o-mini costs in atoms (10⁻⁹ usd): $0.15 and $0.60 per million tokens."""
    return given * 150 + made * 600


def start_load(product: Product, first: int) -> subprocess.Popen[str]:
    """A process that opens streams, each with a session id of its own, in its prompt too."""
    calls = []
    for number in range(first, first + CALLS_PER_ROUND):
        body: dict[str, Any] = {
            "model": "gpt-4o-mini",
            "max_tokens": 300,
            "stream": number % 3 != 0,
            "messages": [{"role": "user", "content": f"call {number}"}],
        }
        headers = {"spend-customer": "acme", "spend-session": f"s{number}"}
        calls.append({"headers": headers, "body": json.dumps(body)})
    plan = {"address": product.proxy, "path": "/v1/chat/completions", "calls": calls, "at": 0, "timeout_s": 20}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.caller"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if process.stdin is None:
        raise RuntimeError("no standard input")
    process.stdin.write(json.dumps(plan))
    process.stdin.close()
    return process


def wait_for_load(product: Product, first: int) -> None:
    """The same, to its end."""
    load = start_load(product, first)
    if load.stdout is None:
        raise RuntimeError("no standard output")
    load.stdout.read()
    load.stdout.close()
    load.wait(30)


def run_kills(data: Path, provider: LLMProvider, kills: int, seed: int) -> None:
    """Kill the product `kills` times under load, start it again each time, and compare in the end."""
    chance = random.Random(seed)
    provider.plan = Plan(usage=lambda _body, raw: (40 + len(raw) % 7, 60), chunks=12, chunk_delay_s=0.01, delay_s=0.02)
    with running_product(data, provider_environment(provider.address)) as product:
        product.spend("customers", "add", "acme")
        product.spend("grants", "add", "acme", "3", "--expires", "30d")
        product.spend("grants", "add", "acme", "1000")
        product.spend("budgets", "set", "acme", "--limit", "1000", "--per", "month")
        product.spend("budgets", "set", "acme", "--limit", "2", "--per", "lifetime", "--each", "session")
        whole: set[str] = set()
        for kill in range(kills):
            first = kill * CALLS_PER_ROUND
            load = start_load(product, first)
            time.sleep(0.35 + chance.random() * 0.5)
            product.kill()
            if load.stdout is None:
                raise RuntimeError("no standard output")
            results = json.loads(load.stdout.read())
            load.stdout.close()
            load.wait(30)
            whole |= {f"s{first + i}" for i, r in enumerate(results) if r["status"] == 200 and r["whole"]}
            product.start()
        compare(product, provider, whole)
        balance = product.balance("acme")
        verified = json.loads(product.spend("verify", "acme", "--json").stdout)
        assert verified["problems"] == []
        booked = sum(row["charge"]["atoms"] for row in product.usage("acme"))
        assert sum(grant["consumed"]["atoms"] for grant in balance["grants"]) == booked
        assert sum(grant["leased"]["atoms"] for grant in balance["grants"]) >= 0


def compare(product: Product, provider: LLMProvider, whole: set[str]) -> None:
    """Every call that reached the provider is booked once, never below its truth; whole answers exactly."""
    rows = product.usage("acme")
    by_session: dict[str, dict[str, Any]] = {}
    for row in rows:
        assert row["session"] not in by_session, f"{row['session']} was booked twice"
        by_session[row["session"]] = row
    for served in provider.served:
        session = "s" + served.body["messages"][0]["content"].removeprefix("call ")
        assert session in by_session, f"{session} reached the provider and is not in the book"
        row = by_session[session]
        truth = rate_atoms(served.input_tokens, served.output_tokens)
        if session in whole:
            assert row["charge"]["atoms"] == truth, f"{session} was answered whole and is booked wrongly: {row}"
        assert row["charge"]["atoms"] >= truth
        if row["charge"]["atoms"] != truth:
            assert "estimated" in row["flags"]
    assert len(by_session) == len(rows)


def test_twenty_kills(tmp_path: Path, provider: LLMProvider) -> None:
    """L25, L29, L46, L49, F-31: nothing lost, nothing twice, estimates flagged and never below."""
    run_kills(tmp_path / "data", provider, 20, seed=20261124)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(16))
def test_four_hundred_kills(tmp_path: Path, provider: LLMProvider, seed: int) -> None:
    """The same, sixteen times twenty-five, with the kills spread otherwise; with those of ledgers a thousand."""
    run_kills(tmp_path / "data", provider, 25, seed=seed)


def test_an_application_that_crashes_in_a_loop(tmp_path: Path, provider: LLMProvider) -> None:
    """F-54: each of its runs is another caller and nothing else: its calls are settled, the next run is served."""
    provider.plan = Plan(usage=lambda _body, raw: (40 + len(raw) % 7, 60), chunks=12, chunk_delay_s=0.01, delay_s=0.02)
    with running_product(tmp_path / "data", provider_environment(provider.address)) as product:
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("budgets", "set", "acme", "--limit", "1000", "--per", "month")
        for run in range(5):
            load, before = start_load(product, run * CALLS_PER_ROUND), len(provider.served)
            give_up_at = time.monotonic() + 30
            while len(provider.served) < before + CALLS_PER_ROUND // 2 and time.monotonic() < give_up_at:
                time.sleep(0.01)
            load.kill()
            load.wait()
            if load.stdout is not None:
                load.stdout.close()
        wait_for_load(product, 5 * CALLS_PER_ROUND)
        whole = {f"s{5 * CALLS_PER_ROUND + number}" for number in range(CALLS_PER_ROUND)}
        assert product.stop() == 0
        product.start()
        compare(product, provider, whole)
        assert whole <= {row["session"] for row in product.usage("acme")}
        lent = {entry["facts"]["incarnation"] for entry in product.entries("acme", "lent")}
        assert len(lent) == 1


def test_leases_of_a_killed_process_are_closed_to_the_atom(tmp_path: Path, provider: LLMProvider) -> None:
    """L46: after a restart nothing stays lent to the dead process."""
    provider.plan = Plan(usage=lambda _body, _raw: (40, 60))
    with running_product(tmp_path / "data", provider_environment(provider.address)) as product:
        product.spend("customers", "add", "acme")
        product.spend("grants", "add", "acme", "10")
        wait_for_load(product, 0)
        product.kill()
        product.start()
        grant = product.balance("acme")["grants"][0]
        assert grant["consumed"]["atoms"] == sum(row["charge"]["atoms"] for row in product.usage("acme"))
        assert grant["leased"]["atoms"] == 0
        assert grant["available"]["atoms"] == grant["issued"]["atoms"] - grant["consumed"]["atoms"]


def test_a_book_put_back_gets_what_it_lacks(tmp_path: Path, provider: LLMProvider) -> None:
    """L50a, F-18: an earlier copy of the book has every call again before it lends anything."""
    provider.plan = Plan(usage=lambda _body, _raw: (40, 60))
    data, copy = tmp_path / "data", tmp_path / "copy.sqlite"
    with running_product(data, provider_environment(provider.address)) as product:
        product.spend("customers", "add", "acme", "--wallet", "none")
        product.spend("budgets", "set", "acme", "--limit", "10", "--per", "lifetime")
        wait_for_load(product, 0)
        product.usage("acme")
        with closing(sqlite3.connect(data / BOOK)) as book, closing(sqlite3.connect(copy)) as backup:
            book.backup(backup)
        wait_for_load(product, CALLS_PER_ROUND)
        assert len(product.usage("acme")) == len(provider.served) == 2 * CALLS_PER_ROUND
        product.kill()
        for path in data.glob(f"{BOOK}-*"):
            path.unlink()
        shutil.copyfile(copy, data / BOOK)
        product.start()
        assert "book_has_lost_something" in product.log()
        compare(product, provider, set())
        used = product.balance("acme")["budgets"][0]["children"][0]
        assert used["used"]["atoms"] == 2 * CALLS_PER_ROUND * rate_atoms(40, 60)
        assert used["leased"]["atoms"] == 0
        assert json.loads(product.spend("verify", "acme", "--json").stdout)["problems"] == []
