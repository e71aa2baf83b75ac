"""The real product between raw sockets and a provider that keeps every byte: for what must not get through."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.product import Product, running_product
from tests.support.raw_socket import Answer, RawSocket, connected
from tests.support.recording_provider import RecordingProvider, recording_provider

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
GOOD_BODY = b'{"model":"gpt-4o-mini","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'
GOOD_MESSAGE = b'{"model":"claude-3-haiku","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'

LINE = re.compile(r"^\S+Z?\+?\S* (?:INFO|WARNING) +\S+(?: \S+=.*)?$")
"""A line of the log: an instant, a level, an event, facts."""

SETTLED_WITHIN_S = 10.0


class Besieged:
    """The product, its provider, and what a test wants to know of both."""

    def __init__(self, product: Product, provider: RecordingProvider) -> None:
        self.product = product
        self.provider = provider
        self.token = json.loads((product.data / "admin.json").read_text())["token"]
        self._log_at = 0

    # -- callers

    def connect(self) -> Any:
        """A raw connection to the proxy's port."""
        return connected(self.product.proxy)

    def send(self, *wire: bytes) -> Answer:
        """One connection, these bytes, one answer."""
        with connected(self.product.proxy) as raw:
            raw.send(*wire)
            return raw.answer()

    def post(self, body: bytes = GOOD_BODY, *lines: str, target: str = CHAT, who: str = "acme") -> Answer:
        """A usual request with a body."""
        return self.send(request(body, *lines, target=target, who=who))

    # -- the provider

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Nothing reaches the provider while this lasts."""
        before = self.provider.heard
        yield
        after = self.provider.heard
        assert after == before, self.provider.all_heard()[-2000:]

    # -- the ledger and the health port

    def ask(self, path: str, form: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Ask the ledger's API as its administrator; gives the status and the decoded answer."""
        data = None if form is None else json.dumps(form).encode()
        asked = urllib.request.Request(self.product.ledger + path, data=data)
        asked.add_header("Authorization", f"Bearer {self.token}")
        asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def fund(self, customer: str, amount: str = "100") -> None:
        """A customer with credit."""
        forms: tuple[tuple[str, dict[str, str]], ...] = (
            ("/v1/customers", {"customer": customer}),
            ("/v1/grants", {"customer": customer, "amount": amount, "currency": "usd"}),
        )
        for path, form in forms:
            status, said = self.ask(path, form)
            assert status < 300, said

    def explained(self, answer: Answer) -> dict[str, Any]:
        """What the ledger says of the call that got this answer, once it is settled."""
        request_id = answer.headers["spend-request-id"]
        until = time.monotonic() + SETTLED_WITHIN_S
        while True:
            status, facts = self.ask(f"/v1/requests/{request_id}")
            if status == 200 and facts["outcome"] != "open":
                assert isinstance(facts, dict)
                return facts
            assert time.monotonic() < until, f"{request_id} is not settled: {status} {facts}"
            time.sleep(0.02)

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        with urllib.request.urlopen(f"{self.product.health}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        found = [line.rpartition(" ") for line in text.splitlines() if line.startswith(name)]
        return sum(float(value) for series, _, value in found if series[len(name) : len(name) + 1] in {"", "{", ","})

    def memory_bytes(self) -> int:
        """The most memory that the process has had resident so far."""
        assert self.product.process is not None
        status = Path(f"/proc/{self.product.process.pid}/status").read_text()
        peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        assert peak is not None
        return int(peak[1]) * 1024

    # -- the log

    def new_lines(self) -> list[str]:
        """The lines since the last time this was asked."""
        text = self.product.log()
        new, self._log_at = text[self._log_at :], len(text)
        return new.splitlines()

    def assert_sound(self) -> None:
        """It lives, serves, holds nothing, has lost no settlement, and has logged no fault of its own."""
        assert self.product.process is not None
        assert self.product.process.poll() is None, self.product.log()[-3000:]
        answer = self.post()
        assert answer.status == 200, answer.body
        assert self.explained(answer)["outcome"] == "settled"
        until = time.monotonic() + SETTLED_WITHIN_S
        while self.metric("spend_holds_open") and time.monotonic() < until:
            time.sleep(0.05)
        assert self.metric("spend_holds_open") == 0
        assert self.metric("spend_settle_errors_total") == 0
        assert self.metric("spend_outbox_refused") == 0
        admitted = self.metric('spend_decisions_total{outcome="admitted"')
        assert self.metric("spend_settlements_total") >= admitted
        log = self.product.log()
        assert "Traceback" not in log
        assert "fault=" not in log, [line for line in log.splitlines() if "fault=" in line][:3]
        assert self.provider.strays() == []


def request(
    body: bytes = GOOD_BODY,
    *lines: str,
    target: str = CHAT,
    who: str = "acme",
    host: str = "localhost",
    method: str = "POST",
) -> bytes:
    """A usual request, as bytes; `who` empty leaves the customer out."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *([f"Spend-Customer: {who}"] if who else []), *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}"]).encode("latin-1") + b"\r\n\r\n" + body


def assert_refusal(answer: Answer, *, anthropic: bool = False) -> None:
    """A refusal of our own, in the shape of the caller's protocol, that nobody repeats in vain."""
    assert answer.headers["spend-origin"] == "sidecar"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-should-retry"] in {"true", "false"}
    assert answer.headers["spend-request-id"].startswith("req_")
    error = answer.error()
    assert error["message"]
    assert error["spend"]["reason"]
    assert error["type"]
    assert ("code" in error) != anthropic


@contextmanager
def besieged(data: Path, **environment: str) -> Iterator[Besieged]:
    """The product with these settings, its upstreams being a recording provider, and `acme` with credit."""
    with recording_provider() as provider:
        upstreams = {f"SPEND_UPSTREAMS__{name}__BASE_URL": provider.url for name in ("OPENAI", "ANTHROPIC")}
        with running_product(data, upstreams | environment) as product:
            siege = Besieged(product, provider)
            siege.fund("acme")
            siege.new_lines()
            yield siege


__all__ = [
    "CHAT", "GOOD_BODY", "GOOD_MESSAGE", "MESSAGES", "Answer", "Besieged", "RawSocket", "assert_refusal", "besieged",
    "request",
]  # fmt: skip
