"""A stream whose hold grows with it: let through as far as it is paid for, and ended from inside where it is not."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest

from sidecar.app.system import SystemClock
from sidecar.core.governance.decisions import Consulted, Reason
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.leases.table import Uncovered
from sidecar.providers.growing_streams import likely_tokens
from sidecar.proxy.expectations import LEARNED_FROM, UNLEARNED_DENSITY
from sidecar.proxy.settle import CUT_AT_LIMIT, ESTIMATED, OVERRUN
from tests.support.authority import CARD, DAILY, MODEL, USD, Bench, bench, full, standing
from tests.support.forwarding import Answer, calling, until
from tests.support.scripted_provider import Script, Wait
from tests.unit.proxy.test_corridor import Site, post, site

WORD: Final = "abcdefghi "
ASK: Final = {"model": MODEL, "max_tokens": 16_000, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
INPUT_RATE, OUTPUT_RATE, FLOOR = 150, 600, 256
USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 400, "total_tokens": 409}


def chunk(text: str, **more: Any) -> bytes:
    said = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return (
        b"data: "
        + json.dumps({**said, "choices": [{"index": 0, "delta": {"content": text}}], **more}).encode()
        + b"\n\n"
    )


LAST: Final = [
    chunk("", usage=None),
    b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n",
    b"data: [DONE]\n\n",
]


def atoms(tokens: int, input_tokens: int) -> int:
    return price_ceiling(Ceiling(MODEL, input_tokens, tokens), CARD, USD)


def poor(covered_tokens: int) -> Bench:
    """A customer of whom so many output tokens can be held here, and who is said to have plenty left elsewhere."""
    on = bench(clock=SystemClock())
    what = standing(type(DAILY)(DAILY.budget_id, "usd", 10**9, DAILY.cadence))
    on.fund(what, atoms(covered_tokens, INPUT_TOKENS))
    binding = Consulted("budget", "b", "acme", "usd", 10**9, held=0)
    on.keeper.refusal = Uncovered(
        Reason.BUDGET_EXCEEDED, binding=binding, consulted=(binding,), standing=what, affordable_atoms=10**9
    )
    return on


def input_tokens() -> int:
    from sidecar.providers.registry import OPENAI_CHAT

    return OPENAI_CHAT.read_request(json.dumps(ASK).encode()).ceiling.input_tokens


INPUT_TOKENS: Final = input_tokens()


@asynccontextmanager
async def stopping(on: Bench, **more: Any) -> AsyncIterator[Site]:
    """A site before a provider that stops billing when we hang up."""
    async with site(on, stops=True, **more) as at:
        yield at


def text_of(body: bytes) -> str:
    """The words that a stream showed."""
    found = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    return "".join(one["choices"][0]["delta"].get("content", "") for one in found if one.get("choices"))


def likely(text: str) -> int:
    """The tokens that a stream of an unknown kind is believed to have at most."""
    return likely_tokens(0, len(text), UNLEARNED_DENSITY)


def last_chunks(body: bytes) -> list[Any]:
    found = [line[6:] for line in body.splitlines() if line.startswith(b"data: ")]
    return [one if one == b"[DONE]" else json.loads(one) for one in found]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stream_that_outgrows_what_can_be_held_is_ended_in_its_protocol(at_once: bool) -> None:
    """L22, L25: whole events only, none that is not covered; one settlement, no more than was held; told everywhere."""
    on = poor(1000)
    async with stopping(on) as at:
        pieces = [chunk(WORD) for _ in range(300)]
        at.provider.then(Script.stream([*([b"".join(pieces)] if at_once else pieces), Wait()]))
        answer = await at.ask(ASK)
        assert (answer.status, answer.complete) == (200, True)
        lacking = atoms(16_000, INPUT_TOKENS) - atoms(FLOOR, INPUT_TOKENS)
        assert answer.headers["spend-hold"] == f"grows; excess={lacking / 10**9}"
        last, mark = last_chunks(answer.body)[-2:]
        assert mark == b"[DONE]"
        assert (last["choices"][0]["finish_reason"], last["spend"]["cut"]) == ("length", "budget_exceeded")
        shown = text_of(answer.body)
        assert shown == WORD * (len(shown) // len(WORD))
        assert likely(shown) <= 1000 < likely(shown + WORD)
        (settled,) = on.spool.settled
        assert settled.charge_atoms is not None
        assert atoms(2 * len(shown) // 5, INPUT_TOKENS) <= settled.charge_atoms <= atoms(1000, INPUT_TOKENS)
        assert (settled.ending, settled.flags) == ("limited", (ESTIMATED, CUT_AT_LIMIT))
        assert settled.admission.decision.grows
        assert settled.admission.held_atoms == atoms(1000, INPUT_TOKENS)
        charge = f"{settled.charge_atoms / 10**9:.9f}".rstrip("0")
        assert set(answer.trailers) == {b"Spend-Charge: %b" % charge.encode(), b"Spend-Cut: budget_exceeded"}
        await until(lambda: at.provider.lost)  # hung up on
        counted = at.desk.metrics.render()
        assert b'spend_settlements_total{ending="limited",exact="no"} 1' in counted
        assert b'spend_hold_growths_total{outcome="refused"} 1' in counted


async def test_its_connection_serves_the_next_call_which_is_denied() -> None:
    """The end was one: the caller's connection goes on, and its next call gets a plain refusal."""
    on = poor(300)
    async with stopping(on) as at, calling(at.port) as caller:
        at.provider.then(Script.stream([chunk(WORD) for _ in range(300)]))
        post(caller, ASK)
        assert (await caller.answer()).complete
        spent = on.table.leases()[0]
        on.table.give_back(spent, spent.free)
        post(caller, ASK)
        refused = await caller.answer()
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (402, "budget_exceeded")


async def test_where_an_answer_must_not_be_shortened_it_fails() -> None:
    """`on_cap: error`: an error that the clients raise, and no mark behind it."""
    on = poor(300)
    async with stopping(on, keys={"on_cap": "error"}) as at:
        at.provider.then(Script.stream([chunk(WORD) for _ in range(300)]))
        answer = await at.ask(ASK)
        assert answer.complete
        assert last_chunks(answer.body)[-1]["error"]["code"] == "budget_exceeded"
        assert b"[DONE]" not in answer.body


async def test_a_hold_grows_with_what_the_ledger_lends_and_the_answer_is_the_providers_own() -> None:
    """Byte for byte, charged exactly; the provider waits meanwhile."""
    on = poor(300)
    async with stopping(on) as at:
        on.keeper.lends = atoms(16_000, INPUT_TOKENS)
        pieces = [chunk(WORD) for _ in range(300)]
        at.provider.then(Script.stream([*pieces, *LAST]))
        answer = await at.ask(ASK | {"stream_options": {"include_usage": True}})
        assert answer.complete
        assert answer.body == b"".join([*pieces, *LAST])
        assert at.events == [(9 * INPUT_RATE + 400 * OUTPUT_RATE, "complete", ())]
        assert answer.trailers == ()
        holds = [admission.held_atoms for admission in on.spool.admitted]
        assert len(holds) > 3
        assert holds == sorted(set(holds))
        assert holds[0] < holds[-1] < atoms(16_000, INPUT_TOKENS)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_pieces_of_any_size_are_the_same_stream(size: int) -> None:
    """Only whole events pass, whatever the network made of them."""
    on = poor(2000)
    stream = b"".join([*(chunk(WORD) for _ in range(30)), *LAST])
    async with stopping(on) as at:
        at.provider.then(Script.stream([stream[start : start + size] for start in range(0, len(stream), size)]))
        answer = await at.ask(ASK | {"stream_options": {"include_usage": True}})
        assert (answer.body, answer.complete) == (stream, True)
        assert at.events[0][1:] == ("complete", ())


async def test_what_a_provider_breaks_is_charged_all_that_can_be_held() -> None:
    """L25: nobody hung up, so the floor is the whole hold; and the bound, as far as there is credit for it."""
    on = poor(5000)
    async with stopping(on) as at:
        at.provider.then(Script.stream([chunk(WORD) for _ in range(9)], cut_after=900))
        answer = await at.ask(ASK)
        assert not answer.complete
        assert at.events == [(atoms(5000, INPUT_TOKENS), "cut", (ESTIMATED,))]


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_compressed_answer_is_cut_and_not_ended(says_so: bool) -> None:
    """No bytes of ours fit into it: the caller must see a break; what passed was covered."""
    on = poor(300)
    headers = (("Content-Type", "text/event-stream"), *((("Content-Encoding", "gzip"),) if says_so else ()))
    whole = gzip.compress(b"".join(chunk(f"{number} " * 9) for number in range(400)))
    async with stopping(on) as at:
        pieces = [whole[start : start + 40] for start in range(0, len(whole), 40)]
        at.provider.then(Script.stream([*pieces, Wait()], headers=headers))
        answer = await at.ask(ASK)
        assert not answer.complete
        assert whole.startswith(answer.body)
        ((charge, ending, flags),) = at.events
        assert charge is not None
        assert charge <= atoms(300, INPUT_TOKENS)
        assert (ending, flags) == ("limited", (ESTIMATED, CUT_AT_LIMIT))


async def test_an_event_too_long_to_read_is_not_passed_on() -> None:
    """What it holds cannot be counted, so it is not paid for: cut, and the whole hold is charged."""
    on = poor(2000)
    async with stopping(on) as at:
        at.provider.then(Script.stream([chunk(WORD), b"data: " + b"x" * (3 * 2**20), Wait()]))
        answer = await at.ask(ASK)
        assert not answer.complete
        assert len(answer.body) < 2**20
        ((charge, ending, _),) = at.events
        assert charge is not None
        assert charge == on.spool.settled[0].admission.held_atoms
        assert ending == "limited"


async def test_a_caller_who_leaves_a_growing_stream_is_settled_once() -> None:
    """L25: also where it leaves while credit is being asked for."""
    on = poor(300)
    async with stopping(on) as at:
        at.provider.then(
            Script.stream([*(chunk(WORD) for _ in range(20)), Wait(0.05), *(chunk(WORD) for _ in range(300))])
        )
        async with calling(at.port) as caller:
            post(caller, ASK)
            await caller.head()
            caller.reset()
        await until(lambda: on.spool.settled)
        ((charge, ending, _),) = at.events
        assert ending in {"limited", "abandoned"}
        assert charge is not None
        assert charge <= atoms(300, INPUT_TOKENS)


async def test_a_provider_that_does_not_stop_billing_is_held_for_whole() -> None:
    """L25: there the whole bound must fit: the call is denied."""
    on = poor(1000)
    async with site(on) as at:
        refused = await at.ask(ASK)
        assert refused.status == 402
        assert on.spool.settled == []


async def test_a_growth_that_cannot_be_written_covers_nothing() -> None:
    """L49: what cannot be recorded is not spent; the stream is ended, and the hold freed."""
    on = poor(5000)

    async with stopping(on) as at:
        at.provider.then(Script.stream([chunk(WORD), Wait(0.1), *(chunk(WORD) for _ in range(200))]))
        async with calling(at.port) as caller:
            post(caller, ASK)
            await until(lambda: on.spool.admitted)
            on.spool.admit_fault = full()
            answer = await caller.answer()
        assert answer.complete
        assert likely(text_of(answer.body)) <= FLOOR
        assert len(on.spool.admitted) == 1
        assert last_chunks(answer.body)[-2]["spend"]["cut"] == "outbox_full"
        assert on.table.leases()[0].held == 0


async def test_where_other_calls_hold_the_rest_a_stream_waits_for_them() -> None:
    """It is held up and not ended: what they did not use comes back, and the answer is the provider's own."""
    on = poor(300)
    others = Consulted("budget", "b", "acme", "usd", 10**9, held=10**9)
    stream = [*(chunk(WORD) for _ in range(100)), *LAST]
    async with stopping(on) as at, calling(at.port) as caller:
        at.provider.then(Script.stream([chunk(WORD), Wait(0.1), *stream]))
        post(caller, ASK | {"stream_options": {"include_usage": True}})
        await until(lambda: on.spool.admitted)
        on.keeper.refusal = Uncovered(Reason.BUDGET_IN_FLIGHT, binding=others)
        asked = len(on.keeper.asked)
        await until(lambda: len(on.keeper.asked) > asked + 9)
        on.keeper.lends = atoms(16_000, INPUT_TOKENS)
        answer = await caller.answer()
        assert answer.body == b"".join([chunk(WORD), *stream])
        assert at.events[0][1:] == ("complete", ())


@pytest.mark.parametrize(("tokens", "fits"), [(400, True), (5000, False)])
async def test_an_answer_that_has_come_whole_is_judged_by_its_own_figures(tokens: int, fits: bool) -> None:
    """Less than a bound: where they are covered, all of it passes. Else it ends, and they are charged (L17)."""
    on = poor(1000)
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    whole = b"".join([*(chunk(WORD) for _ in range(150)), last, LAST[-1]])
    async with stopping(on) as at:
        at.provider.then(Script.stream([whole]))
        answer = await at.ask(ASK | {"stream_options": {"include_usage": True}})
        assert answer.complete
        assert (answer.body == whole) == fits
        ((charge, ending, flags),) = at.events
        assert charge == 9 * INPUT_RATE + tokens * OUTPUT_RATE
        assert (ending, flags) == (("complete", ()) if fits else ("limited", (CUT_AT_LIMIT, OVERRUN)))


@pytest.mark.parametrize(("learned", "fits"), [(200, True), (None, False)])
async def test_a_stream_that_waits_is_read_on_where_it_is_likely_paid_for(learned: int | None, fits: bool) -> None:
    """L44: its bytes are three times what is held, its tokens less: by its own figures all of it passes at its end."""
    on = poor(1000)
    stream = [*(chunk(WORD) for _ in range(300)), *LAST]
    for _ in range(LEARNED_FROM if learned else 0):
        on.authority.expected.learn_density(("openai", "openai.chat", MODEL, "usd"), learned or 0, 1000)
    async with stopping(on) as at:
        at.provider.then(Script.stream([*stream[:150], Wait(0.05), *stream[150:]]))
        answer = await at.ask(ASK | {"stream_options": {"include_usage": True}})
        assert answer.complete
        assert (answer.body == b"".join(stream)) == fits
        assert at.events[0][1:] == (("complete", ()) if fits else ("limited", (ESTIMATED, CUT_AT_LIMIT)))
        assert [lease.held for lease in on.table.leases()] == [0]


async def test_l25_what_was_likely_covered_is_shown_at_the_end_and_paid_for() -> None:
    """A stream that was read on and cut after all: what was read is charged, so it is not kept back."""
    on = poor(1000)
    for _ in range(LEARNED_FROM):
        on.authority.expected.learn_density(("openai", "openai.chat", MODEL, "usd"), 250, 1000)
    async with stopping(on) as at:
        at.provider.then(Script.stream([*(chunk(WORD) for _ in range(900)), Wait()]))
        answer = await at.ask(ASK)
        shown = text_of(answer.body)
        assert answer.complete
        assert likely_tokens(0, len(shown), 250) <= 1000 < likely_tokens(0, len(shown + WORD), 250)
        ((charge, _, flags),) = at.events
        assert charge == atoms(1000, INPUT_TOKENS), "as much as is held: by bytes it may be more"
        assert flags == (ESTIMATED, CUT_AT_LIMIT)


async def test_l0_by_how_much_a_growing_call_may_pass_its_hold_is_told_before_it_does() -> None:
    """Ω: its bound less its hold, in the head and the metrics, less as it grows, nothing once it is settled."""
    on = poor(5000)
    open_ended, bound = on.authority.open_ended, atoms(16_000, INPUT_TOKENS)
    async with stopping(on) as at, calling(at.port) as caller:
        words = [chunk(WORD) for _ in range(90)]
        at.provider.then(Script.stream([chunk(WORD), Wait(0.2), *words, Wait(0.2), *LAST]))
        post(caller, ASK)
        await until(lambda: on.spool.admitted)
        assert dict(open_ended.growing_excess_by_currency()) == {("usd",): bound - atoms(FLOOR, INPUT_TOKENS)}
        await until(lambda: len(on.spool.admitted) > 1)
        held = on.spool.admitted[-1].held_atoms
        assert dict(open_ended.growing_excess_by_currency())["usd",] <= bound - held
        assert (await caller.answer()).complete
        assert (open_ended.growing, dict(open_ended.growing_excess_by_currency())) == (0, {})


async def test_l0_after_an_answer_that_came_whole_such_calls_are_held_for_whole() -> None:
    """A provider that makes answers faster than holds can grow gets no second call that its hold does not cover."""
    on = poor(1000)
    usage = {"prompt_tokens": 9, "completion_tokens": 16_000, "total_tokens": 16_009}
    whole = {"id": "c1", "object": "chat.completion", "choices": [{"message": {"content": "hi"}}], "usage": usage}
    async with stopping(on) as at:
        at.provider.then(Script.json(whole))
        answer = await at.ask(ASK)
        assert json.loads(answer.body) == whole
        charge = 9 * INPUT_RATE + 16_000 * OUTPUT_RATE
        assert at.events == [(charge, "complete", (OVERRUN,))]
        assert charge <= on.spool.settled[0].admission.held_atoms + int(
            float(answer.headers["spend-hold"].removeprefix("grows; excess=")) * 10**9 + 0.5
        )
        refused = await at.ask(ASK)
        assert refused.status == 402
        assert b'spend_hold_growths_total{outcome="outgrown"} 1' in at.desk.metrics.render()


async def test_a_frozen_customers_stream_grows_no_more() -> None:
    """L35: what is held by then is used; the stream ends where that ends."""
    on = poor(300)
    async with stopping(on) as at:
        on.keeper.refusal = msgspec.structs.replace(on.keeper.refusal, reason=Reason.BUDGET_EXCEEDED)
        at.provider.then(Script.stream([chunk(WORD), Wait(0.1), *(chunk(WORD) for _ in range(200))]))
        async with calling(at.port) as caller:
            post(caller, ASK)
            await until(lambda: on.spool.admitted)
            on.keeper.refusal = Uncovered(Reason.NODE_FROZEN)
            answer = await caller.answer()
        assert answer.complete
        assert last_chunks(answer.body)[-2]["spend"]["cut"] == "node_frozen"


async def test_two_that_grow_never_pass_what_was_lent() -> None:
    """L39: to the atom, whoever is quicker."""
    on = poor(1500)
    lease = on.table.leases()[0]
    async with stopping(on) as at:
        at.provider.otherwise(Script.stream([chunk(WORD) for _ in range(400)]))
        answers: list[Answer] = await asyncio.gather(*(at.ask(ASK) for _ in range(2)))
        assert [answer.complete for answer in answers] == [True, True]
        assert lease.spent + lease.held <= lease.granted
        assert sum(event.charge_atoms or 0 for event in on.spool.settled) == lease.spent
