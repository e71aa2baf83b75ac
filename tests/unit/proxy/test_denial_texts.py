from __future__ import annotations

import msgspec
import pytest

from sidecar.core.credits.amounts import Currency
from sidecar.core.governance.decisions import Consulted, Reason
from sidecar.core.governance.limits import Cadence
from sidecar.proxy.denial_texts import duration, money_detail, resets_at

USD = Currency("usd", 9)
TEAM = Consulted(
    "budget", "b", "acme/team:data", "usd", 5_000_000_000, remaining=420_000_000, cadence=Cadence.DAY,
    resets_in_ms=(3 * 60 + 12) * 60_000,
)  # fmt: skip


def detail(reason: Reason, binding: Consulted | None = TEAM, tokens: int | None = None) -> str:
    return money_detail(reason, binding, 610_000_000, USD, affordable_tokens=tokens)


def test_a_spent_budget_in_one_sentence() -> None:
    """What is left of what, what the call could cost, when that changes."""
    assert detail(Reason.BUDGET_EXCEEDED) == (
        "Budget acme/team:data: 0.42 of 5.00 usd is left this day, this call could cost up to 0.61; "
        "resets in 3 h 12 min."
    )
    child = msgspec.structs.replace(TEAM, child="ada")
    assert detail(Reason.BUDGET_EXCEEDED, child, 900).startswith("Budget acme/team:data for ada: 0.42 of")
    assert "output limit of 900 tokens" in detail(Reason.BUDGET_EXCEEDED, child, 900)


def test_the_other_reasons_say_what_helps() -> None:
    """Waiting where that helps, never where it does not."""
    assert "resets" not in detail(Reason.REQUEST_EXCEEDS_BUDGET)
    assert "more than its whole limit of 5.00 usd this day" in detail(Reason.REQUEST_EXCEEDS_BUDGET)
    assert detail(Reason.BUDGET_IN_FLIGHT).endswith("try again in a moment.")
    assert "Add a grant" in detail(Reason.CREDITS_EXHAUSTED, None)
    wallet = Consulted("grant", "", "acme", "usd", 5, remaining=0)
    assert detail(Reason.CREDITS_EXHAUSTED, wallet).startswith("acme has no usd of credit left")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 s"), (1, "1 s"), (59_000, "59 s"), (59_001, "1 min"), (3_600_000, "1 h"), (11_520_000, "3 h 12 min"),
     (86_400_000, "1 d"), (86_400_001, "1 d 1 h"), (-5, "0 s")],
)  # fmt: skip
def test_durations_are_told_in_two_units(ms: int, text: str) -> None:
    """Rounded up: nobody who waits that long is too early."""
    assert duration(ms) == text


@pytest.mark.parametrize("off_ms", [-899, -40, 0, 40, 100])
def test_an_end_is_told_the_same_each_time(off_ms: int) -> None:
    """L34: counted on two clocks it comes out some milliseconds early or late, and is midnight all the same."""
    midnight_ms = 1_795_737_600_000  # 2026-11-27T00:00:00Z
    assert resets_at(midnight_ms - 3_600_000, 3_600_000 + off_ms) == "2026-11-27T00:00:00Z"


def test_what_ends_within_a_second_is_not_told_too_early() -> None:
    """A window that rolls may end anywhere: rounded up."""
    assert resets_at(1_795_737_600_000, 101) == "2026-11-27T00:00:01Z"
