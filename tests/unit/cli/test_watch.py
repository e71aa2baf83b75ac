"""`spend watch`: a table that is drawn over itself on a terminal, lines elsewhere, and an end by Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sidecar import errors
from sidecar.cli.watch import Tick, _Terminal
from sidecar.ledger.views import BalanceView, BudgetChildView, BudgetView, money
from tests.support.administration import NOTHING, USD
from tests.unit.cli.conftest import Shell


@pytest.fixture
def funded(acme: Shell) -> Shell:
    """A customer with credit and a budget."""
    acme.run("grants", "add", "acme", "7")
    acme.run("budgets", "set", "acme", "--limit", "5", "--per", "day", "--match", "model=gpt-*")
    return acme


def test_one_look(funded: Shell) -> None:
    """The wallet, each budget's account, and that nobody knows the sidecar's counts."""
    lines = funded.run("watch", "--once").stdout.splitlines()
    assert "--health URL" in lines[0]
    assert lines[1].split() == ["PATH", "COUNTS", "PER", "CHILD", "LIMIT", "SPENT", "+", "HELD", "LEFT", "FULL"]
    assert lines[2].split() == ["acme", "wallet", "0.00", "usd", "0.00", "7.00"]
    assert lines[3].split() == ["acme", "model=gpt-*", "day", "5.00", "usd", "0.00", "0.00", "5.00", "0%"]


def test_objects(funded: Shell) -> None:
    """One at every look, whole."""
    (tick,) = funded.json("watch", "--once")
    assert set(tick) == {"at_ms", "customers", "more_customers", "sidecar"}
    assert tick["customers"][0]["available"][0]["atoms"] == 7_000_000_000
    assert tick["sidecar"] is None


def test_only_some_customers(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number is asked for at every look, and it is said that there are more."""
    monkeypatch.setattr("sidecar.cli.watch.MAX_CUSTOMERS", 2)
    for name in ("a", "b", "c"):
        shell.run("customers", "add", name)
    text = shell.run("watch", "--once").stdout
    assert "beyond the first 2" in text
    assert [one["customer"] for one in shell.json("watch", "--once", "--customer", "c")[0]["customers"]] == ["c"]
    assert "spend customers add" in shell.run("watch", "--once", "--customer", "d", code=1).stderr


@pytest.mark.parametrize("interval", ["0", "0.1", "-1", "nan", "inf", "86400", "soon"])
def test_intervals_that_are_none(shell: Shell, interval: str) -> None:
    """Neither a spin nor a sleep without end."""
    shell.run("watch", "--interval", interval, code=2)


def test_a_ledger_that_never_answered(acme: Shell) -> None:
    """Exit 3, as of every command."""
    acme.administration.failure = errors.LedgerUnavailable("the disk is slow")
    assert "the disk is slow" in acme.run("watch", code=3).stderr


def looks(spent: int, rows: int = 1) -> Tick:
    """A look at a customer with some budgets."""
    child = BudgetChildView("", money(spent, USD), NOTHING, money(10**9 - spent, USD), "p", None)
    budgets = tuple(
        BudgetView("acme", f"b{n}", f"acme/team:t{n}", money(10**9, USD), "day", {}, "", True, 1, (child,))
        for n in range(rows)
    )
    return Tick(0, [BalanceView("acme", "none", (), (), (), (), (), budgets)], None, more=False)


class Paper:
    """What a terminal shows of what was written to it: only the moves that `watch` makes."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0

    def write(self, text: str) -> None:
        """Draw."""
        for move, count, line in re.findall(r"(\x1b\[(\d*)[AKJ]|\r)|([^\x1b\r]+)", text):
            if move.endswith("A"):
                self.row -= int(count)
                assert self.row >= 0
            elif move.endswith("J"):
                del self.lines[self.row :]
                self.lines.append("")
            for piece in re.findall(r"[^\n]+|\n", line):
                if piece == "\n":
                    self.row += 1
                    self.lines += [""] * (self.row + 1 - len(self.lines))
                else:
                    self.lines[self.row] = piece


def test_it_is_drawn_in_its_own_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Never cleared and drawn anew, which would flicker: each line over the one that stood there, in one write."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "10")
    terminal, paper = _Terminal(), Paper()
    for tick in (looks(0), looks(250_000_000), looks(300_000_000, rows=40), looks(300_000_000)):
        terminal.show(tick)
        drawn = capsys.readouterr().out
        assert "\x1b[2J" not in drawn
        paper.write(drawn)
        assert len(paper.lines) <= 10
        if tick.balances[0].budgets[1:]:
            assert "more lines" in paper.lines[8]
    assert len(paper.lines) == 4
    assert paper.lines[2].split() == ["acme/team:t0", "all", "day", "1.00", "usd", "0.30", "0.00", "0.70", "30%"]
    terminal.show(looks(400_000_000))
    paper.write(capsys.readouterr().out)
    assert "0.10" in paper.lines[2].split()  # what came since the last look
    terminal.say("The ledger does not answer.")
    paper.write(capsys.readouterr().out)
    assert (paper.lines[0], len(paper.lines)) == ("The ledger does not answer.", 4)


@contextmanager
def on_a_terminal(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command with a terminal for its output; gives it and the terminal's other end."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sidecar.cli.main", *arguments, "--data", str(shell.data)]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm"}, close_fds=True
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, wanted: bytes, seconds: float = 20.0) -> bytes:
    """What came until something was in it."""
    received, until = b"", time.monotonic() + seconds
    while wanted not in received:
        ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise AssertionError(received)
        received += os.read(terminal, 65536)
    return received


def test_ctrl_c_ends_it(funded: Shell) -> None:
    """On a real terminal: drawn again and again, and then exit 0 without a word."""
    with on_a_terminal(funded, "watch", "--interval", "0.2") as (process, terminal):
        seen = read_until(terminal, b"\x1b[5A")  # the second look goes up over the first, whose head is folded at 80
        assert b"5.00 usd" in seen
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_lines_where_there_is_no_terminal(funded: Shell) -> None:
    """Piped, each look adds lines without a single control character; JSON, an object."""
    command = [sys.executable, "-m", "sidecar.cli.main", "watch", "--interval", "0.2", "--data", str(funded.data)]
    for extra in ((), ("--json",)):
        with subprocess.Popen([*command, *extra], stdout=subprocess.PIPE, env={}) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline().decode() for _ in range(8)]
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            process.stdout.read()
        assert not any("\x1b" in line or "\r" in line for line in lines)
        if extra:
            assert len({json.loads(line)["at_ms"] for line in lines}) == 8
        else:
            assert sum(line.startswith("PATH") for line in lines) == 2
