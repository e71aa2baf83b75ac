"""When a call may begin with less than its bound, and with how much."""

from __future__ import annotations

import json

import msgspec
import pytest

from sidecar.core.governance.decisions import Consulted, Reason
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.leases.table import Uncovered
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.clamp import Clamp
from sidecar.proxy.price import Priced
from sidecar.proxy.small_holds import Start, begun_small
from tests.support.authority import CARD, MODEL, USD

FLOOR = 256
CEILING = Ceiling(MODEL, 100, 16_000)
BOUND = Priced(CARD, USD, price_ceiling(CEILING, CARD, USD))
BODY = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
FACTS = RequestFacts(CEILING, stream=True, body=json.dumps(BODY).encode())


def atoms(tokens: int) -> int:
    return price_ceiling(msgspec.structs.replace(CEILING, output_limit=tokens), CARD, USD)


def uncovered(free_tokens: int, held: int = 0, reason: Reason = Reason.BUDGET_EXCEEDED) -> Uncovered:
    binding = Consulted("budget", "b", "acme", "usd", 1, held=held)
    return Uncovered(reason, binding=binding, affordable_atoms=atoms(free_tokens) if free_tokens else 0)


def shorter(facts: RequestFacts, tokens: int) -> RequestFacts:
    return facts.limited_to(b"{}", tokens)


def starts(
    refused: Uncovered, facts: RequestFacts = FACTS, expected_atoms: int = 0
) -> tuple[int | None, Clamp | None, tuple[Start, ...]] | None:
    found = begun_small(
        facts, None, BOUND, refused,
        protocol="openai.chat", shorten=shorter, floor_tokens=FLOOR, expected_atoms=expected_atoms,
    )  # fmt: skip
    return None if found is None else (found[0].ceiling.output_limit, found[1], found[2])


def begun(refused: Uncovered, facts: RequestFacts = FACTS) -> tuple[int | None, Clamp | None, Start] | None:
    found = starts(refused, facts)
    if found is None:
        return None
    limit, clamp, (start,) = found
    return limit, clamp, start


def test_it_begins_with_the_prompt_and_the_shortest_answer_worth_giving() -> None:
    """And its output limit is what could be held if every open call gave back all of its hold."""
    start = Start(FLOOR, atoms(FLOOR))
    assert begun(uncovered(1000)) == (1000, Clamp(16_000), start)
    assert begun(uncovered(1000, held=atoms(500) - atoms(0))) == (1500, Clamp(16_000), start)
    assert begun(uncovered(1000, held=BOUND.ceiling_atoms)) == (16_000, None, start)
    assert begun(uncovered(0, held=atoms(300))) == (300, Clamp(16_000), start)


def test_l44_it_begins_with_what_such_calls_cost_where_that_is_known() -> None:
    """And with the least where that is not there; what does not fit even if all others end is not tried."""
    least, likely = Start(FLOOR, atoms(FLOOR)), Start(700, atoms(700))
    held = atoms(500) - atoms(0)
    assert starts(uncovered(1000), expected_atoms=atoms(700)) == (1000, Clamp(16_000), (likely, least))
    assert starts(uncovered(400, held=held), expected_atoms=atoms(700)) == (900, Clamp(16_000), (likely, least))
    assert starts(uncovered(400, held=held), expected_atoms=atoms(1001)) == (900, Clamp(16_000), (least,))
    assert starts(uncovered(1000), expected_atoms=atoms(FLOOR - 1)) == (1000, Clamp(16_000), (least,))
    assert starts(uncovered(1000, held=10**9), expected_atoms=atoms(100_000)) == (16_000, None, (
        Start(16_000, atoms(16_000)), least,
    ))  # fmt: skip


@pytest.mark.parametrize(
    "refused",
    [uncovered(FLOOR - 1), uncovered(1000, reason=Reason.LEDGER_UNAVAILABLE), Uncovered(Reason.BUDGET_EXCEEDED)],
)
def test_what_a_small_hold_does_not_help_is_refused(refused: Uncovered) -> None:
    """Less than the shortest answer, another reason, figures that are not known."""
    assert begun(refused) is None


def test_only_what_shows_what_it_bills_may_grow() -> None:
    """A short answer is held whole, and so is what may bill unseen."""
    for changed in (
        msgspec.structs.replace(FACTS, stream=False),
        msgspec.structs.replace(FACTS, may_reason=True),
        msgspec.structs.replace(FACTS, ceiling=msgspec.structs.replace(CEILING, output_limit=FLOOR)),
        msgspec.structs.replace(FACTS, ceiling=msgspec.structs.replace(CEILING, choices=2)),
        msgspec.structs.replace(FACTS, body=json.dumps(BODY | {"tools": [{}]}).encode()),
    ):
        assert begun(uncovered(1000), changed) is None
