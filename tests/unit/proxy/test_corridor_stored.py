"""Stored answers in the corridor: whose they are where the key is ours, and what they cost, once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.app.system import SystemClock
from sidecar.core.governance.standing import Wallet
from sidecar.proxy.settle import ESTIMATED
from tests.support.authority import GRANT, MODEL, Bench, bench, standing
from tests.support.forwarding import Answer, calling, until
from tests.support.scripted_provider import Script
from tests.unit.proxy.test_corridor import Site, post, site

PLENTY = 10**9
ASK = {"model": MODEL, "max_output_tokens": 50, "input": "hello"}
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
COST = 10 * 150 + 5 * 600
DONE = {"id": "resp_1", "object": "response", "status": "completed", "model": MODEL, "output": [], "usage": USAGE}
QUEUED = DONE | {"status": "queued", "usage": None}
RUNNING = DONE | {"status": "in_progress", "usage": USAGE | {"output_tokens": 1, "total_tokens": 11}}
TAKEN: Any = {"doors": {"background": "pass_counted"}}


def two_customers() -> Bench:
    """Acme and Eve, both with money."""
    on = bench(clock=SystemClock())
    for customer in ("acme", "eve"):
        known = standing(grants=(type(GRANT)(f"gr_{customer}", "usd", PLENTY, 0, 1),), wallet=Wallet.REQUIRED)
        on.fund(type(known)(customer, *known_rest(known)), PLENTY)
    return on


def known_rest(known: Any) -> list[Any]:
    """A standing's members but the customer."""
    return [getattr(known, name) for name in known.__struct_fields__[1:]]


async def asked(at: Site, customer: str, **more: Any) -> Answer:
    """A response made for a customer."""
    return await at.ask(ASK | more, f"Spend-Customer: {customer}", target="/v1/responses")


async def back(at: Site, customer: str | None, target: str = "/v1/responses/resp_1", method: str = "GET") -> Answer:
    """A stored one, by its id."""
    said = f"Spend-Customer: {customer}\r\n" if customer else ""
    async with calling(at.port) as caller:
        caller.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{said}Content-Length: 0\r\n\r\n".encode())
        return await caller.answer(method)


async def test_a_stored_answer_is_for_its_customer_alone() -> None:
    """S-31: another's is not read, cancelled, deleted or gone on from, and looks like one that is not there."""
    async with site(two_customers(), apart=True) as at:
        at.provider.otherwise(Script.json(DONE))
        assert (await asked(at, "acme")).status == 200
        theirs = [
            await back(at, "eve"), await back(at, "eve", "/v1/responses/resp_1/input_items"),
            await back(at, "eve", method="DELETE"), await back(at, "eve", "/v1/responses/resp_1/cancel", "POST"),
            await back(at, "acme", "/v1/responses/resp_9"),
        ]  # fmt: skip
        assert [answer.status for answer in theirs] == [404] * 5
        said = [json.loads(answer.body)["error"] for answer in theirs]
        assert {error["code"] for error in said} == {"answer_not_found"}
        assert len({error["message"] for error in said}) == 1
        assert (await back(at, None)).status == 400
        goes_on = await asked(at, "eve", previous_response_id="resp_1")
        assert (goes_on.status, json.loads(goes_on.body)["error"]["code"]) == (400, "previous_response_not_found")
        assert len(at.provider.requests) == 1  # nothing of this reached the provider
        assert (await back(at, "acme")).status == 200
        assert (await asked(at, "acme", previous_response_id="resp_1")).status == 200


async def test_a_chat_completion_is_known_where_it_is_stored() -> None:
    """By `store`; one that is not is nobody's."""
    chat = {"id": "chatcmpl-1", "object": "chat.completion", "model": MODEL, "choices": [], "usage": {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}  # fmt: skip
    ask = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    async with site(two_customers(), apart=True) as at:
        at.provider.otherwise(Script.json(chat))
        await at.ask(ask, "Spend-Customer: acme")
        assert (await back(at, "acme", "/v1/chat/completions/chatcmpl-1")).status == 404
        await at.ask(ask | {"store": True}, "Spend-Customer: acme")
        assert (await back(at, "acme", "/v1/chat/completions/chatcmpl-1")).status == 200
        assert (await back(at, "eve", "/v1/chat/completions/chatcmpl-1")).status == 404


async def test_with_the_callers_own_key_the_provider_tells_whose_it_is() -> None:
    """Then its account is theirs: passed on as it came, without asking who it is."""
    async with site(two_customers()) as at:
        at.provider.otherwise(Script.json(DONE))
        assert (await back(at, None)).status == 200
        assert at.provider.requests[0].target == "/v1/responses/resp_1"


async def test_a_background_answer_is_settled_once_when_it_is_first_seen_whole() -> None:
    """WIRE 1.13: its hold stays open until then, and the polls after that charge nothing."""
    async with site(two_customers(), **TAKEN) as at:
        at.provider.otherwise(Script.json(QUEUED))
        assert (await asked(at, "acme", background=True)).status == 200
        assert (at.events, at.on.table.open_holds) == ([], 1)
        for answer in (QUEUED, RUNNING, DONE, DONE):
            at.provider.otherwise(Script.json(answer))
            assert json.loads((await back(at, "acme")).body) == answer
        assert at.events == [(COST, "complete", ())]
        assert at.on.table.open_holds == 0
        assert at.desk.metrics.passed_through.value("openai") == 4


async def test_a_stream_that_was_left_is_settled_by_what_comes_back() -> None:
    """Leaving a stream does not end what is made in the background."""
    begun = b'event: response.created\ndata: {"type":"response.created","response":' + json.dumps(QUEUED).encode()
    ended = b'event: response.completed\ndata: {"type":"response.completed","response":' + json.dumps(DONE).encode()
    async with site(two_customers(), **TAKEN, on_caller_gone="estimate") as at:
        at.provider.otherwise(Script.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n%b\r\n" % (len(begun) + 3, begun + b"}\n\n"),
        ))  # fmt: skip
        async with calling(at.port) as caller:
            post(caller, ASK | {"stream": True, "background": True}, "Spend-Customer: acme", target="/v1/responses")
            await caller.head()
            caller.reset()
        await until(lambda: len(at.desk.background) == 1)
        assert at.events == []
        at.provider.otherwise(Script.stream([ended + b"}\n\n"]))
        await back(at, "acme", "/v1/responses/resp_1?stream=true&starting_after=1")
        assert at.events == [(COST, "complete", ())]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_one_that_failed_is_charged_its_hold(status: str) -> None:
    """L25: work may have been done, and no figure says how much."""
    async with site(two_customers(), **TAKEN) as at:
        at.provider.otherwise(Script.json(QUEUED))
        await asked(at, "acme", background=True)
        at.provider.otherwise(Script.json(QUEUED | {"status": status}))
        await back(at, "acme")
        assert at.events == [(at.on.spool.admitted[0].held_atoms, "complete", (ESTIMATED,))]


async def test_one_that_nobody_comes_for_is_charged_its_hold() -> None:
    """At the end of this process, with its id, so that its maker may have it after the next start."""
    async with site(two_customers(), apart=True, **TAKEN) as at:
        at.provider.otherwise(Script.json(QUEUED))
        await asked(at, "acme", background=True)
        assert (await back(at, "eve")).status == 404  # known before it is settled
        at.desk.background.close()
        assert at.events == [(at.on.spool.admitted[0].held_atoms, "complete", (ESTIMATED,))]
        assert at.on.spool.settled[0].usage.provider_request_id == "resp_1"


async def test_one_that_is_refused_or_done_at_once_does_not_wait() -> None:
    """A provider's refusal costs nothing; figures that came are believed."""
    async with site(two_customers(), **TAKEN) as at:
        at.provider.otherwise(Script.json({"error": {"message": "no"}}, status=400))
        await asked(at, "acme", background=True)
        at.provider.otherwise(Script.json(DONE))
        await asked(at, "acme", background=True)
        assert [charge for charge, _, _ in at.events] == [0, COST]
