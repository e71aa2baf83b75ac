"""A call of before, when each had an entry of its own, is read from the entry's canonical text."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.core.credits.entries import Entry, Leg, body_of
from sidecar.core.governance.decisions import Consulted
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.ledger.usage_facts import UsageFacts, read_usage
from tests.support.ledger import DECISION

USAGE = Usage(
    UsageState.FINAL,
    (Line(Tokens(input_tokens=1, output_tokens=0)),),
    units={"b": 2, "a": 1, "B": 3},
    raw=b'\x00\xff{"x":1}',
    notes=("odd",),
)
FACTS = UsageFacts(
    *("r1", "team:data", "ada", "", "s", "", "", "openai", "openai_chat", "gpt", "final", "", 200, "complete", 7),
    *("usd", 5, 9, 0, "s1", "s1-inc", ("s1-inc/budget:b:2026-11:",), (("s1-inc/grant:g", 5),), "order/1"),
    *(USAGE, msgspec.structs.replace(DECISION, consulted=(Consulted("budget", "b", "acme", "usd", 9),)), ("late",)),
)
LEGS = (Leg("budget:b:2026-11:é", "leased", "usd", -5), Leg("budget:b:2026-11:é", "consumed", "usd", 5))


@pytest.mark.parametrize("word", ["plain", '"\\/', "\x00\x1f\n\t", "a\x7fb", "é", "\U0001f600"])
def test_what_was_written_is_read(word: str) -> None:
    """Every fact, in every escape; and where in the journal it stands."""
    facts = msgspec.structs.replace(FACTS, user=word)
    entry = Entry("acme", 7, "usage", "r1", "sidecar:s1", 20, 10, LEGS, msgspec.to_builtins(facts))
    body = read_usage(body_of(entry))
    assert body.facts == facts
    assert (body.customer, body.sequence, body.recorded_at_ms, body.occurred_at_ms) == ("acme", 7, 20, 10)
