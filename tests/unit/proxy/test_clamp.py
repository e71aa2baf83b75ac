"""How an answer is shortened: by how much, how often, and what is said when others were quicker."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from sidecar.core.governance.decisions import Consulted, Denied, Reason
from sidecar.core.pricing.ceilings import price_ceiling
from sidecar.leases.table import Uncovered
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.authorize import authorize
from sidecar.proxy.clamp import MAX_CLAMPS, Clamp, shortened
from sidecar.proxy.price import Priced
from tests.support.authority import CARD, CEILING, DAILY, USD, bench, call, standing

ASKED = msgspec.structs.replace(CEILING, output_limit=CARD.max_output_tokens)
BOUND = Priced(CARD, USD, price_ceiling(ASKED, CARD, USD))
FACTS = RequestFacts(ASKED, stream=False, body=b"{}")


def atoms(tokens: int) -> int:
    return price_ceiling(msgspec.structs.replace(ASKED, output_limit=tokens), CARD, USD)


def shorter(facts: RequestFacts, tokens: int) -> RequestFacts:
    return msgspec.structs.replace(facts, ceiling=msgspec.structs.replace(facts.ceiling, output_limit=tokens))


def uncovered(affordable_tokens: int, held_tokens: int = 0, reason: Reason = Reason.BUDGET_EXCEEDED) -> Uncovered:
    held = atoms(held_tokens) if held_tokens else 0
    binding = Consulted("budget", "b", "acme", "usd", 1, held=held)
    left = atoms(affordable_tokens) if affordable_tokens else 0
    return Uncovered(reason, binding=binding, consulted=(binding,), affordable_atoms=left)


def limit(refused: Uncovered, clamp: Clamp | None = None, *, may_clamp: bool = True, floor: int = 10) -> int | None:
    found = shortened(FACTS, clamp, BOUND, refused, shorten=shorter, may_clamp=may_clamp, floor_tokens=floor)
    return None if found is None else found[0].ceiling.output_limit


def test_alone_it_takes_all_that_is_left_and_with_others_half() -> None:
    """Where calls are open, and where it was too late before, the rest is for whoever else came."""
    assert limit(uncovered(80)) == 80
    assert limit(uncovered(80, held_tokens=40)) == 40
    assert limit(uncovered(80), Clamp(None)) == 40
    assert limit(uncovered(12, held_tokens=40)) == 10


def test_where_open_calls_hold_everything_a_share_of_it_is_waited_for() -> None:
    """Not less than the floor; nothing where even their end would not be enough."""
    assert limit(uncovered(0, held_tokens=88)) in range(10, 12)
    assert limit(uncovered(0, held_tokens=5)) is None


@pytest.mark.parametrize(
    "refused", [uncovered(80, reason=Reason.LEDGER_UNAVAILABLE), uncovered(9), Uncovered(Reason.BUDGET_EXCEEDED)]
)
def test_what_shortening_does_not_help_is_refused(refused: Uncovered) -> None:
    """Another reason, less than the floor, figures that are not known."""
    assert limit(refused) is None


def test_a_budget_may_forbid_it_and_it_ends() -> None:
    """However often others are quicker."""
    assert limit(uncovered(80), may_clamp=False) is None
    assert limit(uncovered(80), Clamp(None, MAX_CLAMPS)) is None


async def test_others_were_quicker_is_no_refusal_for_good_and_waits_once() -> None:
    """A crowd that took what was left: 429 and not 402; every try counts its wait from the first."""
    on = bench()
    on.fund(standing(DAILY), 0)
    refused = msgspec.structs.replace(uncovered(80), standing=standing(DAILY))
    on.keeper.refusal = refused
    asked = msgspec.structs.replace(call(ceiling=ASKED), shorten=shorter)
    found = await authorize(asked, replace(on.authority, clamp_floor_tokens=10))
    assert isinstance(found, Denied)
    assert found.reason is Reason.BUDGET_IN_FLIGHT
    assert found.retry_after_ms is not None
    tries = len(on.keeper.asked)
    assert 1 < tries <= MAX_CLAMPS + 1
    assert on.keeper.since[0] is None
    assert set(on.keeper.since[1:]) == {on.clock.monotonic()}
