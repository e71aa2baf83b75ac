"""Virtual keys from the command line to the provider, with the real clients, in one process and over HTTP."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sidecar.proxy.key_ring import ASK_AHEAD_S
from tests.end_to_end.test_fleet import running_fleet, until
from tests.end_to_end.test_local_api import ask as local
from tests.end_to_end.test_sdks import ASK, Counter, anthropic_client, openai_client
from tests.support.llm_provider import LLMProvider
from tests.support.product import Product, provider_environment, running_product

INJECTED = "the-provider-s-own-key"
CLAUDE = "claude-haiku-4-5-20251001"


@pytest.fixture
def keyed(tmp_path: Path, provider: LLMProvider) -> Iterator[Product]:
    """`spend up` that takes calls by virtual key alone, and holds the providers' keys; acme and its team have money."""
    with running_product(
        tmp_path / "data", with_keys(tmp_path, provider, SPEND_REQUIRE_KEY="true", SPEND_SUBJECT__FEATURE="chat")
    ) as product:
        product.spend("customers", "add", "acme")
        product.spend("nodes", "add", "acme/team:data")
        product.spend("grants", "add", "acme", "5")
        yield product


def with_keys(folder: Path, provider: LLMProvider, **settings: str) -> dict[str, str]:
    """An environment in which both providers' keys are injected."""
    secret = folder / "provider-key"
    secret.write_text(INJECTED)
    names = ("SPEND_UPSTREAMS__OPENAI__KEY_FILE", "SPEND_UPSTREAMS__ANTHROPIC__KEY_FILE")
    return provider_environment(provider.address) | dict.fromkeys(names, str(secret)) | settings


def make(product: Product, *arguments: str) -> tuple[str, str]:
    """A key, and what the ledger calls it."""
    made = json.loads(product.spend("keys", "create", *arguments, "--json").stdout)
    return made["key"], made["key_id"]


def by_key(address: str, key: str, counter: Counter | None = None, **headers: str) -> openai.OpenAI:
    """The client as an application has it: a key, and nothing that says who it is."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return openai_client(address, counter).copy(api_key=key, set_default_headers=said)


def ask(client: openai.OpenAI) -> Any:
    """One call."""
    return client.chat.completions.create(model="gpt-4o-mini", messages=ASK, max_tokens=20)


def claude(address: str, key: str) -> anthropic.Anthropic:
    """Likewise."""
    return anthropic_client(address).copy(api_key=key, set_default_headers={})


def test_a_key_is_made_used_and_revoked(keyed: Product, provider: LLMProvider) -> None:
    """S-11, S-13: nothing passes without; with it a call is admitted on its subject; revoked, it is a 401 again."""
    counter = Counter()
    with by_key(keyed.proxy, "sk-own", counter, Spend_Customer="acme") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            ask(client)
        assert (refused.value.code, counter.sent, provider.served) == ("invalid_api_key", 1, [])
    key, key_id = make(keyed, "acme/team:data/user:ada", "--agent", "bot", "--name", "ci")
    with by_key(keyed.proxy, key) as client, claude(keyed.proxy, key) as other:
        assert ask(client).choices[0].message.content == "answer 1"
        chunks = client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True, max_tokens=20)
        assert len(list(chunks)) > 2
        assert other.messages.create(model=CLAUDE, max_tokens=20, messages=ASK).usage.output_tokens == 5
        with pytest.raises(openai.BadRequestError) as overruled:
            ask(client.copy(default_headers={"Spend-User": "eve"}))
        assert overruled.value.code == "subject_conflict"

        rows = keyed.usage("acme")
        assert [(row["path"], row["user"], row["agent"]) for row in rows] == [("acme/team:data", "ada", "bot")] * 3
        for row in rows:  # by which key it came, by its name
            explained = json.loads(keyed.spend("explain", row["request_id"], "--json").stdout)
            assert explained["decision"]["key_id"] == key_id
        steps = {"feature": "agent_step", "quantity": 1}
        status, report = local(keyed, "usage", steps, customer="", Idempotency_Key="one", Spend_Key=key)
        assert status == 200
        explained = json.loads(keyed.spend("explain", report["request_id"], "--json").stdout)
        assert explained["decision"]["key_id"] == key_id
        keyed.spend("budgets", "set", "acme/user:ada", "--limit", "0", "--per", "day")
        with pytest.raises(openai.APIStatusError) as denied:
            ask(client)
        assert denied.value.status_code == 402
        (line,) = [line for line in keyed.log().splitlines() if "request_denied" in line and "user=ada" in line]
        assert f"key={key_id}" in line
        keyed.spend("keys", "revoke", "acme", key_id, "--reason", "left the team")
        counter = Counter()
        with by_key(keyed.proxy, key, counter) as again, pytest.raises(openai.AuthenticationError):
            ask(again)
        assert counter.sent == 1
        with pytest.raises(anthropic.AuthenticationError) as shut:
            other.messages.create(model=CLAUDE, max_tokens=20, messages=ASK)
        body: Any = shut.value.body
        assert body["error"]["type"] == "authentication_error"
    assert len(provider.served) == 3
    said = [name.lower() for served in provider.served for name in served.headers]
    assert not any(name.startswith("spend-") for name in said)
    sent = [value for served in provider.served for value in served.headers.values()]
    assert any(INJECTED in value for value in sent)
    assert not any("sk-spend-" in value for value in sent)
    for text in (
        keyed.log(),
        keyed.spend("journal", "acme", "--json").stdout,
        keyed.spend("keys", "list", "acme").stdout,
    ):
        assert key not in text
    assert keyed.entries("acme", "key_revoked")[0]["facts"] == {"key_id": key_id, "reason": "left the team"}
    assert json.loads(keyed.spend("verify", "acme", "--json").stdout)["problems"] == []


def test_the_local_api_takes_keys_too(keyed: Product) -> None:
    """401 without, as a problem; with one the balance is its subject's, and its feature cannot be overruled,
    though the settings name the same one where nothing is said."""
    key, _ = make(keyed, "acme", "--feature", "chat")

    def local(path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{keyed.proxy}/spend/v1/{path}", data, said)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    status, problem = local("balance", Spend_Customer="acme")
    assert (status, problem["code"]) == (401, "invalid_api_key")
    status, balance = local("balance", Authorization=f"Bearer {key}")
    assert (status, balance["customer"]) == (200, "acme")
    report = {"feature": "agent_step", "quantity": 1}
    status, problem = local("usage", report, Spend_Key=key, Idempotency_Key="k", Content_Type="application/json")
    assert (status, problem["code"]) == (400, "subject_conflict")
    ada, bob = make(keyed, "acme/user:ada")[0], make(keyed, "acme/user:bob")[0]
    status, charged = local("usage", report, Spend_Key=ada, Idempotency_Key="k", Content_Type="application/json")
    assert status == 200, charged
    statuses = [local(f"requests/{charged['request_id']}", Spend_Key=one)[0] for one in (ada, bob)]
    assert statuses == [200, 404]  # S-31: what ada did, no key of bob's is told


def test_a_revoked_key_ends_on_every_sidecar_at_once(tmp_path: Path, provider: LLMProvider) -> None:
    """S-13: it is pushed: sooner than a sidecar would have asked again by itself. So is a new one taken."""
    with running_fleet(tmp_path, provider, **with_keys(tmp_path, provider)) as fleet:
        fleet.ledger.spend("customers", "add", "acme")
        fleet.ledger.spend("grants", "add", "acme", "5")
        key, key_id = make(fleet.ledger, "acme")
        clients = [by_key(sidecar.proxy, key) for sidecar in fleet.sidecars]
        for client in clients:
            ask(client)
        fleet.ledger.spend("keys", "revoke", "acme", key_id)
        revoked_at = time.monotonic()
        for client in clients:
            until(lambda client=client: is_refused(client))  # type: ignore[misc]
        assert time.monotonic() - revoked_at < ASK_AHEAD_S
        fresh, _ = make(fleet.ledger, "acme")
        for sidecar in fleet.sidecars:
            with by_key(sidecar.proxy, fresh) as client:
                ask(client)
        for client in clients:
            client.close()


def is_refused(client: openai.OpenAI) -> bool:
    """Whether the key lets in nobody."""
    try:
        ask(client)
    except openai.AuthenticationError:
        return True
    return False


def test_a_key_goes_on_while_the_ledger_is_away(tmp_path: Path, provider: LLMProvider) -> None:
    """L47: what was known goes on as its leases do; what was not cannot be told, and is asked to come again."""
    with running_fleet(tmp_path, provider, **with_keys(tmp_path, provider)) as fleet:
        fleet.ledger.spend("customers", "add", "acme", "--wallet", "none")
        fleet.ledger.spend("budgets", "set", "acme", "--limit", "1000", "--per", "lifetime")
        known, _ = make(fleet.ledger, "acme")
        unheard, _ = make(fleet.ledger, "acme")
        one = fleet.sidecars[0]
        with by_key(one.proxy, known) as client, by_key(one.proxy, unheard) as stranger:
            for _ in range(5):  # what is lent follows what is spent
                ask(client)
            fleet.ledger.kill()
            assert ask(client).usage.completion_tokens == 5
            with pytest.raises(openai.InternalServerError) as refused:
                ask(stranger.with_options(max_retries=0))
            assert refused.value.code == "ledger_unavailable"
            fleet.ledger.start()
            until(lambda: not unavailable(stranger))


def unavailable(client: openai.OpenAI) -> bool:
    """Whether nobody can tell."""
    try:
        ask(client.with_options(max_retries=0))
    except openai.InternalServerError:
        return True
    return False


def test_a_provider_that_wants_no_key_gets_none(tmp_path: Path, provider: LLMProvider) -> None:
    """The demo's, where a newcomer tries a key; and one of which the settings say so. Else the call is told why not."""
    upstream = {"SPEND_UPSTREAMS__OPENAI__BASE_URL": provider.address}
    for settings, status in (
        ({"SPEND_DEMO": "auto"}, 200),
        (upstream | {"SPEND_UPSTREAMS__OPENAI__NEEDS_KEY": "false"}, 200),
        (upstream, 403),
    ):
        with running_product(tmp_path / f"data{len(settings)}{status}", settings) as product:
            product.spend("customers", "add", "acme")
            product.spend("grants", "add", "acme", "5")
            key, _ = make(product, "acme")
            with by_key(product.proxy, key) as client:
                if status == 200:
                    assert ask(client).usage.prompt_tokens > 0
                    continue
                with pytest.raises(openai.PermissionDeniedError) as refused:
                    ask(client)
                assert refused.value.code == "provider_key_missing"
    assert len(provider.served) == 1
    assert not any(value for name, value in provider.served[0].headers.items() if name.lower() == "authorization")
