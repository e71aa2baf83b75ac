"""`spend ledger`."""

from __future__ import annotations

from sidecar.ledger.views import ClockView
from tests.unit.cli.conftest import Shell

NOON = 1_795_521_600_000


def test_a_clock_that_is_believed(shell: Shell) -> None:
    """The time, and that nothing is wrong with it."""
    shell.administration.time = ClockView(NOON, 0)
    assert "by the machine's clock" in shell.run("ledger", "clock").stdout
    assert shell.json("ledger", "clock") == [{"now_ms": NOON, "jump_ms": 0}]


def test_a_jump_is_shown_and_accepted(shell: Shell) -> None:
    """L38: how far, which way, what to type; then it is believed."""
    for jump_ms, words in ((3_600_000, "3600 s ahead of it"), (-600_000, "600 s behind it")):
        shell.administration.time = ClockView(NOON, jump_ms)
        shown = shell.run("ledger", "clock")
        assert words in shown.stdout
        assert "spend ledger clock --accept" in shown.stderr
    assert shell.administration.acts == []
    assert "by the machine's clock" in shell.run("ledger", "clock", "--accept").stdout
    assert len(shell.administration.acts) == 1
    assert shell.administration.time == ClockView(NOON - 600_000, 0)
