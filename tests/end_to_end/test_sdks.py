"""The real clients: answers identical to a direct call, refusals as documented after one request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest

from tests.support.llm_provider import LLMProvider, Plan
from tests.support.product import Product, provider_environment, running_product

HEADERS = {"Spend-Customer": "acme", "Spend-User": "ada"}
ASK: list[Any] = [{"role": "user", "content": "Count the sheep."}]


class Counter:
    """Counts the requests a client sends."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, _request: httpx.Request) -> None:
        self.sent += 1

    async def note(self, _request: httpx.Request) -> None:
        """The same for an async client."""
        self.sent += 1


@pytest.fixture
def funded(product: Product) -> Product:
    """A customer with money."""
    product.spend("customers", "add", "acme")
    product.spend("grants", "add", "acme", "5")
    return product


def openai_client(address: str, counter: Counter | None = None) -> openai.OpenAI:
    """A client as users make it; its retries are left on."""
    http = httpx.Client(event_hooks={"request": [counter] if counter else []})
    return openai.OpenAI(base_url=f"{address}/v1", api_key="sk-test", default_headers=HEADERS, http_client=http)


def anthropic_client(address: str, counter: Counter | None = None) -> anthropic.Anthropic:
    """A client as users make it; its retries are left on."""
    http = httpx.Client(event_hooks={"request": [counter] if counter else []})
    return anthropic.Anthropic(base_url=address, api_key="sk-test", default_headers=HEADERS, http_client=http)


def normal(value: Any) -> Any:
    """An answer without its running numbers, and without nulls that stand for "nothing said"."""
    if isinstance(value, dict):
        return {k: normal(v) for k, v in value.items() if k != "id" and v is not None}
    if isinstance(value, list):
        return [normal(item) for item in value]
    return value.split(" ")[0] if isinstance(value, str) and value.startswith("answer ") else value


def test_openai_answers_are_the_providers_own(funded: Product, provider: LLMProvider) -> None:
    """Whole and streamed, sync: every object equals that of a direct call; the usage nobody asked for is hidden."""
    with openai_client(funded.proxy) as ours, openai_client(provider.address) as direct:
        calls: list[Callable[[Any], list[Any]]] = [
            lambda c: [c.chat.completions.create(model="gpt-4o-mini", messages=ASK)],
            lambda c: list(c.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True)),
            lambda c: list(
                c.chat.completions.create(
                    model="gpt-4o-mini", messages=ASK, stream=True, stream_options={"include_usage": True}
                )
            ),
        ]
        for client_call in calls:
            got, wanted = client_call(ours), client_call(direct)
            assert [normal(x.to_dict()) for x in got] == [normal(x.to_dict()) for x in wanted]
    rows = funded.usage("acme")
    assert [row["state"] for row in rows] == ["final"] * 3
    assert all((row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (10, 5) for row in rows)
    assert {row["user"] for row in rows} == {"ada"}


def test_the_further_calls_of_openai(funded: Product, provider: LLMProvider) -> None:
    """Responses whole, streamed and by the helper; completions, embeddings: equal to a direct call, booked exactly."""
    words: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Count the sheep."}
    with openai_client(funded.proxy) as ours, openai_client(provider.address) as direct:
        calls: list[Callable[[Any], list[Any]]] = [
            lambda c: [c.responses.create(**words)],
            lambda c: list(c.responses.create(**words, stream=True)),
            lambda c: [c.completions.create(model="davinci-002", prompt="Once", max_tokens=9)],
            lambda c: [c.embeddings.create(model="text-embedding-3-small", input="sheep", encoding_format="float")],
        ]
        for client_call in calls:
            got, wanted = client_call(ours), client_call(direct)
            assert [without_numbers(x.to_dict()) for x in got] == [without_numbers(x.to_dict()) for x in wanted]
        with ours.responses.stream(model="gpt-4o-mini", input="Count the sheep.") as stream:
            assert stream.get_final_response().output_text.startswith("word0 ")
    rows = funded.usage("acme")
    assert [(row["state"], row["usage"]["input_tokens"]) for row in rows] == [("final", 10)] * 5
    assert sorted(row["usage"].get("output_tokens") or 0 for row in rows) == [0, 5, 5, 5, 5]


def without_numbers(value: Any) -> Any:
    """An answer without what differs from one call to the next."""
    if isinstance(value, dict):
        return {k: without_numbers(v) for k, v in value.items() if k not in ("id", "item_id") and v is not None}
    return [without_numbers(item) for item in value] if isinstance(value, list) else normal(value)


def test_a_response_continues_one_that_went_through_here(funded: Product, provider: LLMProvider) -> None:
    """L0: what was said before is billed again, and bounded by what it was settled at; any other has no bound."""
    del provider
    ask: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Go on.", "max_output_tokens": 50}
    counter = Counter()
    with openai_client(funded.proxy, counter) as client:
        first = client.responses.create(**ask)
        assert client.responses.create(**ask, previous_response_id=first.id).status == "completed"
        with pytest.raises(openai.PermissionDeniedError) as raised:
            client.responses.create(**ask, previous_response_id="resp_of_another")
        assert (raised.value.code, counter.sent) == ("request_not_boundable", 3)
        with pytest.raises(openai.PermissionDeniedError) as raised:
            client.responses.create(**ask, background=True)
        assert (raised.value.code, counter.sent) == ("endpoint_not_metered", 4)
        assert "doors.background" in str(raised.value)


def test_a_response_is_shortened_near_a_limit(product: Product, provider: LLMProvider) -> None:
    """Its own output limit is lowered to what the budget buys, and the client is told."""
    provider.plan = Plan(usage=lambda body, _raw: (10, min(5, body["max_output_tokens"])))
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "0.005", "--per", "day")
    with openai_client(product.proxy) as client:
        raw = client.responses.with_raw_response.create(model="gpt-4o-mini", input="Count the sheep.")
    sent = provider.served[-1].body
    assert 256 <= sent["max_output_tokens"] < 16_384
    assert raw.headers["spend-clamped"] == str(sent["max_output_tokens"])
    assert [row["state"] for row in product.usage("acme")] == ["final"]


async def test_openai_async(funded: Product, provider: LLMProvider) -> None:
    """The async client, whole and streamed."""
    http = httpx.AsyncClient()
    async with openai.AsyncOpenAI(
        base_url=f"{funded.proxy}/v1", api_key="sk-test", default_headers=HEADERS, http_client=http
    ) as client:
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        assert answer.usage is not None
        assert answer.usage.total_tokens == 15
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True)
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(words).startswith("word1 ")
    assert len(provider.served) == 2


def test_anthropic_answers_are_the_providers_own(funded: Product, provider: LLMProvider) -> None:
    """Whole, streamed and by the stream helper."""
    with anthropic_client(funded.proxy) as ours, anthropic_client(provider.address) as direct:
        model = "claude-haiku-4-5-20251001"
        calls: list[Callable[[Any], list[Any]]] = [
            lambda c: [c.messages.create(model=model, max_tokens=64, messages=ASK)],
            lambda c: list(c.messages.create(model=model, max_tokens=64, messages=ASK, stream=True)),
        ]
        for client_call in calls:
            got, wanted = client_call(ours), client_call(direct)
            assert [normal(x.to_dict()) for x in got] == [normal(x.to_dict()) for x in wanted]
        with ours.messages.stream(model=model, max_tokens=64, messages=ASK) as stream:
            assert "".join(stream.text_stream).startswith("word0 ")
    assert [row["state"] for row in funded.usage("acme")] == ["final"] * 3


async def test_anthropic_async(funded: Product, provider: LLMProvider) -> None:
    """The async client, whole and streamed."""
    async with anthropic.AsyncAnthropic(base_url=funded.proxy, api_key="sk-test", default_headers=HEADERS) as client:
        model = "claude-haiku-4-5-20251001"
        answer = await client.messages.create(model=model, max_tokens=64, messages=ASK)
        assert answer.usage.output_tokens == 5
        events = [
            e.type async for e in await client.messages.create(model=model, max_tokens=9, messages=ASK, stream=True)
        ]
        assert events[0] == "message_start"
        assert events[-1] == "message_stop"
    assert len(provider.served) == 2


Refusal = tuple[str, Callable[[Product], None], dict[str, Any], int, type[Exception], type[Exception]]


def broke(product: Product) -> None:
    """A wallet that has nothing."""
    product.spend("customers", "add", "acme")


def small_budget(product: Product) -> None:
    """A budget below one call's ceiling."""
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "0.000001", "--per", "day")


def spent_budget(product: Product) -> None:
    """A budget with room for the ceiling, but not after what is spent."""
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("budgets", "set", "acme", "--limit", "0.5", "--per", "day")


def nobody(_product: Product) -> None:
    """No such customer."""


REFUSALS: list[Refusal] = [
    ("credit_balance_exhausted", broke, {}, 402, openai.APIStatusError, anthropic.APIStatusError),
    ("request_exceeds_budget", small_budget, {}, 402, openai.APIStatusError, anthropic.APIStatusError),
    ("customer_unknown", nobody, {}, 403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    ("model_not_priced", spent_budget, {"model": "who-knows"}, 403, openai.PermissionDeniedError,
     anthropic.PermissionDeniedError),
]  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal[0] for refusal in REFUSALS])
def test_a_refusal_is_one_request_and_the_documented_exception(
    product: Product, provider: LLMProvider, refusal: Refusal
) -> None:
    """402 and 403 with `x-should-retry: false`: each client raises after one request, and the provider sees none."""
    code, prepare, changes, status, openai_error, anthropic_error = refusal
    prepare(product)
    counter = Counter()
    with openai_client(product.proxy, counter) as client, pytest.raises(openai_error) as raised:
        client.chat.completions.create(**{"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 50, **changes})
    error: Any = raised.value
    assert (error.status_code, error.code, counter.sent) == (status, code, 1)
    assert error.response.headers["spend-origin"] == "sidecar"
    assert error.body["spend"]["reason"] == code

    counter = Counter()
    with anthropic_client(product.proxy, counter) as claude, pytest.raises(anthropic_error) as refused:
        claude.messages.create(**{"model": "claude-haiku-4-5-20251001", "messages": ASK, "max_tokens": 50, **changes})
    problem: Any = refused.value
    assert (problem.status_code, counter.sent) == (status, 1)
    assert problem.body["type"] == "error"
    kinds = {402: "billing_error", 403: "permission_error"}
    assert problem.body["error"]["type"] == kinds[status]
    assert provider.served == []


def test_a_spent_budget_says_what_is_left_and_when_it_resets(product: Product, provider: LLMProvider) -> None:
    """L34: the denial names the binding budget; a direct reading of the book agrees."""
    provider.plan = Plan(usage=lambda _body, _raw: (10, 100))
    product.spend("customers", "add", "acme", "--wallet", "none")
    product.spend("nodes", "add", "acme/department:analytics/team:data")
    product.spend("budgets", "set", "acme", "--limit", "100", "--per", "month")
    product.spend("budgets", "set", "acme/team:data", "--limit", "0.0003", "--per", "day")
    headers = {"Spend-Path": "department:analytics/team:data"}
    counter = Counter()
    with openai_client(product.proxy, counter) as client:

        def ask_until_denied() -> None:
            for _ in range(30):
                client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=300, extra_headers=headers)

        with pytest.raises(openai.APIStatusError) as raised:
            ask_until_denied()
    facts: Any = raised.value.body
    spend = facts["spend"]
    assert raised.value.status_code == 402
    assert spend["scope"]["id"] == "acme/team:data"
    assert spend["reason"] == "budget_exceeded"
    assert "resets" in facts["message"]
    assert raised.value.response.headers["spend-resets-at"] == spend["resets_at"]
    assert counter.sent == len(provider.served) + 1
    path = "acme/department:analytics/team:data"
    child = next(b for b in product.balance("acme")["budgets"] if b["path"] == path)["children"][0]
    left = child["remaining"]["atoms"] + child["leased"]["atoms"]  # no call is open: what is lent here is left too
    assert left == spend["remaining_atoms"]
    assert child["used"]["atoms"] == sum(row["charge"]["atoms"] for row in product.usage("acme"))


def test_azures_client_and_its_deployments(tmp_path: Path, provider: LLMProvider) -> None:
    """The deployment in the path is the model, priced as the settings name it; its key's header passes untouched."""
    azure = {
        "SPEND_UPSTREAMS__AZURE__BASE_URL": provider.address,
        "SPEND_UPSTREAMS__AZURE__PRICES_OF": "openai",
        "SPEND_UPSTREAMS__AZURE__MODELS__MINE": "gpt-4o-mini",
    }
    with running_product(tmp_path / "azure", provider_environment(provider.address) | azure) as product:
        product.spend("customers", "add", "acme")
        product.spend("grants", "add", "acme", "5")
        client = openai.AzureOpenAI(
            azure_endpoint=f"{product.proxy}/azure", api_key="key", api_version="2024-10-21", default_headers=HEADERS
        )
        with client:
            assert client.chat.completions.create(model="mine", messages=ASK).usage is not None
            assert client.embeddings.create(model="mine", input="sheep", encoding_format="float").data
            with pytest.raises(openai.PermissionDeniedError) as raised:
                client.chat.completions.create(model="another", messages=ASK)
        assert raised.value.code == "model_not_priced"
        chat, vector = provider.served
        assert chat.path == "/openai/deployments/mine/chat/completions"
        assert vector.path == "/openai/deployments/mine/embeddings"
        assert {name.lower(): value for name, value in chat.headers.items()}["api-key"] == "key"
        rows = product.usage("acme")
        assert [(row["state"], row["provider"], row["model"]) for row in rows] == [
            ("final", "openai", "gpt-4o-mini")
        ] * 2


def test_a_background_answer_is_settled_once_by_the_first_that_is_whole(tmp_path: Path, provider: LLMProvider) -> None:
    """L25, S-31: its hold is open while it is asked for, its usage is charged once, and no other customer has it; after
    a restart its maker still does. One that nobody comes for is charged what it may cost."""
    secret = tmp_path / "provider-key"
    secret.write_text("the-provider-s-own-key")
    settings = provider_environment(provider.address) | {
        "SPEND_UPSTREAMS__OPENAI__DOORS__BACKGROUND": "pass_counted",
        "SPEND_UPSTREAMS__OPENAI__KEY_FILE": str(secret),
    }
    provider.plan = Plan(polls=2)
    ask: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Count the sheep.", "max_output_tokens": 100}
    with running_product(tmp_path / "later", settings) as product:
        for customer in ("acme", "eve"):
            product.spend("customers", "add", customer)
            product.spend("grants", "add", customer, "5")
        with openai_client(product.proxy) as client:
            eve = client.with_options(default_headers={"Spend-Customer": "eve"})
            queued = client.responses.create(**ask, background=True)
            assert (queued.status, queued.usage) == ("queued", None)
            assert product.usage("acme") == []
            with pytest.raises(openai.NotFoundError):
                eve.responses.retrieve(queued.id)
            with pytest.raises(openai.NotFoundError):
                eve.responses.delete(queued.id)
            with pytest.raises(openai.BadRequestError):
                eve.responses.create(**ask, previous_response_id=queued.id)
            assert provider.asked_back == []
            told = [client.responses.retrieve(queued.id).status for _ in range(4)]
            assert told == ["queued", "queued", "completed", "completed"]
            [row] = product.usage("acme")
            assert (row["state"], row["flags"], row["charge"]["atoms"]) == ("final", [], 10 * 150 + 5 * 600)
            client.responses.create(**ask, background=True)
        assert product.stop() == 0
        product.start()
        left = product.usage("acme")[-1]
        assert (left["state"], "estimated" in left["flags"]) == ("absent", True)
        assert left["charge"]["atoms"] >= 100 * 600  # the longest answer at $0.60 a million
        with openai_client(product.proxy) as client:
            assert client.responses.retrieve(queued.id).id == queued.id
            with pytest.raises(openai.NotFoundError):
                client.with_options(default_headers={"Spend-Customer": "eve"}).responses.retrieve(queued.id)
        assert len(product.usage("acme")) == 2
