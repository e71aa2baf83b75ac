"""`spend ledger`."""

from __future__ import annotations

from sidecar.ledger.fleet_views import AwaitedView, LearningView
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


def test_a_whole_book_says_so(shell: Shell) -> None:
    """L50a: nothing is unknown, and the ledger lends."""
    assert "The ledger lends" in shell.run("ledger", "learning").stdout


def test_a_loss_is_shown_and_accepted(shell: Shell) -> None:
    """L50a: since when, why, for whom it waits; one is given up by name and with a reason, or all of them."""
    awaited = (AwaitedView("pod-a", NOON), AwaitedView("pod-b", NOON))
    shell.administration.learns = LearningView("history_2", NOON, "a backup was put in its place", awaited)
    shown = shell.run("ledger", "learning")
    assert "since 2026-11-24" in shown.stdout
    assert "pod-b" in shown.stdout
    assert "spend ledger accept-loss SIDECAR" in shown.stderr
    assert [one["sidecar"] for one in shell.json("ledger", "learning")[0]["awaited"]] == ["pod-a", "pod-b"]
    for wrong in (["pod-a", "--all"], []):
        assert shell.run("ledger", "accept-loss", *wrong, "--reason", "gone", code=2).stderr
    assert shell.administration.acts == []
    assert "pod-a" not in shell.run("ledger", "accept-loss", "pod-a", "--reason", "its disk died").stdout
    assert "The ledger lends" in shell.run("ledger", "accept-loss", "--all", "--reason", "all are gone").stdout
    assert len(shell.administration.acts) == 2
