from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.app.system import SystemClock
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.standing import Wallet
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import Ending
from sidecar.proxy.accept import AcceptOptions, Arrival, FrontDoor
from sidecar.proxy.corridor import Desk, Provider, carry
from sidecar.proxy.deny import door_shape
from sidecar.proxy.forward_options import ForwardOptions
from sidecar.proxy.identify import Identifier
from sidecar.proxy.passage import Passage
from sidecar.proxy.price import UnknownModel
from sidecar.proxy.recent import Denial, RecentDecisions
from sidecar.proxy.route import Routes
from sidecar.proxy.settle import ESTIMATED, NOT_BILLED
from sidecar.proxy.sweep import Sweep
from sidecar.proxy.upstream_pool import Upstream, read_origin
from sidecar.telemetry.metrics import Metrics
from tests.support.authority import DAILY, GRANT, MODEL, Bench, bench, full, standing
from tests.support.clock import SequentialIds
from tests.support.forwarding import Answer, Caller, calling, until
from tests.support.scripted_provider import Script, ScriptedProvider, Wait

PLENTY = 10**9
ASK = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COST = 10 * 150 + 5 * 600
ANSWER = {"id": "c1", "object": "chat.completion", "model": MODEL, "choices": [], "usage": USAGE}
EVENTS = [
    b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": None}).encode() + b"\n\n",
    b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n",
    b"data: [DONE]\n\n",
]


@dataclass
class Site:
    """A corridor between a real door and a scripted provider."""

    on: Bench
    desk: Desk
    door: FrontDoor
    provider: ScriptedProvider
    port: int

    async def ask(
        self, body: dict[str, Any] | bytes | None = None, *lines: str, target: str = "/v1/chat/completions"
    ) -> Answer:
        """One call as acme."""
        async with calling(self.port) as caller:
            post(caller, body, *lines, target=target)
            return await caller.answer()

    @property
    def events(self) -> list[tuple[int | None, str, tuple[str, ...]]]:
        """What was settled: charge, ending, flags."""
        return [(event.charge_atoms, event.ending, event.flags) for event in self.on.spool.settled]


def post(
    caller: Caller, body: dict[str, Any] | bytes | None = None, *lines: str, target: str = "/v1/chat/completions"
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(ASK if body is None else body).encode()
    caller.post(raw, *(lines or ("Spend-Customer: acme", "Authorization: Bearer sk-test")), target=target)


@contextlib.asynccontextmanager
async def site(
    on: Bench | None = None,
    *,
    stops: bool = False,
    keys: dict[str, Any] | None = None,
    apart: bool = False,
    doors: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    """A site whose customer acme has plenty, unless a bench says otherwise. `apart`: as where the key is ours."""
    on = on or rich()
    async with ScriptedProvider() as provider:
        provider.otherwise(Script.json(ANSWER))
        sweep = Sweep(tick_s=0.02)
        sweep.start()
        upstream = Upstream("openai", read_origin(provider.url), sweep=sweep)
        ids = SequentialIds()
        desk = Desk(
            routes=Routes(pass_through=("GET /v1/models",), doors={"openai": doors or {}}),
            identifier=Identifier(),
            authority=on.authority,
            providers={
                "openai": Provider(upstream, "openai", stops, forwarding=ForwardOptions(**options), keeps_apart=apart),
                "anthropic": Provider(upstream, "anthropic", forwarding=ForwardOptions(**options)),
            },
            ids=ids,
            sweep=sweep,
            metrics=Metrics(),
            recent=RecentDecisions(),
            **(keys or {}),
        )

        async def through(arrival: Arrival) -> None:
            await carry(arrival, desk)

        door = FrontDoor(through, shape=door_shape(ids), sweep=sweep, options=AcceptOptions())
        port = await door.listen("127.0.0.1", 0)
        try:
            yield Site(on, desk, door, provider, port)
        finally:
            await door.drain(0.0)
            upstream.close()
            sweep.stop()
            await asyncio.sleep(0)
    assert on.table.open_holds == 0
    settled = [event.admission.request_id for event in on.spool.settled]
    assert len(settled) == len(set(settled))
    if on.spool.settle_fault is None:
        admitted = {admission.request_id for admission in on.spool.admitted}  # twice, where a hold grew
        assert sorted(settled) == sorted(admitted)


def rich(unknown_model: UnknownModel = UnknownModel.DENY) -> Bench:
    on = bench(unknown_model, SystemClock())
    on.fund(standing(replace_limit(PLENTY)), PLENTY)
    return on


def replace_limit(atoms: int) -> Any:
    return type(DAILY)(DAILY.budget_id, "usd", atoms, DAILY.cadence)


async def test_a_call_is_charged_exactly_and_says_so() -> None:
    """The provider's figures, the caller's headers, the record, the metrics; our headers stay here."""
    async with site() as at:
        answer = await at.ask()
        assert answer.status == 200
        assert json.loads(answer.body) == ANSWER
        assert (answer.headers["spend-origin"], answer.headers["spend-charge"]) == ("provider", "0.0000045")
        assert "spend-remaining" in answer.headers
        assert at.events == [(COST, "complete", ())]
        assert at.on.spool.settled[0].admission.request_id == answer.headers["spend-request-id"]
        assert "spend-customer" not in at.provider.requests[0].headers
        assert at.desk.metrics.decisions.value("admitted", "lease") == 1
        assert at.desk.metrics.requests.value("openai", "2xx") == 1
        assert at.desk.recent.find(answer.headers["spend-request-id"]) == at.on.spool.settled[0]
    (lease,) = at.on.table.leases()
    assert (lease.spent, lease.held) == (COST, 0)


async def test_a_stream_is_charged_before_its_end_is_seen() -> None:
    """L49: when the caller has the last byte the record is written; the usage nobody asked for is hidden."""
    async with site() as at:
        at.provider.otherwise(Script.stream(EVENTS))
        answer = await at.ask(ASK | {"stream": True})
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert b"prompt_tokens" not in answer.body
        assert at.events == [(COST, "complete", ())]
        assert b"include_usage" in at.provider.requests[0].body


async def test_a_denial_reaches_nobody_else() -> None:
    """402 in the caller's protocol, nothing sent, nothing held, and remembered for who asks why."""
    on = bench(clock=SystemClock())
    on.fund(standing(DAILY), 0)
    async with site(on) as at:
        answer = await at.ask()
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["code"], answer.headers["x-should-retry"]) == (402, "budget_exceeded", "false")
        assert at.provider.requests == []
        assert at.desk.metrics.decisions.value("denied", "budget_exceeded") == 1
        remembered = at.desk.recent.find(answer.headers["spend-request-id"])
        assert isinstance(remembered, Denial)
        assert remembered.denied.reason is Reason.BUDGET_EXCEEDED
        assert (remembered.subject and remembered.subject.customer, remembered.model) == ("acme", MODEL)


@pytest.mark.parametrize(
    ("target", "lines", "body", "status", "code"),
    [
        ("/v1/rerank", ("Spend-Customer: acme",), None, 403, "endpoint_not_metered"),
        ("/v1/chat/completions", ("X-Other: 1",), None, 400, "customer_required"),
        ("/v1/chat/completions", ("Spend-Customer: a b",), None, 400, "invalid_subject"),
        ("/v1/chat/completions", ("Spend-Customer: acme", "baggage: spend.customer=b"), None, 400, "subject_conflict"),
        ("/v1/chat/completions", ("Spend-Customer: nobody",), None, 403, "customer_unknown"),
        ("/v1/chat/completions", ("Spend-Customer: acme",), {**ASK, "model": "who"}, 403, "model_not_priced"),
    ],
)
async def test_what_cannot_be_taken_is_answered_and_kept_here(
    target: str, lines: tuple[str, ...], body: dict[str, Any] | None, status: int, code: str
) -> None:
    """Each step refuses in the caller's protocol; the connection goes on."""
    async with site() as at, calling(at.port) as caller:
        for _ in range(2):
            post(caller, body, *lines, target=target)
            answer = await caller.answer()
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)
            assert answer.headers["spend-origin"] == "sidecar"
        assert at.provider.requests == []
        assert at.on.spool.admitted == []


async def test_a_body_that_is_no_request_names_its_field() -> None:
    """B-P49, B-P56: 400 before anybody is asked for money."""
    async with site() as at:
        for body in (b"", b"[]", json.dumps(ASK | {"max_tokens": True}).encode()):
            answer = await at.ask(body)
            assert answer.status == 400
        assert json.loads(answer.body)["error"]["param"] == "max_tokens"


async def test_a_providers_refusal_is_relayed_and_costs_nothing() -> None:
    """Its status, body and headers are its own."""
    async with site() as at:
        refusal = {"error": {"message": "bad key", "code": "invalid_api_key"}}
        at.provider.otherwise(
            Script.json(refusal, status=401, headers=(("Content-Type", "application/json"), ("x-request-id", "p1")))
        )
        answer = await at.ask()
        assert (answer.status, json.loads(answer.body), answer.headers["x-request-id"]) == (401, refusal, "p1")
        assert answer.headers["spend-origin"] == "provider"
        assert at.events == [(0, "complete", (NOT_BILLED,))]


async def test_a_provider_out_of_reach_is_502_and_costs_nothing() -> None:
    """Nothing was sent: it may be tried again."""
    async with site() as at:
        await at.provider.stop()
        answer = await at.ask()
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "true")
        assert json.loads(answer.body)["error"]["code"] == "upstream_unreachable"
        assert at.events == [(0, "unsent", (NOT_BILLED,))]


async def test_a_cut_is_charged_at_the_hold() -> None:
    """L25: the provider's connection breaks before and in the middle of an answer."""
    async with site() as at:
        at.provider.then(Script.raw(), Script.stream(EVENTS, cut_after=200))
        answer = await at.ask()
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        broken = await at.ask(ASK | {"stream": True})
        assert not broken.complete
        assert at.events == [(each.held_atoms, "cut", (ESTIMATED,)) for each in at.on.spool.admitted]


async def test_no_answer_in_time_is_504_and_charged() -> None:
    """L25: sent, and may be billed: not to be tried again."""
    async with site(head_timeout_s=0.05) as at:
        at.provider.otherwise(Script.raw(Wait()))
        answer = await at.ask()
        assert (answer.status, answer.headers["x-should-retry"]) == (504, "false")
        assert at.events == [(at.on.spool.admitted[0].held_atoms, "timed_out", (ESTIMATED,))]


async def test_a_caller_who_leaves_is_charged_what_the_provider_says() -> None:
    """L25: the stream is read to its usage."""
    async with site() as at:
        at.provider.otherwise(Script.stream([EVENTS[0], Wait(0.05), *EVENTS[1:]]))
        async with calling(at.port) as caller:
            post(caller, ASK | {"stream": True})
            await caller.head()
            caller.reset()
        await until(lambda: at.events)
        assert at.events == [(COST, "complete", ())]


async def test_a_stop_settles_what_is_under_way() -> None:
    """F-33: cancelled with the process: one settlement, at the hold."""
    async with site() as at, calling(at.port) as caller:
        at.provider.otherwise(Script.stream([EVENTS[0], Wait()]))
        post(caller, ASK | {"stream": True})
        await caller.head()
        await at.door.drain(0.0)
        assert at.events == [(at.on.spool.admitted[0].held_atoms, "abandoned", (ESTIMATED,))]


async def test_a_disk_that_fails_at_the_end_is_said_loudly() -> None:
    """The answer goes on, the table is settled, the failure is counted."""
    on = rich()
    on.spool.settle_fault = full()
    async with site(on) as at:
        assert (await at.ask()).status == 200
        assert at.desk.metrics.settle_errors.total() == 1
        assert on.table.open_holds == 0


async def test_a_fault_of_the_meter_leaves_no_hold_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing was read, and the hold is the charge."""

    class Faulty:
        def feed(self, piece: bytes) -> bytes:
            return piece

        def flush(self) -> bytes:
            return b""

        def finished(self) -> bool:
            return False

        def usage(self, ending: Ending) -> Usage:
            raise RuntimeError(ending)

    monkeypatch.setattr(Passage, "meter_for", lambda *_: Faulty())
    async with site() as at:
        assert (await at.ask()).status == 200
        assert at.events == [(at.on.spool.admitted[0].held_atoms, "complete", (ESTIMATED,))]


async def test_a_fault_before_forwarding_is_settled_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """L25: whatever breaks between the hold and the wire, exactly one settlement follows."""

    async def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("sidecar.proxy.corridor.forward", broken)
    async with site() as at:
        assert (await at.ask()).status == 500
        assert at.events == [(at.on.spool.admitted[0].held_atoms, "abandoned", (ESTIMATED,))]


async def test_what_is_passed_through_is_counted_only() -> None:
    """No customer, no hold, no record; a metric and a line."""
    async with site() as at, calling(at.port) as caller:
        caller.send(b"GET /v1/models?limit=3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await caller.answer("GET")
        assert (answer.status, answer.headers["spend-origin"]) == (200, "provider")
        assert at.provider.requests[0].target == "/v1/models?limit=3"
        assert at.desk.metrics.passed_through.value("openai") == 1
        assert at.on.spool.admitted == []


async def test_a_model_without_a_price_is_metered_by_policy() -> None:
    """L5: counted, no charge, no header that says one."""
    on = bench(UnknownModel.METER, SystemClock())
    on.fund(standing(grants=(GRANT,), wallet=Wallet.REQUIRED), 0)
    async with site(on) as at:
        answer = await at.ask(ASK | {"model": "who-knows"})
        assert answer.status == 200
        assert "spend-charge" not in answer.headers
        assert at.events == [(None, "complete", ("unpriced",))]
        assert at.on.spool.settled[0].usage.state is UsageState.FINAL


async def test_one_line_per_request_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """When it is over: who, what, how much, why; never a prompt or a key. What was settled exactly only at DEBUG."""
    with caplog.at_level(logging.DEBUG, logger="sidecar"):
        async with site() as at:
            await at.ask()
            await at.ask(ASK | {"model": "who"})
            await at.ask(target="/v1/rerank")
    lines = [record for record in caplog.records if record.name.startswith("sidecar.proxy")]
    assert [record.message for record in lines] == ["request_settled", "request_denied", "request_unfit"]
    settled: dict[str, Any] = lines[0].__dict__["facts"]
    assert (settled["customer"], settled["model"], settled["charge"]) == ("acme", MODEL, "0.0000045 usd")
    assert settled["overhead_ms"] >= 0
    assert settled["lease_age_s"] >= 0
    assert [record.levelno for record in lines] == [logging.DEBUG, logging.INFO, logging.INFO]
    assert lines[1].__dict__["facts"]["reason"] == "model_not_priced"
    text = repr([record.__dict__ for record in lines])
    assert "hello" not in text
    assert "sk-test" not in text


async def test_a_settlement_that_needs_a_look_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """At INFO: a charge that is not the provider's own figure; not the everyday ones."""
    with caplog.at_level(logging.INFO, logger="sidecar"):
        async with site() as at:
            await at.ask()
            at.provider.then(Script.json({"id": "c2", "choices": []}))
            await at.ask()
    lines = [record for record in caplog.records if record.message == "request_settled"]
    assert [record.__dict__["facts"]["flags"] for record in lines] == [ESTIMATED]
