from __future__ import annotations

from sidecar.core.governance.decisions import Denied, Reason
from sidecar.proxy.recent import Denial, RecentDecisions


def denial(number: int) -> Denial:
    return Denial(Denied(Reason.BUDGET_EXCEEDED, str(number)), None, "openai", "m", number)


def test_only_the_latest_are_remembered() -> None:
    """The oldest goes first; a later decision about the same call takes the place of the earlier."""
    recent = RecentDecisions(3)
    for number in range(5):
        recent.remember(f"r{number}", denial(number))
    recent.remember("r4", denial(9))
    assert len(recent) == 3
    assert recent.find("r1") is None
    assert recent.find("r2") == denial(2)
    assert recent.find("r4") == denial(9)
