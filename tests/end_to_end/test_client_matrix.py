"""Every client beside every way in which a call can go otherwise than asked.

| | answered | denied 402, 403 | 429 | 502 | 503 | shortened | ended inside | provider gone | same bytes |
|---|---|---|---|---|---|---|---|---|---|
| `test_more_clients.CLIENTS` | M | M | here | here | here | here | I | here | here |
| google-genai, boto3 | C | C | here | here | here | here, C | I | here | here |

M is `test_more_clients`, C `test_cloud_clients`, I `test_cut_inside`. Sixteen clients are in `CLIENTS`: OpenAI's and
Anthropic's own for Python (sync, async) and Node, langchain-openai, pydantic-ai and Vercel's, over chat, Responses and
messages. Requests are counted at the sidecar, where a client's retries are seen. `test_no_cell_is_empty` fails where a
client is in none of the tests of a column.
"""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2 as httpx
import pytest

from tests.end_to_end.clients.applications import MAX_TOKENS, Application, Heard
from tests.end_to_end.clients.libraries import BedrockApplication, GoogleApplication
from tests.end_to_end.test_fleet import running_fleet
from tests.end_to_end.test_more_clients import CLIENTS, WORDS, Client, requests_seen
from tests.support.cloud_provider import CloudProvider, running_clouds
from tests.support.llm_provider import LLMProvider, Plan, running_provider
from tests.support.product import Product, provider_environment, running_product
from tests.support.recording_relay import Answer, recording_relay

ASKED = {"openai": 16_000, "anthropic": 16_000, "gemini": 16_000, "bedrock": 4_900}
"""Output tokens, no more than the longest answer of the model."""

BEGINS = {"openai": "0.003", "anthropic": "0.05", "gemini": "0.01", "bedrock": "0.001"}
"""What a customer has where the answer that is asked for costs more."""

GOOGLE = Client(
    "google-genai", GoogleApplication, dict.fromkeys((402, 403, 429), "ClientError"),
    protocol="gemini",
)  # fmt: skip
BOTO3 = Client(
    "boto3", BedrockApplication,
    {402: "ServiceQuotaExceededException", 403: "AccessDeniedException", 429: "ServiceQuotaExceededException"},
    protocol="bedrock",
)  # fmt: skip
SEATS = (*CLIENTS, GOOGLE, BOTO3)
TRIES_AGAIN = {"vercel-openai": 3, "vercel-anthropic": 3, "vercel-openai-responses": 3, "google-genai": 1, "boto3": 5}
"""Requests of a client that goes by the status alone: of one that it takes for passing."""

each_seat = pytest.mark.parametrize("seat", SEATS, ids=[seat.name for seat in SEATS])


@dataclass(frozen=True)
class Theatre:
    """A running product with all the providers; the tests share it, and each has a customer of its own."""

    product: Product
    models: LLMProvider
    clouds: CloudProvider
    numbers: count[int]

    def customer(self, limit: str = "5") -> str:
        """A new one that may spend so much in all."""
        name = f"customer{next(self.numbers)}"
        self.product.spend("customers", "add", name, "--wallet", "none")
        self.product.spend("budgets", "set", name, "--limit", limit, "--per", "lifetime")
        return name

    def served(self, seat: Client) -> list[dict[str, Any]]:
        """The bodies that this client's provider got."""
        asked = self.clouds.requests if seat.protocol in {"gemini", "bedrock"} else self.models.served
        return [one.body for one in asked]


def upstreams(models: str, clouds: str) -> dict[str, str]:
    """The settings of a sidecar before these."""
    settings = {f"SPEND_UPSTREAMS__{name}__BASE_URL": clouds for name in ("GEMINI", "BEDROCK")}
    return provider_environment(models) | settings


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """`spend up` as it comes, before four providers."""
    data = tmp_path_factory.mktemp("matrix") / "data"
    with (
        running_provider() as models,
        running_clouds() as clouds,
        running_product(data, upstreams(models.address, clouds.address)) as product,
    ):
        yield Theatre(product, models, clouds, count(1))


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library reports to anybody, whatever the environment of the tests says."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")


@contextmanager
def seated(seat: Client, address: str, customer: str, *, through: bool = True, **more: int) -> Iterator[Application]:
    """A running application, by way of the sidecar or (`through` false) straight to its provider."""
    base = f"{address}/bedrock" if seat.protocol == "bedrock" and through else address
    application = seat.start(proxy=base, customer=customer, **more)
    try:
        yield application
    finally:
        application.close()


def check_refused(heard: Heard, seat: Client, status: int) -> None:
    """The documented exception, with its status."""
    assert heard.status == status, heard
    assert seat.raises[status] in heard.classes


def of_5xx(seat: Client) -> str:
    """The class of what it raises where nobody can decide or answer."""
    mine = {"vercel": "RetryError", "pydantic": "ModelHTTPError", "google": "ServerError"}
    return mine.get(
        seat.name.partition("-")[0], "ServiceUnavailableException" if seat is BOTO3 else "InternalServerError"
    )


@each_seat
def test_a_rate_limit_is_the_documented_error(seat: Client, theatre: Theatre) -> None:
    """429 for an hour: asked once, but by those who go by the status alone; the provider sees none of it."""
    customer = theatre.customer()
    theatre.product.spend("limits", "set", customer, "--requests", "1", "--per", "1h")
    with seated(seat, theatre.product.proxy, customer) as application:
        assert application.ask("answer").classes == ()
        before, served = requests_seen(theatre.product), len(theatre.served(seat))
        check_refused(application.ask("answer"), seat, 429)
        assert requests_seen(theatre.product) == before + TRIES_AGAIN.get(seat.name, 1)
        assert len(theatre.served(seat)) == served


@each_seat
def test_an_answer_is_shortened_unasked(seat: Client, theatre: Theatre) -> None:
    """Whole and streamed: the limit that its provider got is lower than what was asked for, in one request."""
    customer = theatre.customer(BEGINS[seat.protocol])
    asked_for = ASKED[seat.protocol]
    with seated(seat, theatre.product.proxy, customer, max_tokens=asked_for) as application:
        for word in WORDS:
            before, served = requests_seen(theatre.product), len(theatre.served(seat))
            heard = application.ask(word)
            assert heard.classes == (), heard
            [body] = theatre.served(seat)[served:]
            assert 256 <= output_limit(body) < asked_for
            assert requests_seen(theatre.product) == before + 1
    assert [row["state"] for row in theatre.product.usage(customer)] == ["final"] * 2


def output_limit(body: dict[str, Any]) -> int:
    """The output limit that a request names, in whichever field."""
    config = body.get("generationConfig") or body.get("inferenceConfig") or body
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens")
    [limit] = [config[name] for name in names if config.get(name) is not None]
    assert isinstance(limit, int)
    return limit


@each_seat
def test_a_provider_that_is_gone_midway_is_an_error(seat: Client, theatre: Theatre) -> None:
    """F-22, L25: a broken stream is no end: the client raises, asks once, and the hold is charged, once."""
    customer = theatre.customer()
    theatre.models.plan, theatre.clouds.breaks_after = Plan(breaks_after=4), 3
    try:
        with seated(seat, theatre.product.proxy, customer) as application:
            before, served = requests_seen(theatre.product), len(theatre.served(seat))
            heard = application.ask("stream")
    finally:
        theatre.models.plan, theatre.clouds.breaks_after = Plan(), None
    assert heard.classes != (), heard
    assert requests_seen(theatre.product) == before + 1
    assert len(theatre.served(seat)) == served + 1
    [row] = theatre.product.usage(customer)
    assert row["ending"] == "cut"
    assert "estimated" in row["flags"]
    assert row["charge"]["atoms"] > 0


@each_seat
def test_the_bytes_are_the_providers_own(seat: Client, theatre: Theatre) -> None:
    """Whole and streamed, as the client itself asks: what comes through is, byte for byte, what comes straight.

    But for one thing: where we ask for a stream's usage, OpenAI adds `"usage": null` to each chunk.
    """
    came: list[list[Answer]] = []
    direct = theatre.clouds if seat.protocol in {"gemini", "bedrock"} else theatre.models
    for target, through in ((theatre.product.proxy, True), (direct.address, False)):
        theatre.models.number_anew()
        with (
            recording_relay(target) as relay,
            seated(seat, relay.address, theatre.customer(), through=through) as application,
        ):
            heard = [application.ask(word) for word in WORDS]
            assert [one.classes for one in heard] == [(), ()], heard
            came.append(relay.answers())
    ours, theirs = came
    assert len(ours) == len(theirs) == 2
    if seat.name == "langchain-openai":
        ours[1] = ours[1]._replace(body=ours[1].body.replace(b', "usage": null', b""))
    assert ours == theirs
    assert all(answer.status == 200 and answer.body for answer in ours)


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, str]]:
    """`spend up` before providers that nobody reaches, and a customer."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and nobody listens
        nowhere = f"http://127.0.0.1:{held.getsockname()[1]}"
        with running_product(tmp_path_factory.mktemp("nowhere") / "data", upstreams(nowhere, nowhere)) as product:
            product.spend("customers", "add", "acme", "--wallet", "none")
            product.spend("budgets", "set", "acme", "--limit", "5", "--per", "lifetime")
            yield product, "acme"


@each_seat
def test_a_provider_that_is_not_reached_is_asked_for_again(seat: Client, cut_off: tuple[Product, str]) -> None:
    """F-21: 502, nothing was sent and nothing is charged, so clients may try again, and those that do try thrice."""
    product, customer = cut_off
    with seated(seat, product.proxy, customer) as application:
        before = requests_seen(product)
        heard = application.ask("answer")
        assert (heard.status, of_5xx(seat) in heard.classes) == (502, True), heard
        assert requests_seen(product) == before + TRIES_AGAIN.get(seat.name, 3)
    assert {(row["charge"]["atoms"], *row["flags"]) for row in product.usage(customer)} == {(0, "not_billed")}


@pytest.fixture(scope="module")
def orphan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A sidecar whose ledger has been away for more than ten seconds."""
    folder = tmp_path_factory.mktemp("orphan")
    with running_provider() as models, running_clouds() as clouds:
        settings = upstreams(models.address, clouds.address)
        with running_fleet(folder, models, **settings) as fleet:
            fleet.ledger.kill()
            address = fleet.sidecars[0].proxy
            until = time.monotonic() + 60
            while asked(address).headers.get("x-should-retry") != "false":
                assert time.monotonic() < until, "it goes on saying that it will be back"
                time.sleep(0.5)
            yield fleet.sidecars[0]
            assert (models.served, clouds.requests) == ([], [])


def asked(address: str) -> httpx.Response:
    """One call by nobody that the sidecar knows."""
    body = {"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Sheep?"}]}
    headers = {"Spend-Customer": "acme", "Authorization": "Bearer k"}
    return httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers, timeout=30)


@each_seat
def test_a_ledger_that_is_away_for_good_is_an_error_once(seat: Client, orphan: Product) -> None:
    """503 `ledger_unavailable` after the first ten seconds: asked once, but by those who go by the status alone."""
    with seated(seat, orphan.proxy, "acme") as application:
        before = requests_seen(orphan)
        heard = application.ask("answer")
        assert (heard.status, of_5xx(seat) in heard.classes) == (503, True), heard
        assert requests_seen(orphan) == before + TRIES_AGAIN.get(seat.name, 1)


ELSEWHERE = {
    "test_more_clients": ("test_an_answer", "test_a_stream", "test_a_denial_is_one_request_and_the_documented_error"),
    "test_cut_inside": ("test_a_stream_that_is_ended_from_inside",),
}
OF_THE_CLOUDS = {
    "test_cloud_clients": (
        "test_googles_answers_are_the_providers_own", "test_google_hears_a_refusal_as_its_own_error",
        "test_bedrocks_answers_are_the_providers_own", "test_bedrocks_client_hears_a_refusal_as_an_exception_it_knows",
    ),
    "test_cut_inside": ("test_googles_and_amazons_own_clients",),
}  # fmt: skip
HERE = (
    "test_a_rate_limit_is_the_documented_error", "test_an_answer_is_shortened_unasked",
    "test_a_provider_that_is_gone_midway_is_an_error", "test_the_bytes_are_the_providers_own",
    "test_a_provider_that_is_not_reached_is_asked_for_again", "test_a_ledger_that_is_away_for_good_is_an_error_once",
)  # fmt: skip


def clients_of(module: str, test: str) -> set[str]:
    """The clients that a test is run with, by the marks on it."""
    function = getattr(importlib.import_module(f"tests.end_to_end.{module}"), test)
    return {name for mark in getattr(function, "pytestmark", ()) for name in mark.kwargs.get("ids") or ()}


def test_no_cell_is_empty() -> None:
    """Every client that is named above is in every column."""
    everybody = {seat.name for seat in SEATS}
    assert len(everybody) == len(CLIENTS) + 2 == 18
    for test in HERE:
        assert clients_of("test_client_matrix", test) == everybody, test
    for module, tests in ELSEWHERE.items():
        for test in tests:
            assert clients_of(module, test) == {client.name for client in CLIENTS}, test
    for module, tests in OF_THE_CLOUDS.items():
        assert all(callable(getattr(importlib.import_module(f"tests.end_to_end.{module}"), test)) for test in tests)
