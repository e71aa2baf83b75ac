"""The latest decisions are remembered, and no more than that."""

from __future__ import annotations

from typing import Any, cast

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.proxy.authorize import Admitted
from sidecar.proxy.recent import Denial, RecentDecisions


def denial(number: int) -> Denial:
    return Denial(Denied(Reason.BUDGET_EXCEEDED, str(number)), None, "openai", "m", number)


def test_only_the_latest_are_remembered() -> None:
    """The oldest goes first, however often the ring has gone round."""
    for turns in (1, 2, 7):
        recent = RecentDecisions(3)
        last = 4 * turns - 1
        for number in range(last + 1):
            recent.remember(f"r{number}", denial(number))
        assert recent.find(f"r{last - 3}") is None
        latest = range(last - 2, last + 1)
        assert [recent.find(f"r{number}") for number in latest] == [denial(number) for number in latest]


def test_of_one_call_the_later_decision_is_told() -> None:
    """It takes the place of the earlier."""
    recent = RecentDecisions(3)
    recent.remember("r", denial(1))
    recent.remember("r", denial(2))
    assert recent.find("r") == denial(2)


def test_an_open_call_is_known_until_it_is_over() -> None:
    """Its admission while it runs, what became of it after that."""
    recent = RecentDecisions(3)
    admitted = cast(Admitted, cast(Any, object()))
    recent.opened("r", admitted)
    assert recent.find("r") is admitted
    recent.remember("r", denial(1))
    assert recent.find("r") == denial(1)
