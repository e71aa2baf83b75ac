"""More of the clients that people have: what each hears, and how many requests it makes of a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.end_to_end.clients.applications import (
    SCRIPTS,
    Application,
    LangChainApplication,
    NodeApplication,
    PydanticAIApplication,
    Word,
)
from tests.end_to_end.clients.libraries import (
    AnthropicApplication,
    AsyncAnthropicApplication,
    AsyncOpenAIApplication,
    OpenAIApplication,
)
from tests.support.llm_provider import LLMProvider, Plan, running_provider
from tests.support.product import Product, provider_environment, running_product

WORDS: tuple[Word, ...] = ("answer", "stream")


@dataclass(frozen=True)
class Client:
    """A client library: how an application is built on it, and what it does with a refusal.

    `raises` is, by status, the class that an application would catch; `tries_of_429` how many requests a 429 with
    `x-should-retry: false` costs; `streams_usage` whether its streams have usage; `first_word` the number of the
    first word of a stream.
    """

    name: str
    start: Callable[..., Application]
    raises: dict[int, str]
    protocol: str = "openai"
    tries_of_429: int = 1
    streams_usage: bool = True
    first_word: int = 1


OPENAI_NODE = Client(
    "openai-node",
    partial(NodeApplication, "openai.cjs"),
    {402: "APIError", 403: "PermissionDeniedError", 429: "RateLimitError"},
)
ANTHROPIC_NODE = Client(
    "anthropic-node",
    partial(NodeApplication, "anthropic.cjs"),
    {402: "PaymentRequiredError", 403: "PermissionDeniedError", 429: "RateLimitError"},
    protocol="anthropic",
    first_word=0,
)
# Vercel's tries again whenever the status alone invites to, whatever `x-should-retry` says.
VERCEL = {402: "APICallError", 403: "APICallError", 429: "RetryError"}
VERCEL_OPENAI = Client("vercel-openai", partial(NodeApplication, "vercel_ai.cjs", "openai"), VERCEL, tries_of_429=3)
VERCEL_ANTHROPIC = Client(
    "vercel-anthropic",
    partial(NodeApplication, "vercel_ai.cjs", "anthropic"),
    VERCEL,
    protocol="anthropic",
    tries_of_429=3,
    first_word=0,
)
LANGCHAIN = Client(
    "langchain-openai",
    LangChainApplication,
    {402: "APIStatusError", 403: "PermissionDeniedError", 429: "RateLimitError"},
    streams_usage=False,
)
PYDANTIC_AI = Client(
    "pydantic-ai",
    PydanticAIApplication,
    dict.fromkeys((402, 403, 429), "ModelHTTPError"),
)
OVER_RESPONSES = (
    replace(OPENAI_NODE, name="openai-node-responses", start=partial(NodeApplication, "openai.cjs", "responses")),
    replace(
        VERCEL_OPENAI,
        name="vercel-openai-responses",
        start=partial(NodeApplication, "vercel_ai.cjs", "openai-responses"),
    ),
    replace(
        LANGCHAIN,
        name="langchain-openai-responses",
        start=partial(LangChainApplication, responses=True),
        streams_usage=True,
    ),
    replace(PYDANTIC_AI, name="pydantic-ai-responses", start=partial(PydanticAIApplication, responses=True)),
)
"""The same over OpenAI's Responses API, which tells its usage unasked."""

OF_OPENAI = {402: "APIStatusError", 403: "PermissionDeniedError", 429: "RateLimitError"}
OPENAI_PYTHON = Client("openai-python", OpenAIApplication, OF_OPENAI)
OPENAI_ASYNC = Client("openai-python-async", AsyncOpenAIApplication, OF_OPENAI)
ANTHROPIC_PYTHON = Client("anthropic-python", AnthropicApplication, OF_OPENAI, protocol="anthropic", first_word=0)
PYTHON = (
    OPENAI_PYTHON,
    OPENAI_ASYNC,
    *(
        replace(client, name=f"{client.name}-responses", start=partial(client.start, responses=True), first_word=0)
        for client in (OPENAI_PYTHON, OPENAI_ASYNC)
    ),
    ANTHROPIC_PYTHON,
    replace(ANTHROPIC_PYTHON, name="anthropic-python-async", start=AsyncAnthropicApplication),
)
"""The providers' own clients for Python."""

CLIENTS = (
    OPENAI_NODE,
    ANTHROPIC_NODE,
    VERCEL_OPENAI,
    VERCEL_ANTHROPIC,
    LANGCHAIN,
    PYDANTIC_AI,
    *(replace(client, first_word=0) for client in OVER_RESPONSES),
    *PYTHON,
)

each_client = pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])


@dataclass(frozen=True)
class Stage:
    """A running product with its provider, which the tests of one process share: each has a customer of its own."""

    product: Product
    provider: LLMProvider
    numbers: count[int]

    def customer(self, *, grant: str | None = None) -> str:
        """A new one, with or without credit."""
        name = f"customer{next(self.numbers)}"
        self.product.spend("customers", "add", name)
        if grant is not None:
            self.product.spend("grants", "add", name, grant)
        return name


def running_stage(data: Path, **settings: str) -> Iterator[Stage]:
    with running_provider() as provider:
        environment = provider_environment(provider.address) | settings
        with running_product(data, environment) as product:
            yield Stage(product, provider, count(1))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`spend up` as it comes."""
    yield from running_stage(tmp_path_factory.mktemp("clients") / "data")


@pytest.fixture(scope="module")
def stage_429(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`spend up` for applications that are wired to rate limits."""
    yield from running_stage(tmp_path_factory.mktemp("clients-429") / "data", SPEND_COMPAT_STATUS="429")


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library reports to anybody, whatever the environment of the tests says."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")


@pytest.fixture
def begin() -> Iterator[Callable[[Client, Product, str], Application]]:
    """Starts applications; ends them with the test."""
    running: list[Application] = []

    def start(client: Client, product: Product, customer: str) -> Application:
        running.append(client.start(proxy=product.proxy, customer=customer))
        return running[-1]

    yield start
    for application in running:
        application.close()


def requests_seen(product: Product) -> int:
    """How many requests have reached the sidecar, whatever became of them.

    Each is counted before it is answered: when a client is done, so is the counting.
    """
    text = httpx.get(f"{product.health}/metrics").text
    return sum(int(float(n)) for n in re.findall(r"^spend_(?:decisions|unfit_requests)_total\S* (\S+)$", text, re.M))


Begin = Callable[[Client, Product, str], Application]


@each_client
def test_an_answer(client: Client, stage: Stage, begin: Begin) -> None:
    """One request; text and usage are the provider's own, and what is booked is that usage."""
    customer = stage.customer(grant="1")
    before, served = requests_seen(stage.product), len(stage.provider.served)
    heard = begin(client, stage.product, customer).ask("answer")
    assert heard.classes == ()
    [call] = stage.provider.served[served:]
    assert heard.text == f"answer {call.number}"
    assert (heard.input, heard.output) == (call.input_tokens, call.output_tokens) == (10, 5)
    assert requests_seen(stage.product) == before + 1
    assert "spend-customer" not in {name.lower() for name in call.headers}
    [row] = stage.product.usage(customer)
    assert (row["provider"], row["state"]) == (client.protocol, "final")
    assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (10, 5)


@each_client
def test_a_stream(client: Client, stage: Stage, begin: Begin) -> None:
    """One request, every word of the stream, and its usage booked whether the library asked for it or not."""
    customer = stage.customer(grant="1")
    before, served = requests_seen(stage.product), len(stage.provider.served)
    heard = begin(client, stage.product, customer).ask("stream")
    assert heard.classes == ()
    [call] = stage.provider.served[served:]
    assert call.body["stream"] is True
    assert heard.text == "".join(f"word{number} " for number in range(client.first_word, 8))
    assert (heard.input, heard.output) == ((10, 5) if client.streams_usage else (None, None))
    assert requests_seen(stage.product) == before + 1
    [row] = stage.product.usage(customer)
    assert (row["state"], row["ending"]) == ("final", "complete")
    assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (10, 5)


@each_client
@pytest.mark.parametrize("status", [402, 403])
def test_a_denial_is_one_request_and_the_documented_error(
    client: Client, status: int, stage: Stage, begin: Begin
) -> None:
    """Whole or streamed: nobody tries again, the error carries our facts, and the provider sees nothing."""
    customer = stage.customer() if status == 402 else "nobody"
    reason = "credit_balance_exhausted" if status == 402 else "customer_unknown"
    kinds = {402: "billing_error", 403: "permission_error"}
    application, served = begin(client, stage.product, customer), len(stage.provider.served)
    for word in WORDS:
        before = requests_seen(stage.product)
        heard = application.ask(word)
        assert heard.status == status
        assert client.raises[status] in heard.classes
        assert heard.spend is not None
        assert heard.spend["reason"] == reason
        if client.protocol == "anthropic":
            assert heard.type == kinds[status]
        else:
            assert heard.code == reason
        assert requests_seen(stage.product) == before + 1
    assert len(stage.provider.served) == served


@each_client
def test_compat_status_429_is_tried_again_only_by_who_reads_no_header(
    client: Client, stage_429: Stage, begin: Begin
) -> None:
    """Each client meets it as a rate limit; one that ignores `x-should-retry: false` sends it three times."""
    customer, served = stage_429.customer(), len(stage_429.provider.served)
    before = requests_seen(stage_429.product)
    heard = begin(client, stage_429.product, customer).ask("answer")
    assert heard.status == 429
    assert client.raises[429] in heard.classes
    assert heard.spend is not None
    assert heard.spend["reason"] == "credit_balance_exhausted"
    assert requests_seen(stage_429.product) == before + client.tries_of_429
    assert len(stage_429.provider.served) == served


@pytest.mark.parametrize("client", [ANTHROPIC_NODE, PYDANTIC_AI], ids=lambda client: client.name)
def test_it_goes_on_when_the_budget_is_raised(
    client: Client, product: Product, provider: LLMProvider, begin: Begin
) -> None:
    """An application that spends its budget up is refused; the same one is served again at once after a raise."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 50))
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "0.001", "--per", "lifetime")
    application, heard = begin(client, product, "acme"), None
    for _ in range(60):
        heard = application.ask("answer")
        if heard.classes:
            break
    assert heard is not None
    assert (heard.status, heard.spend and heard.spend["reason"]) == (402, "budget_exceeded")
    spent = len(provider.served)
    assert spent > 1
    assert application.ask("answer").status == 402
    product.spend("budgets", "set", "acme", "--limit", "0.01", "--per", "lifetime")
    assert application.ask("answer").text == f"answer {spent + 1}"
    assert application.ask("stream").classes == ()
    assert [row["state"] for row in product.usage("acme")] == ["final"] * (spent + 2)


def test_the_node_clients_are_pinned_and_name_no_host() -> None:
    """Each package by version and digest; from which registry it comes is the machine's own business."""
    text = (SCRIPTS / "package-lock.json").read_text()
    assert "http" not in text
    root, *packages = json.loads(text)["packages"].values()
    assert root["dependencies"] == json.loads((SCRIPTS / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"[0-9.]+", version) for version in root["dependencies"].values())
    assert len(packages) > len(root["dependencies"])
    assert all(package["integrity"].startswith("sha512-") for package in packages)
