from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, cast

import msgspec
import pytest

from sidecar.contract.messages import UsageEvent
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.rate_limits import Counts, NoRoom, RateLimit
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.leases.breaker import Breaker
from sidecar.leases.rate_lanes import SharedRates
from sidecar.leases.rates import RateKeeper
from sidecar.providers.dialect import Shape
from sidecar.proxy.authorize import Admitted, Authority, authorize
from sidecar.proxy.rates import UNKNOWN_OUTPUT_TOKENS, RateDesk, denied, most_tokens, used_tokens
from sidecar.proxy.settle import NOT_BILLED
from tests.support.authority import CEILING, DAILY, NEED, Bench, bench, call, full, standing
from tests.support.pretend_windows import PretendWindows
from tests.unit.proxy.test_deny import said

REQUESTS = RateLimit("rr", Counts.REQUESTS, 3)


def limited(*limits: RateLimit) -> Standing:
    return msgspec.structs.replace(standing(DAILY), rate_limits=limits)


def bench_with(*limits: RateLimit, shared: bool = False) -> tuple[Bench, SharedRates, PretendWindows]:
    on = bench()
    on.fund(limited(*limits), 40 * NEED)
    windows = PretendWindows(on.clock.wall_ms)
    breaker = Breaker(failures=3, open_s=1, max_open_s=10)
    desk = SharedRates(RateKeeper(on.clock), windows if shared else None, on.clock, incarnation="inc1", breaker=breaker)
    on.authority = with_desk(on, desk)
    return on, desk, windows


def with_desk(on: Bench, desk: RateDesk) -> Authority:
    return dataclasses.replace(on.authority, rate_desk=desk)


@pytest.mark.parametrize("shared", [False, True])
async def test_of_twenty_at_once_three_pass(shared: bool) -> None:
    """A call without room is denied by the rate limit, holds nothing of its budget, and is not written."""
    on, _, _ = bench_with(REQUESTS, shared=shared)
    found = await asyncio.gather(*(authorize(call(number), on.authority) for number in range(20)))
    passed = [one for one in found if isinstance(one, Admitted)]
    assert len(passed) == len(on.spool.admitted) == on.table.open_holds == 3
    reasons = {one.reason for one in found if isinstance(one, Denied)}
    assert reasons == {Reason.RATE_LIMITED}
    assert all(one.room is not None for one in passed)


async def test_a_call_its_budget_refuses_takes_nothing_of_a_window() -> None:
    """Money is asked for first: windows are for calls that may run."""
    _, desk, windows = bench_with(REQUESTS, shared=True)
    poor = bench()
    poor.fund(limited(REQUESTS), 0)
    poor.authority = with_desk(poor, desk)
    found = await authorize(call(), poor.authority)
    assert isinstance(found, Denied)
    assert found.reason is Reason.BUDGET_EXCEEDED
    assert windows.orders == []


async def test_a_call_that_cannot_be_written_gives_its_room_back() -> None:
    """L49: neither held nor counted."""
    on, desk, _ = bench_with(REQUESTS)
    on.spool.admit_fault = full()
    for number in range(5):
        found = await authorize(call(number), on.authority)
        assert isinstance(found, Denied)
        assert found.reason is Reason.OUTBOX_FULL
    assert desk.rates.counted() == []
    assert on.table.open_holds == 0


async def test_a_caller_who_leaves_while_it_is_asked_for_holds_nothing() -> None:
    """Neither of a budget nor of a window."""
    on, desk, _ = bench_with(REQUESTS, shared=True)
    task = asyncio.create_task(authorize(call(), on.authority))
    await asyncio.sleep(0)
    assert on.table.open_holds == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while not desk.is_idle:
        await asyncio.sleep(0.001)
    assert on.table.open_holds == 0
    assert desk.rates.counted() == []


def test_no_rate_limit_asks_nobody() -> None:
    """A customer without any pays a look at an empty tuple: the desk is never called, and the decision is one step."""

    class Untouchable:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    on = bench()
    on.fund(standing(DAILY), 4 * NEED)
    on.authority = with_desk(on, cast(Any, Untouchable()))
    decision = authorize(call(), on.authority)
    with pytest.raises(StopIteration) as ended:
        decision.send(None)
    assert isinstance(ended.value.value, Admitted)


def test_a_denial_says_which_limit_and_when() -> None:
    """429 in the caller's own protocol, with the headers that clients read; never a wait above 20 s."""
    limit = msgspec.structs.replace(REQUESTS, limit=600)
    room = NoRoom(limit, "ada", 600, 0, 12_345)
    status, headers, body = said(denied(room, "acme", "req_1"))
    assert (status, headers["retry-after"], headers["retry-after-ms"], headers["x-should-retry"]) == (
        429, "13", "12345", "true",
    )  # fmt: skip
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("600", "0")
    assert headers["x-ratelimit-reset-requests"] == "13s"
    error = body["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    spend = error["spend"]
    assert (spend["unit"], spend["limit"], spend["used"], spend["remaining"]) == ("requests", 600, 600, 0)
    assert spend["scope"] == {"level": "customer", "id": "acme"}
    assert "resets_at" in spend
    later = denied(room._replace(wait_ms=45_000), "acme", "req_1")
    _, headers, _ = said(later)
    assert (headers["x-should-retry"], "retry-after" in headers) == ("false", False)
    never = denied(room._replace(wait_ms=None), "acme", "req_1")
    assert said(never)[1]["x-should-retry"] == "false"
    assert "alone" in never.detail
    _, _, body = said(denied(room, "acme", "req_1"), Shape.ANTHROPIC)
    assert body["error"]["type"] == "rate_limit_error"
    at_once = denied(NoRoom(RateLimit("c", Counts.CONCURRENT, 2, window_ms=0), "", 2, 0, 1000), "acme", "req_1")
    assert not any(name.startswith("x-ratelimit") for name in said(at_once)[1])
    assert denied(NoRoom(None), "acme", "req_1").reason is Reason.OVERLOADED


def test_what_a_call_may_use_and_what_it_used() -> None:
    """The bound, both ways; then the provider's own figures, nothing where it did not run, the bound where unknown."""
    unbounded = msgspec.structs.replace(CEILING, output_limit=None, choices=2)
    assert most_tokens(call(ceiling=unbounded), None) == CEILING.input_tokens + 2 * UNKNOWN_OUTPUT_TOKENS
    limited_call = call(ceiling=msgspec.structs.replace(CEILING, output_limit=7, choices=3))
    assert most_tokens(limited_call, None) == CEILING.input_tokens + 21

    def event(usage: Usage, *flags: str) -> UsageEvent:
        on = bench()
        on.fund(standing(DAILY), NEED)
        decision = authorize(call(subject=Subject("acme")), on.authority)
        with pytest.raises(StopIteration) as ended:
            decision.send(None)
        return UsageEvent(ended.value.value.admission, 1, 200, "complete", usage, 1, flags=flags)

    final = Usage(UsageState.FINAL, (Line(Tokens(input_tokens=11, output_tokens=4)),))
    assert used_tokens(event(final)) == 15
    assert used_tokens(event(final, NOT_BILLED)) == 0
    assert used_tokens(event(Usage(UsageState.ABSENT))) is None
    assert used_tokens(event(msgspec.structs.replace(final, state=UsageState.PARTIAL))) is None
