"""Stored answers in the corridor: whose they are where the key is ours, and what they cost, once."""

from __future__ import annotations

import dataclasses
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


NAMED: Any = [
    {"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}},
    {"input": [{"id": "msg_1"}]}, {"input": [{"type": "item_reference", "id": "msg_1"}]},
    {"input": [{"type": None, "id": "msg_1"}]}, {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
    {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
    {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]},
]  # fmt: skip


@pytest.mark.parametrize("named", NAMED)
async def test_what_a_request_names_by_its_id_is_its_customers(named: Any) -> None:
    """S-31: a file, a conversation or an item that is not known here is refused before anything is held or sent."""
    async with site(two_customers(), apart=True) as at:
        answer = await asked(at, "eve", **named)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "not_found")
        assert at.provider.requests == []


@pytest.mark.parametrize("named", NAMED)
async def test_with_the_callers_own_account_it_is_the_providers_affair(named: Any) -> None:
    """Then a call passes where its model's window bounds it, and else is refused as one without a bound."""
    async with site(two_customers()) as at:
        at.provider.otherwise(Script.json(DONE))
        answer = await asked(at, "eve", **named)
        assert answer.status == 200 or json.loads(answer.body)["error"]["code"] == "request_not_boundable"


async def test_items_of_an_answer_are_its_makers() -> None:
    """They may be named again by the customer for whom they were made, and by no other."""
    output = [{"type": "reasoning", "id": "rs_1", "summary": []}, {"type": "message", "id": "msg_1", "content": []}]
    async with site(two_customers(), apart=True) as at:
        at.provider.otherwise(Script.json(DONE | {"output": output}))
        await asked(at, "acme")
        again = [{"type": "item_reference", "id": "msg_1"}, {"type": "reasoning", "id": "rs_1", "summary": []}]
        theirs, own = await asked(at, "eve", input=again), await asked(at, "acme", input=again)
        assert (theirs.status, json.loads(theirs.body)["error"]["code"]) == (400, "not_found")
        assert json.loads(own.body)["error"]["code"] == "request_not_boundable"  # known, and without a bound


async def test_what_is_passed_on_counted_is_kept_apart_too() -> None:
    """A file is its customer's who put it there; lists, which show everybody's, are not passed on."""
    doors = {"files": "pass_counted", "agents": "pass_counted", "batch": "pass_counted"}
    async with site(two_customers(), apart=True, doors=doors) as at:
        at.provider.otherwise(Script.json({"id": "file-1", "object": "file"}))
        assert (await back(at, "acme", "/v1/files", "POST")).status == 200
        assert (await back(at, "acme", "/v1/files/file-1/content")).status == 200
        sent = len(at.provider.requests)
        refused = {
            ("eve", "GET", "/v1/files/file-1"): 404, ("eve", "DELETE", "/v1/files/file-1"): 404,
            ("acme", "GET", "/v1/files/file-2"): 404, ("acme", "GET", "/v1/files/file-1;x"): 404,
            ("acme", "GET", "/v1/files"): 403, ("acme", "GET", "/v1/files?limit=1"): 403,
            ("eve", "POST", "/v1/conversations/conv_1/items"): 404,
        }  # fmt: skip
        for (customer, method, target), status in refused.items():
            assert (await back(at, customer, target, method)).status == status, target
        for customer, status in (("eve", 404), ("acme", 200)):
            batch = {"input_file_id": "file-1", "endpoint": "/v1/responses"}
            answer = await at.ask(batch, f"Spend-Customer: {customer}", target="/v1/batches")
            assert answer.status == status
        assert len(at.provider.requests) == sent + 1


async def test_what_is_said_to_be_shared_is_everybodys() -> None:
    """A store of vectors that the account's owner made for all, say."""
    async with site(two_customers(), apart=True, doors={"files": "pass_counted"}) as at:
        provider = at.desk.providers["openai"]
        at.desk.providers["openai"] = dataclasses.replace(provider, shared=frozenset({"vs_1"}))  # type: ignore[index]
        tools = [{"type": "file_search", "vector_store_ids": ["vs_1"]}]
        answer = await asked(at, "eve", tools=tools)
        assert json.loads(answer.body)["error"]["code"] == "request_not_boundable"
        assert (await back(at, "eve", "/v1/vector_stores/vs_1")).status == 200
        assert (await back(at, "eve", "/v1/vector_stores/vs_2")).status == 404
