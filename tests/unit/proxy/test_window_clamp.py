"""Where a window of tokens is nearly used, an answer is shortened to what is left of it, not below the floor."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import msgspec
import pytest

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.rate_limits import Counts, RateLimit
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.leases.rate_lanes import SharedRates
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.proxy.authorize import Admitted, Authority, Call, authorize
from sidecar.proxy.clamp import MAX_CLAMPS, Clamp
from sidecar.proxy.exact_counts import ExactCounts
from sidecar.proxy.price import UnknownModel
from sidecar.proxy.rates import UNKNOWN_OUTPUT_TOKENS
from tests.support.authority import CARD, CEILING, DAILY, GRANT, MODEL, USD, Bench, call, standing
from tests.unit.proxy.test_clamp import shorter
from tests.unit.proxy.test_rates import bench_with

FLOOR = 40
PROMPT = CEILING.input_tokens
WIDE = msgspec.structs.replace(DAILY, limit_atoms=10_000_000_000)
TOKENS = RateLimit("rt", Counts.TOKENS, PROMPT + 200)


def setting(*limits: RateLimit, shared: bool = False, unpriced: bool = False) -> tuple[Bench, SharedRates]:
    """Money enough for any answer, and these windows."""
    on, desk, _ = bench_with(*limits, shared=shared)
    on.fund(limited(*limits), WIDE.limit_atoms)
    policy = UnknownModel.METER if unpriced else UnknownModel.DENY
    on.authority = dataclasses.replace(on.authority, clamp_floor_tokens=FLOOR, unknown_model=policy)
    return on, desk


def limited(*limits: RateLimit, clamp: bool = True) -> Standing:
    budget = msgspec.structs.replace(WIDE, clamp=clamp)
    return msgspec.structs.replace(standing(budget), rate_limits=limits)


def asking(limit: int | None = None, number: int = 1, *, choices: int = 1, model: str = MODEL) -> Call:
    ceiling: Ceiling = msgspec.structs.replace(CEILING, output_limit=limit, choices=choices, model=model)
    return msgspec.structs.replace(call(number, ceiling=ceiling), shorten=shorter)


async def limit_of(asked: Call, authority: Authority) -> tuple[int | None, int | None] | Reason:
    """What it was shortened to and had asked for, as written down; or why it was refused."""
    found = await authorize(asked, authority)
    if isinstance(found, Denied):
        return found.reason
    return found.admission.decision.clamped_to, found.admission.decision.asked_output


@pytest.mark.parametrize("shared", [False, True])
async def test_the_answer_is_shortened_to_what_the_window_has_left(shared: bool) -> None:
    """Both ways counted, for each choice, and told; what is held is what the shorter call costs."""
    for asked, choices, left in ((None, 1, 200), (900, 1, 200), (900, 3, 66)):
        on, desk = setting(TOKENS, shared=shared)
        found = await authorize(asking(asked, choices=choices), on.authority)
        assert isinstance(found, Admitted)
        decision = found.admission.decision
        assert (decision.clamped_to, decision.asked_output) == (left, asked)
        assert found.call.facts.ceiling.output_limit == left
        assert on.table.open_holds == len(on.spool.admitted) == 1
        assert found.admission.held_atoms == price_ceiling(found.call.facts.ceiling, CARD, USD)
        (window,) = desk.rates.counted()
        assert desk.rates.used(window, on.clock.wall_ms()) == PROMPT + left * choices <= TOKENS.limit


async def test_what_fits_is_not_shortened_and_what_would_be_too_short_is_refused() -> None:
    """Never below the floor: the denial is the one of the call as it came, and takes nothing."""
    on, desk = setting(TOKENS)
    assert await limit_of(asking(170), on.authority) == (None, None)
    assert await limit_of(asking(60), on.authority) is Reason.RATE_LIMITED
    assert on.table.open_holds == 1
    (window,) = desk.rates.counted()
    assert desk.rates.used(window, on.clock.wall_ms()) == PROMPT + 170
    exact, _ = setting(msgspec.structs.replace(TOKENS, limit=PROMPT + FLOOR))
    assert await limit_of(asking(60), exact.authority) == (FLOOR, 60)
    short, _ = setting(msgspec.structs.replace(TOKENS, limit=PROMPT + FLOOR - 1))
    assert await limit_of(asking(60), short.authority) is Reason.RATE_LIMITED


async def test_the_narrowest_of_several_windows_decides() -> None:
    """Each that has no room shortens it further, and the first limit asked for is what is told."""
    wide = msgspec.structs.replace(TOKENS, limit_id="wide", limit=PROMPT + 500, window_ms=120_000)
    on, _ = setting(wide, TOKENS)
    assert await limit_of(asking(900), on.authority) == (200, 900)


@pytest.mark.parametrize("limit", [RateLimit("r", Counts.REQUESTS, 0), RateLimit("c", Counts.CONCURRENT, 0)])
async def test_a_window_of_calls_is_not_helped_by_a_shorter_answer(limit: RateLimit) -> None:
    """Beside one of tokens too: one call is one call."""
    on, _ = setting(limit)
    assert await limit_of(asking(900), on.authority) is Reason.RATE_LIMITED


async def test_where_it_may_not_be_it_is_not() -> None:
    """A hard budget with `--no-clamp` forbids it; so does a body that cannot say it, and a limit that no answer has."""
    on, _ = setting(TOKENS)
    on.fund(limited(TOKENS, clamp=False), 0)
    assert await limit_of(asking(900), on.authority) is Reason.RATE_LIMITED
    assert await limit_of(asking(CARD.max_output_tokens + 1), setting(TOKENS)[0].authority) is Reason.RATE_LIMITED
    mute = msgspec.structs.replace(asking(900), shorten=None)
    thinking = msgspec.structs.replace(asking(900), shorten=lambda _facts, _tokens: None)
    for one in (mute, thinking):
        assert await limit_of(one, setting(TOKENS)[0].authority) is Reason.RATE_LIMITED


async def test_a_call_without_a_price_is_shortened_too() -> None:
    """It is counted in a window by the same tokens; an answer without a limit by what it is taken to be."""
    limit = msgspec.structs.replace(TOKENS, limit=PROMPT + UNKNOWN_OUTPUT_TOKENS - 1)
    on, _ = setting(limit, unpriced=True)
    on.fund(msgspec.structs.replace(standing(grants=(GRANT,), wallet=Wallet.REQUIRED), rate_limits=(limit,)), 0)
    assert await limit_of(asking(model="who-knows"), on.authority) == (UNKNOWN_OUTPUT_TOKENS - 1, None)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_crowd_never_passes_the_limit(shared: bool) -> None:
    """Thirty at once, each would have fitted alone: one takes what is left, none more than that."""
    limit = msgspec.structs.replace(TOKENS, limit=6 * PROMPT + 1300)
    on, desk = setting(limit, shared=shared)
    found = await asyncio.gather(*(authorize(asking(250, number), on.authority) for number in range(30)))
    passed = [one for one in found if isinstance(one, Admitted)]
    reasons = {one.reason for one in found if isinstance(one, Denied)}
    assert reasons == {Reason.RATE_LIMITED}
    assert len(passed) == len(on.spool.admitted) == on.table.open_holds == 6
    assert [one.call.facts.ceiling.output_limit for one in passed].count(250) == 5
    (window,) = desk.rates.counted()
    assert desk.rates.used(window, on.clock.wall_ms()) == 5 * (PROMPT + 250) + PROMPT + 50 == limit.limit


class Counter:
    """Every prompt has so many tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.asked = 0

    def count(self, vocabulary: str, texts: list[str]) -> int:
        del vocabulary, texts
        self.asked += 1
        return self.tokens


async def test_a_prompt_is_counted_before_its_answer_is_shortened() -> None:
    """Its bytes are some four times its tokens: what fits by count goes whole, once counted, and then is shortened."""
    limit = msgspec.structs.replace(TOKENS, limit=1_200)
    on, desk = setting(limit)
    long = OpenAIChat().read_request(
        json.dumps(
            {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": "word " * 300}]}
        ).encode()
    )
    counter = Counter(300)
    on.authority = dataclasses.replace(on.authority, counts=(counts := ExactCounts(counter)))
    whole = msgspec.structs.replace(call(), facts=long, protocol="openai.chat", shorten=shorter)
    found = await authorize(whole, on.authority)
    assert isinstance(found, Admitted)
    assert (found.admission.decision.clamped_to, found.call.counted, counter.asked) == (None, True, 1)
    (window,) = desk.rates.counted()
    left = limit.limit - desk.rates.used(window, on.clock.wall_ms())
    found = await authorize(msgspec.structs.replace(whole, request_id="req_2"), on.authority)
    assert isinstance(found, Admitted)
    prompt = found.call.facts.ceiling.input_tokens
    assert (found.admission.decision.clamped_to, found.admission.decision.asked_output) == (left - prompt, 300)
    assert counter.asked == 2
    assert desk.rates.used(window, on.clock.wall_ms()) == limit.limit
    calls = RateLimit("r", Counts.REQUESTS, 0)
    on.fund(limited(calls), 0)
    assert await limit_of(msgspec.structs.replace(whole, request_id="req_3"), on.authority) is Reason.RATE_LIMITED
    assert counter.asked == 2  # of calls, no count helps
    counts.close()


async def test_it_ends_however_often_others_are_quicker() -> None:
    """A call is shortened so many times and no more, whatever it was shortened for."""
    on, _ = setting(TOKENS)
    worn = msgspec.structs.replace(asking(900), clamp=Clamp(None, MAX_CLAMPS))
    assert await limit_of(worn, on.authority) is Reason.RATE_LIMITED
