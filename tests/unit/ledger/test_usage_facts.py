"""The text of a usage entry is the canonical one, byte for byte, whatever stands in it."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.core.credits.entries import Entry, Leg, body_of, read_body
from sidecar.core.governance.decisions import Consulted
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.ledger.usage_facts import UsageFacts, UsageText, read_usage, write_usage
from tests.support.ledger import DECISION

LEGS = [("budget:b:2026-11:é", "leased", "usd", -5), ("budget:b:2026-11:é", "consumed", "usd", 5)]
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


def written(facts: UsageFacts, legs: list[tuple[str, str, str, int]]) -> tuple[str, str]:
    """The text as it is written, and as `body_of` gives it."""
    text = UsageText("acme", 7, facts.request_id, "sidecar:s1", 20, 10, legs, facts)
    entry = Entry(
        *("acme", 7, "usage", facts.request_id, "sidecar:s1", 20, 10),
        tuple(Leg(*leg) for leg in legs),
        msgspec.to_builtins(facts),
    )
    return write_usage(text), body_of(entry)


@pytest.mark.parametrize("word", ["plain", '"\\/', "\x00\x1f\n\t", "a\x7fb", "é", "\U0001f600", "\ud800", "\x80\x7f"])
@pytest.mark.parametrize("field", ["user", "session", "request_id"])
def test_the_text_is_the_canonical_one(word: str, field: str) -> None:
    """L8: whoever checks the chain with a JSON library finds the same bytes, in every escape."""
    ours, theirs = written(msgspec.structs.replace(FACTS, **{field: word}), [])
    assert ours == theirs
    assert ours.isascii()


@pytest.mark.parametrize("legs", [[], LEGS])
@pytest.mark.parametrize("units", [{}, {"z": 1, "a": 2**80}, {"ü": 1, "\x7f": 2, "a": 3}])
def test_legs_and_counts_are_written_alike(legs: list[tuple[str, str, str, int]], units: dict[str, int]) -> None:
    """Also numbers and names that the fast encoder cannot write."""
    usage = msgspec.structs.replace(USAGE, units=units)
    ours, theirs = written(msgspec.structs.replace(FACTS, usage=usage), legs)
    assert ours == theirs


def test_what_is_written_is_read_back() -> None:
    """Both by the reader of usage and by the reader of any entry."""
    ours, _ = written(FACTS, LEGS)
    assert read_usage(ours).facts == FACTS
    assert [(leg.account, leg.bucket, leg.currency, leg.atoms) for leg in read_body(ours).legs] == LEGS
