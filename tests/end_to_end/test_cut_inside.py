"""Streams that are ended from inside, as real clients see them: a typed end, and a plain refusal of what comes next.

Each stream begins with less than it could cost, and its customer's budget is lowered while it runs: so its hold grows
no more, and it is ended where that is used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import openai
import pytest
from botocore.exceptions import ClientError
from google.genai import errors, types

from tests.end_to_end.test_cloud_clients import ASK, GEMINI, NOVA, PROMPT, Bedrock, google
from tests.end_to_end.test_more_clients import CLIENTS, Client, Stage, requests_seen, running_stage
from tests.support.cloud_provider import running_clouds
from tests.support.llm_provider import Plan, running_provider
from tests.support.product import Product, provider_environment, running_product

T = TypeVar("T")

WORDS = 800
HOLDS_AFTER = 12
LOW = "0.0000001"
BEGINS = {"openai": "0.003", "anthropic": "0.05"}
"""What a customer has: less than the answer that is asked for may cost, and much more than a stream begins with."""

ASKED = 16_000
STOPS = {
    f"SPEND_UPSTREAMS__{name}__STOPS_BILLING_ON_DISCONNECT": "the tests' provider, 2026-11"
    for name in ("OPENAI", "ANTHROPIC")
}
ENDS = {
    "anthropic-node": "max_tokens",
    "anthropic-python": "max_tokens",
    "anthropic-python-async": "max_tokens",
    "openai-python-responses": "max_output_tokens",
    "openai-python-async-responses": "max_output_tokens",
    "openai-node-responses": "max_output_tokens",
    "langchain-openai-responses": "max_output_tokens",
}
"""How a client says that an answer reached its limit; `length` where it is not here."""

each_client = pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`spend up` before a provider that stops billing when we hang up."""
    yield from running_stage(tmp_path_factory.mktemp("cuts") / "data", **STOPS)


def poor(stage: Stage, provider: str) -> str:
    """A customer for whose longest answer there is not enough."""
    name = f"poor{next(stage.numbers)}"
    stage.product.spend("customers", "add", name, "--wallet", "none")
    stage.product.spend("budgets", "set", name, "--limit", BEGINS[provider], "--per", "lifetime")
    return name


def cut_inside(stage: Stage, customer: str, call: Callable[[], T]) -> T:
    """Make a streamed call whose customer's budget is lowered while it runs; gives what came of it."""
    # Slow enough that it has not all come when it is to be ended: then its own figures would be charged.
    stage.provider.plan = plan = Plan(
        usage=lambda _body, _raw: (10, 5_000), chunks=WORDS, chunk_delay_s=0.002, holds_after=HOLDS_AFTER
    )
    served = len(stage.provider.served)
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        until = time.monotonic() + 60
        while not (calls := stage.provider.served[served:]) or not calls[0].holding:
            assert time.monotonic() < until, "the call never reached its provider"
            assert not calling.done(), calling.result()
            time.sleep(0.01)
        stage.product.spend("budgets", "set", customer, "--limit", LOW, "--per", "lifetime")
        plan.resume.set()
        return calling.result(60)


def check_one_settlement(stage: Stage, customer: str, text: str) -> None:
    """One row, flagged, for no less than was shown and no more than was held."""
    assert text.startswith(("word0 word1 ", "word1 word2 "))
    assert len(text.split()) < WORDS - 1
    [row] = stage.product.usage(customer)
    assert (row["ending"], row["flags"]) == ("limited", ["estimated", "cut_at_limit"])
    assert row["usage"]["output_tokens"] >= len(text.split())
    assert 0 < row["charge"]["atoms"] < float(BEGINS[row["provider"]]) * 10**9
    explained = stage.product.spend("explain", row["request_id"]).stdout
    assert "grows" in explained
    assert "cut_at_limit" in explained


@each_client
def test_a_stream_that_is_ended_from_inside(client: Client, stage: Stage) -> None:
    """The library's own word for a limit that was reached, nothing raised, one request; then one refusal."""
    customer = poor(stage, client.protocol)
    application = client.start(proxy=stage.product.proxy, customer=customer, max_tokens=ASKED)
    try:
        before = requests_seen(stage.product)
        heard = cut_inside(stage, customer, lambda: application.ask("stream"))
        assert heard.classes == ()
        assert heard.finish == ENDS.get(client.name, "length")
        assert requests_seen(stage.product) == before + 1
        check_one_settlement(stage, customer, heard.text)
        refused = application.ask("stream")
        assert (refused.status, client.raises[402] in refused.classes) == (402, True)
        assert requests_seen(stage.product) == before + 2
    finally:
        application.close()


def openai_client(stage: Stage, customer: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{stage.product.proxy}/v1", api_key="sk-test", default_headers={"Spend-Customer": customer}
    )


def test_openais_own_client_in_every_door(stage: Stage) -> None:
    """Chunks, the helper that collects them, completions, and the events of Responses: each has its end."""
    ask: list[Any] = [{"role": "user", "content": "Count the sheep."}]

    def chat(caller: openai.OpenAI) -> tuple[str, str | None]:
        chunks = list(
            caller.chat.completions.create(
                model="gpt-4o-mini", messages=ask, stream=True, stream_options={"include_usage": True}
            )
        )
        *others, usage = chunks
        assert usage.usage is not None
        assert others[-1].model_extra is not None
        assert others[-1].model_extra["spend"]["cut"] == "budget_exceeded"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in others)
        return text, others[-1].choices[0].finish_reason

    def collected(caller: openai.OpenAI) -> tuple[str, str | None]:
        with (
            caller.chat.completions.stream(model="gpt-4o-mini", messages=ask) as stream,
            pytest.raises(openai.LengthFinishReasonError) as short,
        ):
            stream.get_final_completion()
        (choice,) = short.value.completion.choices
        return choice.message.content or "", choice.finish_reason

    def responses(caller: openai.OpenAI) -> tuple[str, str | None]:
        with caller.responses.stream(model="gpt-4o-mini", input="Count the sheep.") as stream:
            last = list(stream)[-1]
        assert last.type == "response.incomplete"
        assert last.response.incomplete_details is not None
        return last.response.output_text, last.response.incomplete_details.reason

    for door, reason in ((chat, "length"), (collected, "length"), (responses, "max_output_tokens")):
        customer = poor(stage, "openai")
        with openai_client(stage, customer) as caller:
            text, finish = cut_inside(stage, customer, lambda door=door, caller=caller: door(caller))  # type: ignore[misc]
            assert finish == reason
            check_one_settlement(stage, customer, text)
            with pytest.raises(openai.APIStatusError) as refused:
                door(caller)
            assert refused.value.status_code == 402


def test_anthropics_own_client(stage: Stage) -> None:
    """The helper's final message is whole, and says why it stopped."""
    customer = poor(stage, "anthropic")
    caller = anthropic.Anthropic(
        base_url=stage.product.proxy, api_key="k", default_headers={"Spend-Customer": customer}
    )
    ask: list[Any] = [{"role": "user", "content": "Count the sheep."}]

    def final() -> Any:
        with caller.messages.stream(model="claude-haiku-4-5", max_tokens=ASKED, messages=ask) as stream:
            return stream.get_final_message()

    message = cut_inside(stage, customer, final)
    assert message.stop_reason == "max_tokens"
    check_one_settlement(stage, customer, message.content[0].text)
    with pytest.raises(anthropic.APIStatusError) as refused:
        final()
    assert refused.value.status_code == 402


def test_a_crowd_of_streams_shares_what_is_left_to_the_atom(stage: Stage) -> None:
    """L0, L39: twenty at once ask for 32,000 tokens and use some: none is refused for good, and no atom is too many.

    Four fifths of the limit would be used, and twice of it held, if all came to their end at once: so they wait for
    each other, and ask again where they are told to. Each that came to its end is charged what its provider said;
    each that was ended, what was counted.
    """
    customer, words = f"crowd{next(stage.numbers)}", 150
    stage.product.spend("customers", "add", customer, "--wallet", "none")
    stage.product.spend("budgets", "set", customer, "--limit", "0.12", "--per", "lifetime")
    stage.provider.plan = Plan(usage=lambda _body, _raw: (20, 2 * words), chunks=words, chunk_delay_s=0.002)
    served = len(stage.provider.served)

    def one(_: int) -> str | None:
        with openai_client(stage, customer) as caller:
            chunks = caller.with_options(max_retries=20).chat.completions.create(
                model="gpt-4.1", max_tokens=32_000, stream=True, messages=[{"role": "user", "content": "Sheep?"}]
            )
            return [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1]

    with ThreadPoolExecutor(20) as agents:
        finishes = list(agents.map(one, range(40)))
    assert set(finishes) <= {"stop", "length"}
    rows = stage.product.usage(customer)
    assert len(rows) == 40
    assert sum(row["charge"]["atoms"] for row in rows) <= 120_000_000
    assert sum(finish == "stop" for finish in finishes) == sum(row["ending"] == "complete" for row in rows)
    whole = [row for row in rows if row["ending"] == "complete"]
    assert {row["charge"]["atoms"] for row in whole} == {20 * 2_000 + 2 * words * 8_000}
    finished = sum(one.finished for one in stage.provider.served[served:])
    assert len(whole) <= finished
    assert whole, "not one came to its end"


def test_a_kill_in_a_growing_stream_is_charged_all_that_was_held_by_then(tmp_path: Path) -> None:
    """L22, L25, L49: each growth is in the outbox before it covers anything, so what was shown is paid for."""
    with running_provider() as provider:
        provider.plan = Plan(usage=lambda _body, _raw: (10, 5_000), chunks=WORDS, holds_after=80)
        with running_product(tmp_path / "data", provider_environment(provider.address) | STOPS) as product:
            product.spend("customers", "add", "acme", "--wallet", "none")
            product.spend("budgets", "set", "acme", "--limit", BEGINS["openai"], "--per", "lifetime")
            seen: list[str] = []

            def read() -> None:
                client = openai.OpenAI(
                    base_url=f"{product.proxy}/v1",
                    api_key="k",
                    default_headers={"Spend-Customer": "acme"},
                    max_retries=0,
                )
                ask: list[Any] = [{"role": "user", "content": "Sheep?"}]
                chunks = client.chat.completions.create(model="gpt-4o-mini", messages=ask, stream=True)
                seen.extend(chunk.choices[0].delta.content or "" for chunk in chunks)

            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(read)
                until = time.monotonic() + 60
                while len(seen) < 80:
                    assert time.monotonic() < until, "the words never came"
                    time.sleep(0.01)
                product.kill()
                assert reading.exception(60) is not None, "a kill must not look like an end"
            provider.plan.resume.set()
            product.start()
            rows = product.usage("acme")
            while not rows:
                assert time.monotonic() < until + 60, "it was never booked"
                rows = product.usage("acme")
            [row] = rows
            shown = len("".join(seen))
            assert shown > 500
            assert "crash" in row["flags"]
            assert row["charge"]["atoms"] >= shown * 600, "a token a byte, at 0.60 a million"
            assert row["charge"]["atoms"] <= float(BEGINS["openai"]) * 10**9


CLOUDS = ("GEMINI", "BEDROCK")
LONG = tuple(f"word{number} " for number in range(WORDS))
CLOUD_BEGINS = "0.003"
"""Gemini 2.5 Flash: 1,200 tokens; Nova Lite: 12,500, which its longest answer of 5,000 and a long prompt fit into."""


@pytest.mark.parametrize("cloud", CLOUDS)
def test_googles_and_amazons_own_clients(tmp_path: Path, cloud: str) -> None:
    """A chunk that finished at its limit; a message that stopped at it, and what its binary stream must still say."""
    with running_clouds() as clouds:
        key = tmp_path / "token"
        key.write_text("token")  # which stands in `max_tokens` too: what is ours is not blackened
        settings = {f"SPEND_UPSTREAMS__{cloud}__BASE_URL": clouds.address} | {
            f"SPEND_UPSTREAMS__{cloud}__STOPS_BILLING_ON_DISCONNECT": "the tests' provider, 2026-11"
        }
        if cloud == "BEDROCK":
            settings["SPEND_UPSTREAMS__BEDROCK__KEY_FILE"] = str(key)
        clouds.words, clouds.holds_after = LONG, HOLDS_AFTER
        with running_product(tmp_path / "data", settings) as product, ThreadPoolExecutor(1) as pool:
            product.spend("customers", "add", "poor", "--wallet", "none")
            limit = CLOUD_BEGINS if cloud == "GEMINI" else "0.0006"
            product.spend("budgets", "set", "poor", "--limit", limit, "--per", "lifetime")
            call = said_by_gemini if cloud == "GEMINI" else said_by_converse
            calling = pool.submit(call, product)
            until = time.monotonic() + 60
            while not clouds.holding:
                assert time.monotonic() < until, "the call never reached its provider"
                assert not calling.done(), calling.result()
                time.sleep(0.01)
            product.spend("budgets", "set", "poor", "--limit", LOW, "--per", "lifetime")
            clouds.resume.set()
            text, finish = calling.result(60)
            assert finish == ("MAX_TOKENS" if cloud == "GEMINI" else "max_tokens")
            assert text.startswith("word0 word1 ")
            assert len(text.split()) < WORDS
            [row] = product.usage("poor")
            assert (row["ending"], row["flags"]) == ("limited", ["estimated", "cut_at_limit"])
            with pytest.raises((errors.ClientError, ClientError)) as refused:
                call(product)
            assert "402" in str(refused.value) or "ServiceQuotaExceededException" in str(refused.value)


def said_by_gemini(product: Product) -> tuple[str, str]:
    """A stream of Gemini's, which thinks nothing unseen here."""
    thinks = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(thinking_budget=0))
    caller = google(product.proxy, "poor")
    chunks = list(caller.models.generate_content_stream(model=GEMINI, contents=PROMPT, config=thinks))
    last = (chunks[-1].candidates or [])[0]
    assert last.finish_reason is not None
    return "".join(chunk.text or "" for chunk in chunks), last.finish_reason.name


def said_by_converse(product: Product) -> tuple[str, str]:
    """A binary stream of Amazon's."""
    caller = Bedrock(f"{product.proxy}/bedrock", "poor", "token")
    events = list(caller.client.converse_stream(modelId=NOVA, messages=ASK)["stream"])
    texts = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    kinds = [next(iter(event)) for event in events]
    assert kinds[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    return "".join(texts), events[-2]["messageStop"]["stopReason"]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The same for applications that can do nothing with half an answer."""
    yield from running_stage(tmp_path_factory.mktemp("fails") / "data", SPEND_ON_CAP="error", **STOPS)


def test_where_half_an_answer_is_worth_nothing_the_clients_raise(failing: Stage) -> None:
    """`on_cap: error`: an exception that says why, from both doors of OpenAI's client and from Anthropic's."""
    ask: list[Any] = [{"role": "user", "content": "Count the sheep."}]

    def chat(caller: openai.OpenAI) -> None:
        list(caller.chat.completions.create(model="gpt-4o-mini", messages=ask, stream=True))

    def responses(caller: openai.OpenAI) -> None:
        list(caller.responses.create(model="gpt-4o-mini", input="Count the sheep.", stream=True))

    for door in (chat, responses):
        customer = poor(failing, "openai")
        with openai_client(failing, customer) as caller, pytest.raises(openai.APIError) as raised:
            cut_inside(failing, customer, lambda door=door, caller=caller: door(caller))  # type: ignore[misc]
        assert raised.value.code == "budget_exceeded"
        assert "ended here" in raised.value.message
        assert failing.product.usage(customer)[0]["ending"] == "limited"

    customer = poor(failing, "anthropic")
    claude = anthropic.Anthropic(
        base_url=failing.product.proxy, api_key="k", default_headers={"Spend-Customer": customer}
    )

    def final() -> None:
        with claude.messages.stream(model="claude-haiku-4-5", max_tokens=ASKED, messages=ask) as stream:
            stream.get_final_message()

    with pytest.raises(anthropic.APIStatusError) as refused:
        cut_inside(failing, customer, final)
    body: Any = refused.value.body
    assert (body["error"]["type"], body["error"]["spend"]["cut"]) == ("billing_error", "budget_exceeded")
