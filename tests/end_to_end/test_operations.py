"""What an operator sees and does: health, metrics, explain, restarts, shutdown, the first five minutes."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product, provider_environment, running_product

CANARY = "sk-canary-7f3a91c2d4"
ASK = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


def post(product: Product, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    """One call as acme with a canary for a key."""
    sent = {"authorization": f"Bearer {CANARY}", "spend-customer": "acme"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return httpx.post(f"{product.proxy}/v1/chat/completions", json=body or ASK, headers=sent, timeout=30)


def fund(product: Product) -> None:
    """A customer with money."""
    product.spend("customers", "add", "acme")
    product.spend("grants", "add", "acme", "5")


def wait_for(condition: Any, seconds: float = 10.0) -> bool:
    """Whether something comes true within a time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_health_and_metrics(product: Product, provider: LLMProvider) -> None:
    """Probes answer, and the decisions made stand in the metrics."""
    fund(product)
    assert post(product).status_code == 200
    assert post(product, spend_customer="nobody").status_code == 403
    assert httpx.get(f"{product.health}/livez").status_code == 200
    assert httpx.get(f"{product.health}/readyz").status_code == 200
    text = httpx.get(f"{product.health}/metrics").text
    assert re.search(r'spend_decisions_total\{[^}]*outcome="admitted"[^}]*\} 1', text), text
    assert re.search(r'spend_decisions_total\{[^}]*reason="customer_unknown"[^}]*\} 1', text)
    for name in ("overhead", "holds", "lease_age", "outbox_depth", "outbox_age", "settle_errors"):
        assert re.search(rf"^spend_{name}", text, re.MULTILINE), name


def test_explain_tells_an_admission_and_a_denial(product: Product, provider: LLMProvider) -> None:
    """L34, L50: every budget consulted, ceiling, hold, charge, lease age; by the id the answer carried."""
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "0.0001", "--per", "day")
    product.spend("budgets", "set", "acme", "--limit", "100", "--per", "month", "--match", "model=gpt-4o*")
    admitted = post(product).headers["spend-request-id"]
    provider.plan = Plan(usage=lambda _body, _raw: (10, 50))
    denied = ""
    for _ in range(10):
        answer = post(product)
        if answer.status_code == 402:
            denied = answer.headers["spend-request-id"]
            break
    assert denied
    facts = json.loads(product.spend("explain", admitted, "--json").stdout)
    assert facts["outcome"] == "settled"
    assert facts["charge"]["atoms"] == product.usage("acme")[0]["charge"]["atoms"]
    assert facts["held"]["atoms"] == facts["ceiling"]["atoms"] >= facts["charge"]["atoms"] > 0
    assert len(facts["decision"]["consulted"]) == 2
    assert facts["decision"]["lease_age_ms"] is not None
    assert facts["decision"]["catalog_sha256"]
    refusal = json.loads(product.spend("explain", denied, "--json").stdout)
    assert refusal["outcome"] == "denied"
    assert refusal["reason"] in ("budget_exceeded", "request_exceeds_budget")
    people = product.spend("explain", admitted).stdout
    assert "acme" in people
    missing = product.spend("explain", "req_none", check=False)
    assert missing.returncode == 1
    assert "req_none" in missing.stderr


def test_no_key_leaves_but_to_the_provider(product: Product, provider: LLMProvider) -> None:
    """S-20, S-22: the caller's key reaches the provider, and is in no log, metric, file or answer of ours."""
    fund(product)
    answer = post(product, spend_session="s1", baggage="spend.user=ada,trace=1")
    provider.plan = Plan(status=401, error={"error": {"message": "bad key", "type": "x", "code": "invalid_api_key"}})
    refused = post(product)
    assert refused.status_code == 401
    assert refused.headers["spend-origin"] == "provider"
    sent = provider.served[0].headers
    assert sent["Authorization"] == f"Bearer {CANARY}"
    assert not [name for name in sent if name.lower().startswith("spend-")]
    assert sent["baggage"] == "trace=1"
    assert product.usage("acme")[0]["user"] == "ada"
    seen = answer.text + str(answer.headers) + httpx.get(f"{product.health}/metrics").text + product.log()
    assert CANARY not in seen
    product.stop()
    for path in product.data.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_files_are_private(product: Product) -> None:
    """Nobody else on the machine can read the book or the token."""
    assert stat.S_IMODE((product.data / "admin.json").stat().st_mode) == 0o600
    for path in product.data.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_state_survives_a_restart(product: Product, provider: LLMProvider) -> None:
    """What was spent stays spent; unused leases are back."""
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "1", "--per", "lifetime")
    assert post(product).status_code == 200
    assert product.stop() == 0
    product.start()
    child = product.balance("acme")["budgets"][0]["children"][0]
    charged = product.usage("acme")[0]["charge"]["atoms"]
    assert (child["used"]["atoms"], child["leased"]["atoms"]) == (charged, 0)
    assert child["remaining"]["atoms"] == 1_000_000_000 - charged


def test_a_caller_that_leaves_is_still_charged_exactly(product: Product, provider: LLMProvider) -> None:
    """F-23, L25: the provider's stream is read to its usage after the caller has gone."""
    fund(product)
    provider.plan = Plan(usage=lambda _body, _raw: (30, 20), chunks=20, chunk_delay_s=0.03)
    with httpx.stream(
        "POST",
        f"{product.proxy}/v1/chat/completions",
        json=ASK | {"stream": True},
        headers={"spend-customer": "acme", "authorization": "Bearer x"},
    ) as answer:
        next(answer.iter_raw())
    assert wait_for(lambda: len(product.usage("acme")) == 1)
    row = product.usage("acme")[0]
    assert row["state"] == "final"
    assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (30, 20)


def test_sigterm_lets_live_streams_end(product: Product, provider: LLMProvider) -> None:
    """F-33: a stream under way ends whole, its charge is booked, the exit code is 0."""
    fund(product)
    provider.plan = Plan(usage=lambda _body, _raw: (30, 20), chunks=20, chunk_delay_s=0.05)
    with httpx.stream(
        "POST",
        f"{product.proxy}/v1/chat/completions",
        json=ASK | {"stream": True},
        headers={"spend-customer": "acme", "authorization": "Bearer x"},
        timeout=30,
    ) as answer:
        pieces = answer.iter_raw()
        text = next(pieces)
        if product.process is None:
            raise AssertionError("not running")
        product.process.terminate()
        text += b"".join(pieces)
    assert text.rstrip().endswith(b"data: [DONE]")
    assert product.process.wait(30) == 0
    product.start()
    assert [row["state"] for row in product.usage("acme")] == ["final"]


def test_an_unknown_model_is_refused_or_counted(tmp_path: Path, provider: LLMProvider) -> None:
    """L5: unknown is never zero: denied, or by policy counted without a price."""
    unknown = ASK | {"model": "who-knows-1"}
    environment = provider_environment(provider.address)
    with running_product(tmp_path / "deny", environment) as product:
        fund(product)
        answer = post(product, unknown)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_priced")
    with running_product(tmp_path / "meter", environment | {"SPEND_UNKNOWN_MODEL": "meter"}) as product:
        fund(product)
        assert post(product, unknown).status_code == 200
        row = product.usage("acme")[0]
        assert row["charge"] is None
        assert row["usage"]["input_tokens"] == 10
        product.spend("budgets", "set", "acme", "--limit", "1", "--per", "day")
        assert post(product, unknown).status_code == 403


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/batches", "/v1/audio/speech", "/", "/v1/chat/completions/x"])
def test_no_side_door(product: Product, provider: LLMProvider, path: str) -> None:
    """Every path that is not metered is refused, with words, and never reaches the provider."""
    fund(product)
    answer = httpx.post(product.proxy + path, json=ASK, headers={"spend-customer": "acme"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "endpoint_not_metered"
    assert answer.headers["x-should-retry"] == "false"
    assert provider.served == []


def test_a_path_may_be_passed_on_by_configuration(tmp_path: Path, provider: LLMProvider) -> None:
    """Named in the configuration, a path goes to its upstream uncounted, and the metrics say so."""
    environment = provider_environment(provider.address) | {"SPEND_PASS_THROUGH": "POST /v1/rerank"}
    with running_product(tmp_path / "data", environment) as product:
        answer = httpx.post(f"{product.proxy}/v1/rerank", json=ASK)
        assert answer.status_code == 200
        assert len(provider.served) == 1
        assert re.search(r"^spend_passed_through_total\S* 1", httpx.get(f"{product.health}/metrics").text, re.MULTILINE)


def test_the_first_five_minutes(tmp_path: Path) -> None:
    """Started with no key and no setting it brings a demo provider, says so, and its three lines end in a denial."""
    environment = {"SPEND_DEMO": "auto"}
    with running_product(tmp_path / "data", environment) as product:
        wait_for(lambda: "spend budgets set" in product.log())
        text = product.log()
        assert "demo" in text.lower()
        lines = [
            line.strip()
            for line in text.splitlines()
            if re.match(r"\S*spend (customers|budgets)|for n in", line.strip())
        ]
        assert len(lines) == 3, text
        bin_folder = str(Path(sys.executable).parent)
        script = "\n".join(lines)
        done = subprocess.run(
            ["bash", "-c", script],
            env={"PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "budget_exceeded" in done.stdout, done.stdout + done.stderr
        assert "chat.completion" in done.stdout


def test_two_processes_cannot_share_a_folder(product: Product) -> None:
    """F-11: the second one says what is wrong and ends."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", "up", "--data", str(product.data), "--port", "0",
         "--health-port", "0", "--ledger-port", "0"],
        env=product.environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode not in (0, -9)
    assert "another process" in done.stderr
    assert json.loads((product.data / "admin.json").read_text())["address"] == product.ledger


def test_pipelined_requests_are_answered_in_order(product: Product, provider: LLMProvider) -> None:
    """Three requests in one segment: three answers, in order, on the same connection."""
    fund(product)
    host, port = product.proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        wire = b""
        for number in range(3):
            body = json.dumps(ASK | {"user": f"u{number}"}).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nSpend-Customer: acme\r\n"
            wire += head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        connection.sendall(wire)
        received = b""
        while received.count(b'"answer ') < 3:
            piece = connection.recv(65536)
            assert piece, received
            received += piece
    assert [served.body["user"] for served in provider.served] == ["u0", "u1", "u2"]
    assert received.index(b"answer 1") < received.index(b"answer 2") < received.index(b"answer 3")


def test_admin_needs_its_token(product: Product) -> None:
    """The ledger's API answers nobody without the token of admin.json."""
    for headers in ({}, {"authorization": "Bearer ' OR '1'='1"}):
        request = urllib.request.Request(f"{product.ledger}/v1/customers", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=10)
        assert raised.value.code == 401
        raised.value.close()
