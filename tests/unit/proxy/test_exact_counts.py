"""Prompts are counted off the loop, a few at a time, and only where a count may help."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator

import msgspec
import pytest

from sidecar.app.tokenizing import SplintrTokenizer
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.pricing.ceilings import price_ceiling
from sidecar.providers.dialect import RequestFacts
from sidecar.providers.exact_tokens import Tokenizer
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.proxy import exact_counts
from sidecar.proxy.authorize import Admitted, Authority, Call, authorize
from sidecar.proxy.exact_counts import WAITING_MAX, ExactCounts
from tests.support.authority import ACME, CARD, MODEL, TEAM, USD, Bench, bench, standing

WORDS = 2000


def facts_of(text: str) -> RequestFacts:
    """A call that says this, with a short answer."""
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": text}]}
    return OpenAIChat().read_request(json.dumps(body).encode())


LONG = facts_of("word " * WORDS)


class Scripted:
    """Gives one count; waits for `open` first."""

    def __init__(self, tokens: int = WORDS, fault: Exception | None = None) -> None:
        self.tokens = tokens
        self.fault = fault
        self.open = threading.Event()
        self.threads: list[str] = []

    def count(self, vocabulary: str, texts: list[str]) -> int:
        """After `open`."""
        self.threads.append(threading.current_thread().name)
        if not self.open.wait(20):
            raise AssertionError("never opened: the loop's thread waits for this one")
        if self.fault is not None:
            raise self.fault
        return self.tokens


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """One that opens at the end, whatever happened."""
    tokenizer = Scripted()
    yield tokenizer
    tokenizer.open.set()


def with_counts(on: Bench, tokenizer: Tokenizer | None) -> Authority:
    """An authority with the extra, or without."""
    return Authority(
        on.table, on.keeper, on.spool, on.clock, on.authority.rates_now,
        counts=None if tokenizer is None else ExactCounts(tokenizer),
    )  # fmt: skip


def asks(facts: RequestFacts = LONG, provider: str = "openai", protocol: str = "openai.chat") -> Call:
    """A call as the corridor puts it."""
    return Call("req_1", ACME, facts, provider, protocol)


def a_third_of_its_bound() -> Bench:
    """Acme with credit for a third of what LONG's bytes can cost."""
    on = bench()
    need = price_ceiling(LONG.ceiling, CARD, USD)
    on.fund(standing(Budget("bud_day", "usd", need // 3, Cadence.DAY, node=TEAM[0])), need // 3)
    on.keeper.refusal = msgspec.structs.replace(on.keeper.refusal, reason=Reason.REQUEST_EXCEEDS_BUDGET)
    return on


@pytest.mark.parametrize("extra", [True, False])
async def test_a_call_that_its_bound_refuses_is_served_by_its_count(extra: bool) -> None:
    """L0: with the real tokenizer it is held for by what the count proves; without the extra it is refused."""
    on = a_third_of_its_bound()
    found = await authorize(asks(), with_counts(on, SplintrTokenizer() if extra else None))
    if not extra:
        assert isinstance(found, Denied)
        assert found.reason is Reason.REQUEST_EXCEEDS_BUDGET
        return
    assert isinstance(found, Admitted)
    ceiling = found.call.facts.ceiling
    assert WORDS < ceiling.input_tokens < LONG.ceiling.input_tokens / 3
    assert found.admission.held_atoms == price_ceiling(ceiling, CARD, USD)


async def test_the_loop_goes_on_while_a_prompt_is_counted(scripted: Scripted) -> None:
    """The count is let go from the loop only after it has begun: on the loop's own thread it would never end."""
    on = a_third_of_its_bound()
    deciding = asyncio.create_task(authorize(asks(), with_counts(on, scripted)))
    while not scripted.threads:
        await asyncio.sleep(0.001)
    scripted.open.set()
    assert isinstance(await deciding, Admitted)
    assert scripted.threads[0].startswith("tokens")


@pytest.mark.parametrize(
    ("call", "refused_for"),
    [
        (asks(protocol="anthropic.messages"), Reason.REQUEST_EXCEEDS_BUDGET),
        (asks(), Reason.NODE_FROZEN),
        (asks(facts_of("a <|x " * WORDS)), Reason.REQUEST_EXCEEDS_BUDGET),
    ],
    ids=["another protocol", "not for money", "not countable"],
)
async def test_what_counting_cannot_help_is_not_counted(call: Call, refused_for: Reason, scripted: Scripted) -> None:
    """Refused at once, for the reason that it was."""
    on = a_third_of_its_bound()
    on.keeper.refusal = msgspec.structs.replace(on.keeper.refusal, reason=refused_for)
    found = await authorize(call, with_counts(on, scripted))
    assert isinstance(found, Denied)
    assert found.reason is refused_for
    assert scripted.threads == []


async def test_a_call_that_fits_is_not_counted(scripted: Scripted) -> None:
    """Only where the bound would deny."""
    on = a_third_of_its_bound()
    assert isinstance(await authorize(asks(facts_of("hi")), with_counts(on, scripted)), Admitted)
    assert scripted.threads == []


async def test_a_count_that_proves_too_little_is_one_count() -> None:
    """Refused as it would have been; it does not go round."""
    on, tokenizer = a_third_of_its_bound(), Scripted(tokens=LONG.ceiling.input_tokens - 200)
    tokenizer.open.set()
    assert isinstance(await authorize(asks(), with_counts(on, tokenizer)), Denied)
    assert len(tokenizer.threads) == 1


async def test_a_fault_of_the_tokenizer_proves_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """By its kind, not its words: they may hold the prompt."""
    counts = ExactCounts(tokenizer := Scripted(fault=ValueError("word word")))
    tokenizer.open.set()
    with caplog.at_level(logging.WARNING):
        assert [await counts.lower(LONG) for _ in range(3)] == [None, None, None]
    (record,) = caplog.records
    assert record.__dict__["facts"] == {"fault": "ValueError"}


MAY = {"provider": "openai", "protocol": "openai.chat"}


async def test_few_wait(scripted: Scripted) -> None:
    """Who comes when WAITING_MAX are counted or wait keeps its bound; afterwards there is room again."""
    counts = ExactCounts(scripted)
    waiting = [asyncio.create_task(counts.lower(LONG)) for _ in range(WAITING_MAX)]
    while not scripted.threads:
        await asyncio.sleep(0.001)
    assert not counts.may_help(Reason.BUDGET_EXCEEDED, **MAY)
    scripted.open.set()
    assert all(lower is not None for lower in await asyncio.gather(*waiting))
    assert counts.may_help(Reason.BUDGET_EXCEEDED, **MAY)
    assert not counts.may_help(Reason.BUDGET_EXCEEDED, provider="groq", protocol="openai.chat"), "its own vocabularies"
    counts.close()


async def test_none_waits_for_long(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has waited too long keeps its bound; its place is taken until the thread is done with it."""
    monkeypatch.setattr(exact_counts, "TIMEOUT_S", 0.001)
    monkeypatch.setattr(exact_counts, "WAITING_MAX", 1)
    counts = ExactCounts(scripted)
    assert await counts.lower(LONG) is None
    assert not counts.may_help(Reason.BUDGET_EXCEEDED, **MAY)
    scripted.open.set()
    while not counts.may_help(Reason.BUDGET_EXCEEDED, **MAY):
        await asyncio.sleep(0.001)
    counts.close()
