"""Calls whose holds grow, whatever their provider makes of them: what may pass a limit is told before it does (L0)."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.governance.decisions import Consulted
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.leases.table import Lease
from sidecar.providers.registry import OPENAI_CHAT
from sidecar.proxy.authorize import Admitted, Call, authorize
from sidecar.proxy.gate import Gate, gate_for
from sidecar.proxy.outcomes import Cause, Outcome, ending_of
from sidecar.proxy.passage import Passage
from sidecar.proxy.recent import RecentDecisions
from sidecar.proxy.refusals import Header
from sidecar.telemetry.metrics import Metrics
from tests.support.authority import ACME, CARD, DAILY, MODEL, USD, Bench, bench, standing

BODY: Final = json.dumps({
    "model": MODEL, "max_tokens": 2_000, "stream": True, "messages": [{"role": "user", "content": "hi"}],
}).encode()  # fmt: skip
FACTS: Final = OPENAI_CHAT.read_request(BODY)
PROMPT: Final = FACTS.ceiling.input_tokens


def atoms(tokens: int) -> int:
    return price_ceiling(Ceiling(MODEL, PROMPT, tokens), CARD, USD)


class Answer(msgspec.Struct, frozen=True):
    """What a provider makes: so many words of so many letters, billed as so many thousandths of a token a byte.

    It comes in so many pieces; `whole`: as no stream at all.
    """

    words: int
    letters: int
    permille: int
    pieces: int
    whole: bool

    def body(self, limit: int) -> bytes:
        """As it is billed: no tokenizer makes more of a text than it has bytes, and no provider passes the limit."""
        tokens = min(limit, -(-self.words * self.letters * self.permille // 1000))
        usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
        if self.whole:
            return json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": usage}).encode()
        chunk = {"choices": [{"index": 0, "delta": {"content": "x" * self.letters}}]}
        events = [b"data: " + json.dumps(chunk).encode() + b"\n\n"] * self.words
        last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"
        return b"".join([*events, last])


class Exchange:
    """What a gate holds up and ends, without sockets; it settles as the real one does."""

    def __init__(self, admitted: Admitted, gate: Gate, on: Bench, answer: Answer) -> None:
        self.passage = Passage(
            admitted, OPENAI_CHAT, authority=on.authority, metrics=Metrics(), recent=RecentDecisions(),
            overhead_s=0.0, gate=gate,
        )  # fmt: skip
        self.gate, self.admitted = gate, admitted
        self.is_over, self.reads = False, True
        self.excess_before = 0
        self._open_ended = on.authority.open_ended
        body = answer.body(admitted.call.facts.ceiling.output_limit or 0)
        size = -(-len(body) // answer.pieces)
        self.left = [body[at : at + size] for at in range(0, len(body), size)]
        self._meter = self.passage.meter_for(200, "", b"")
        gate.attach(self)

    def step(self) -> None:
        """The provider's next piece."""
        piece = self.left.pop(0)
        self._moved(piece, complete=not self.left)

    def _moved(self, piece: bytes, *, complete: bool) -> None:
        self.gate.take(piece, complete=complete)
        if self.gate.is_over:
            self.end(Cause.COMPLETE)

    def end(self, cause: Cause, detail: str = "") -> None:
        del detail
        self.is_over = True
        self.excess_before = self._open_ended.excess_atoms(self.admitted.call.request_id)
        self.passage.on_end(Outcome(ending_of(cause, sent=True), cause, "", 200, self._meter, True, 0, 0, 0.0, 0.0))

    def hold_on(self) -> None:
        self.reads = False

    def go_on(self, *, complete: bool) -> None:
        self.reads = True
        self._moved(b"", complete=complete)

    def conclude(self, cause: Cause, shown: bytes, last: bytes, headers: tuple[Header, ...], *, repeats: bool) -> None:
        del shown, last, headers, repeats
        self.end(cause)


def call(number: int) -> Call:
    shorten = partial(OPENAI_CHAT.limit_output, own_field=False)
    return Call(f"req_{number}", ACME, FACTS, "openai", "openai.chat", stops_billing=True, shorten=shorten)


def refuse_by(lease: Lease, on: Bench) -> None:
    """What is left here is all there is, and open calls hold the rest of what is not spent."""
    binding = Consulted("budget", "b", "acme", "usd", lease.granted, held=lease.held)
    left = lease.granted - lease.spent - lease.held
    on.keeper.refusal = msgspec.structs.replace(on.keeper.refusal, binding=binding, affordable_atoms=max(0, left))


async def run(on: Bench, answers: list[Answer], order: list[int]) -> list[Exchange]:
    """All calls at once, their answers' pieces in this order; checked after each."""
    lease = on.table.leases()[0]
    found: list[Exchange] = []
    for number, answer in enumerate(answers):
        refuse_by(lease, on)
        admitted = await authorize(call(number), on.authority)
        if isinstance(admitted, Admitted) and admitted.held is not None:
            gate = gate_for(admitted, on.authority, Metrics(), on_cap="end")
            if gate is None:  # it was held for whole
                on.table.release(admitted.held)
                continue
            found.append(Exchange(admitted, gate, on, answer))
    turn = 0
    while any(not one.is_over for one in found):
        ready = [one for one in found if not one.is_over and one.reads and one.left]
        refuse_by(lease, on)
        if ready:
            ready[order[turn % len(order)] % len(ready)].step()
            turn += 1
        await asyncio.sleep(0)
        admitted_atoms = sum(one.admitted.admission.held_atoms for one in found if not one.is_over)
        assert admitted_atoms == lease.held, "each hold is written before it covers anything"
        within = sum(min(event.charge_atoms or 0, event.admission.held_atoms) for event in on.spool.settled)
        assert within + lease.held <= lease.granted, "what is admitted never passes the limit"
    return found


answers_of = st.builds(
    Answer,
    words=st.integers(0, 400),
    letters=st.integers(1, 12),
    permille=st.integers(1, 1000),
    pieces=st.integers(1, 60),
    whole=st.sampled_from([False, False, False, True]),
)


@settings(deadline=None, max_examples=150)
@given(
    answers=st.lists(answers_of, min_size=1, max_size=5),
    order=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    covered=st.integers(260, 1_900),
)
def test_l0_spend_passes_a_limit_by_no_more_than_was_told(
    answers: list[Answer], order: list[int], covered: int
) -> None:
    """Ω is each open call's bound less its hold: no charge is more than its hold and that.

    So what was lent is passed by no more than that, for all of them together; and by a lone call never.
    """
    on = bench()
    what = standing(type(DAILY)(DAILY.budget_id, "usd", 10**9, DAILY.cadence))
    on.fund(what, atoms(covered))
    on.keeper.refusal = msgspec.structs.replace(on.keeper.refusal, standing=what)
    found = asyncio.run(run(on, answers, order))
    events = {event.admission.request_id: event for event in on.spool.settled}
    assert len(events) == len(found)
    for one in found:
        event = events[one.admitted.call.request_id]
        charge, held = event.charge_atoms or 0, event.admission.held_atoms
        assert charge <= held + one.excess_before
        assert held + one.excess_before == max(held, atoms(one.admitted.call.facts.ceiling.output_limit or 0))
    spent = sum(event.charge_atoms or 0 for event in events.values())
    assert found, "a call that fits must be admitted"
    assert spent <= atoms(covered) + sum(one.excess_before for one in found)
    assert spent <= atoms(covered) or len(found) > 1
    assert on.authority.open_ended.growing == 0
