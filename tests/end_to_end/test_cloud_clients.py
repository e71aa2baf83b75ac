"""Google's and Amazon's own clients: answered as by a direct call, clamped, and refused as they document it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import anthropic
import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import errors, types

from tests.support.cloud_provider import WORDS, CloudProvider, running_clouds
from tests.support.product import Product, running_product

GEMINI = "gemini-2.5-flash"
NOVA = "us.amazon.nova-lite-v1:0"
ASK: list[Any] = [{"role": "user", "content": [{"text": "Tell me about sheep."}]}]
PROMPT = "Tell me about sheep."
_numbers = count(1)


@pytest.fixture(scope="module")
def clouds() -> Iterator[CloudProvider]:
    """Google and Amazon on one port."""
    with running_clouds() as running:
        yield running


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, clouds: CloudProvider) -> Iterator[Product]:
    """`spend up` with both of them as upstreams, which the tests share: each has a customer of its own.

    It holds a bearer token of Amazon's; a further way there has none.
    """
    folder = tmp_path_factory.mktemp("clouds")
    key = folder / "bedrock-token"
    key.write_text("token")
    settings = {
        f"SPEND_UPSTREAMS__{name}__BASE_URL": clouds.address for name in ("GEMINI", "BEDROCK", "AMAZON", "VERTEX")
    }
    settings |= {"SPEND_UPSTREAMS__BEDROCK__KEY_FILE": str(key), "SPEND_UPSTREAMS__AMAZON__PRICES_OF": "bedrock"}
    settings |= {"SPEND_UPSTREAMS__VERTEX__PRICES_OF": "anthropic"}
    with running_product(folder / "data", settings) as running:
        yield running


def customer(product: Product, limit: str | None = None) -> str:
    """A new one that may spend so much in all; None: nothing at all."""
    name = f"customer{next(_numbers)}"
    product.spend("customers", "add", name, "--wallet", "none" if limit else "required")
    if limit:
        product.spend("budgets", "set", name, "--limit", limit, "--per", "lifetime")
    return name


def google(address: str, who: str = "") -> genai.Client:
    """A client as users make it."""
    headers = {"Spend-Customer": who} if who else {}
    return genai.Client(api_key="k", http_options=types.HttpOptions(base_url=address, headers=headers))


class Bedrock:
    """boto3's client as users make it, counting what it sends; with a `token` it signs nothing and sends that."""

    def __init__(self, address: str, who: str, token: str = "") -> None:
        self.sent = 0
        self._token = token
        self.client: Any = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=address,
            aws_access_key_id="a",
            aws_secret_access_key="s",
            config=Config(
                retries={"max_attempts": 4, "mode": "standard"}, signature_version=UNSIGNED if token else None
            ),
        )
        self.client.meta.events.register("before-send.bedrock-runtime", self._note)
        self._who = who

    def _note(self, request: Any, **_: Any) -> None:
        self.sent += 1
        request.headers["Spend-Customer"] = self._who
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without its head, which has our own headers beside the provider's."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_googles_answers_are_the_providers_own(product: Product, clouds: CloudProvider) -> None:
    """Whole and streamed, with and without the upstream's name before the path: each object is a direct call's."""
    who = customer(product, "5")
    direct = google(clouds.address)
    for base in (product.proxy, f"{product.proxy}/gemini"):
        ours = google(base, who)
        got, wanted = (c.models.generate_content(model=GEMINI, contents=PROMPT) for c in (ours, direct))
        assert got.text == wanted.text == "".join(WORDS)
        assert got.model_dump(exclude={"sdk_http_response"}) == wanted.model_dump(exclude={"sdk_http_response"})
        chunks, direct_chunks = (
            [
                chunk.model_dump(exclude={"sdk_http_response"})
                for chunk in c.models.generate_content_stream(model=GEMINI, contents=PROMPT)
            ]
            for c in (ours, direct)
        )
        assert chunks == direct_chunks
    rows = product.usage(who)
    assert [(row["state"], row["model"]) for row in rows] == [("final", GEMINI)] * 4
    assert {(row["usage"]["input_tokens"], row["usage"]["output_tokens"]) for row in rows} == {(11, 7)}
    assert {row["charge"]["text"] for row in rows} == {"0.0000208"}  # 11 × 0.30 and 7 × 2.50 a million


@pytest.mark.parametrize("stream", [False, True])
def test_google_hears_a_refusal_as_its_own_error(product: Product, clouds: CloudProvider, stream: bool) -> None:
    """402 RESOURCE_EXHAUSTED, in JSON, before any event; one request, and none of it reaches the provider."""
    caller = google(product.proxy, customer(product))
    before = len(clouds.requests)
    models = caller.models
    call = models.generate_content_stream if stream else models.generate_content
    with pytest.raises(errors.ClientError) as refused:
        list(call(model=GEMINI, contents=PROMPT))
    assert (refused.value.code, refused.value.status) == (402, "RESOURCE_EXHAUSTED")
    assert refused.value.details["error"]["spend"]["reason"] == "credit_balance_exhausted"
    assert len(clouds.requests) == before


def test_googles_answer_is_shortened_where_it_would_not_fit(product: Product, clouds: CloudProvider) -> None:
    """No limit is sent, the longest answer costs 0.16: the limit is written into `generationConfig`."""
    caller = google(product.proxy, customer(product, "0.01"))
    caller.models.generate_content(model=GEMINI, contents=PROMPT, config=types.GenerateContentConfig(temperature=0.5))
    config = clouds.requests[-1].body["generationConfig"]
    assert config["temperature"] == 0.5
    assert 256 <= config["maxOutputTokens"] <= 4000


def claude(address: str, who: str) -> anthropic.AnthropicVertex:
    """Anthropic's client for Vertex."""
    headers = {"Spend-Customer": who}
    return anthropic.AnthropicVertex(
        base_url=f"{address}/v1", region="eu", project_id="p", access_token="t", default_headers=headers
    )


def test_claude_on_vertex_is_answered_and_refused_as_by_anthropic(product: Product, clouds: CloudProvider) -> None:
    """Whole, streamed, and refused with Anthropic's own error, once; priced by Anthropic's cards."""
    who, model = customer(product, "5"), "claude-sonnet-4-5@20250929"
    ask: dict[str, Any] = {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": PROMPT}]}
    ours, direct = claude(f"{product.proxy}/vertex", who), claude(clouds.address, who)
    got, wanted = (c.messages.create(**ask) for c in (ours, direct))
    assert got.to_dict() == wanted.to_dict()
    events, direct_events = ([e.to_dict() for e in c.messages.create(**ask, stream=True)] for c in (ours, direct))
    assert events == direct_events
    rows = product.usage(who)
    assert [(row["state"], row["charge"]["text"]) for row in rows] == [("final", "0.000138")] * 2  # 11 × 3, 7 × 15
    before = len(clouds.requests)
    with pytest.raises(anthropic.APIStatusError) as refused:
        claude(f"{product.proxy}/vertex", customer(product)).messages.create(**ask)
    assert refused.value.status_code == 402
    assert len(clouds.requests) == before


def test_bedrocks_answers_are_the_providers_own(product: Product, clouds: CloudProvider) -> None:
    """Whole and as a binary stream: each object is a direct call's; the sidecar's token goes out, not the signature."""
    who = customer(product, "5")
    ours = Bedrock(f"{product.proxy}/bedrock", who).client
    direct = Bedrock(clouds.address, who).client
    got, wanted = (told(c.converse(modelId=NOVA, messages=ASK)) for c in (ours, direct))
    assert got == wanted
    events, direct_events = (list(c.converse_stream(modelId=NOVA, messages=ASK)["stream"]) for c in (ours, direct))
    assert events == direct_events
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e) == "".join(
        WORDS
    )
    rows = product.usage(who)
    assert [(row["state"], row["charge"]["text"]) for row in rows] == [
        ("final", "0.00000234")
    ] * 2  # 11 × 0.06, 7 × 0.24
    assert clouds.requests[-2].headers["Authorization"] == "Bearer token"
    assert clouds.requests[-1].headers["Authorization"].startswith("AWS4-")  # the direct one


def test_bedrocks_client_hears_a_refusal_as_an_exception_it_knows(product: Product, clouds: CloudProvider) -> None:
    """402 as ServiceQuotaExceededException, which it does not send again although it may try four times."""
    caller = Bedrock(f"{product.proxy}/bedrock", customer(product))
    before = len(clouds.requests)
    for call in (caller.client.converse, caller.client.converse_stream):
        caller.sent = 0
        with pytest.raises(caller.client.exceptions.ServiceQuotaExceededException) as refused:
            call(modelId=NOVA, messages=ASK)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 402
        assert caller.sent == 1
    assert len(clouds.requests) == before


def test_bedrocks_answer_is_shortened_where_it_would_not_fit(product: Product, clouds: CloudProvider) -> None:
    """The limit is written into `inferenceConfig`."""
    caller = Bedrock(f"{product.proxy}/bedrock", customer(product, "0.001"))
    caller.client.converse(modelId=NOVA, messages=ASK, inferenceConfig={"temperature": 0.5})
    config = clouds.requests[-1].body["inferenceConfig"]
    assert config["temperature"] == 0.5
    assert 256 <= config["maxTokens"] <= 4200


def test_a_callers_own_bearer_token_passes(product: Product, clouds: CloudProvider) -> None:
    """Where the sidecar holds none; boto3 itself sends one over TLS only, so a hook of the application's does."""
    who = customer(product, "5")
    caller = Bedrock(f"{product.proxy}/amazon", who, token="my-own")
    assert caller.client.converse(modelId=NOVA, messages=ASK)["usage"]["inputTokens"] == 11
    assert clouds.requests[-1].headers["Authorization"] == "Bearer my-own"
    assert [row["state"] for row in product.usage(who)] == ["final"]


def test_a_signed_request_is_refused_with_what_to_do(product: Product, clouds: CloudProvider) -> None:
    """SigV4 covers the address: it would fail at Amazon, so it is turned down here, once, and nothing is sent."""
    caller = Bedrock(f"{product.proxy}/amazon", customer(product, "5"))
    before = len(clouds.requests)
    with pytest.raises(ClientError) as refused:
        caller.client.converse(modelId=NOVA, messages=ASK)
    error = refused.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert "key_file" in error["Message"]
    assert caller.sent == 1
    assert len(clouds.requests) == before


def test_a_signed_request_passes_where_the_settings_say_so(tmp_path: Path, clouds: CloudProvider) -> None:
    """`signed: pass_counted`: sent on as it is, charged to nobody."""
    settings = {
        "SPEND_UPSTREAMS__BEDROCK__BASE_URL": clouds.address,
        "SPEND_UPSTREAMS__BEDROCK__DOORS__SIGNED": "pass_counted",
    }
    with running_product(tmp_path / "data", settings) as product:
        who = customer(product, "5")
        caller = Bedrock(f"{product.proxy}/bedrock", who)
        assert caller.client.converse(modelId=NOVA, messages=ASK)["usage"]["inputTokens"] == 11
        assert clouds.requests[-1].headers["Authorization"].startswith("AWS4-HMAC-SHA256")
        assert product.usage(who) == []
