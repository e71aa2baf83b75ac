"""What runs, as it answers: and what its answers mean."""

from __future__ import annotations

import ast
import re
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sidecar.app.settings import Settings
from sidecar.cli.checks import running
from sidecar.cli.checks.finding import Setup, State
from sidecar.cli.connection import Place
from sidecar.cli.scrape import read_counts
from sidecar.ledger.views import ClockView
from sidecar.outbox.shipper import REFUSED
from sidecar.telemetry.metrics import Metrics
from tests.unit.cli.conftest import TOKEN, Shell
from tests.unit.source_tree import modules

NOON = 1_795_521_600.0
NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("before", "after", "state", "words"),
    [
        (NOON + 0.2, NOON + 0.3, State.OK, "agree"),
        (NOON + 2.5, NOON + 2.6, State.OK, "agree"),
        (NOON - 1.9, NOON - 1.8, State.OK, "agree"),
        (NOON + 11, NOON + 11, State.WARNING, "10 s ahead of"),
        (NOON - 10, NOON - 10, State.WARNING, "10 s behind"),
        (NOON + 400, NOON + 400, State.PROBLEM, "399 s ahead of"),
        (NOON - 400, NOON - 300, State.PROBLEM, "300 s behind"),
    ],
)
def test_two_clocks(before: float, after: float, state: State, words: str) -> None:
    """The ledger tells whole seconds, and the answer took some time: neither is a difference."""
    found = running.clock_against(formatdate(NOON, usegmt=True), before, after)
    assert (found.state, words in found.what) == (state, True), found


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov 2026 12:00:00 GMT"])
def test_an_answer_without_a_time(date: str) -> None:
    """It is said, and nothing is guessed."""
    assert running.clock_against(date, NOON, NOON).state is State.WARNING


def test_a_clock_that_the_ledger_does_not_believe(shell: Shell) -> None:
    """L38: told with the command that ends it; and nothing is told of one that it does."""
    setup = Setup(Settings(), Path("c"), None, None, Place(shell.address, TOKEN), {})
    assert "ledger clock" not in {one.check for one in running.running(setup)}
    shell.administration.time = ClockView(int(NOON * 1000), -600_000)
    (found,) = [one for one in running.running(setup) if one.check == "ledger clock"]
    assert (found.state, "600 s behind" in found.what) == (State.PROBLEM, True)
    shell.run(*found.then.partition("   ")[0].split()[1:])
    assert "ledger clock" not in {one.check for one in running.running(setup)}


def test_what_waits_in_the_outbox() -> None:
    """Read from the product's own metrics, as it shows them."""
    metrics = Metrics()
    metrics.decisions.add("admitted", "", count=7)
    metrics.decisions.add("denied", "model_not_priced", count=2)
    metrics.unfit.add("invalid_subject")
    depth, age = 0, 0.0
    metrics.gauge("spend_outbox_depth", "", lambda: depth)
    metrics.gauge("spend_outbox_age_seconds", "", lambda: age)
    states = []
    for depth, age in ((0, 0.0), (3, 1.0), (3, 31.0), (3, 3601.0)):  # noqa: B007 (the gauges read them)
        counts = read_counts(metrics.render().decode())
        assert counts is not None
        assert (counts.admitted, counts.denied, counts.unfit) == (7, {"model_not_priced": 2}, {"invalid_subject": 1})
        assert counts.outbox_depth == depth
        states.append(running.backlog(counts).state)
    assert states == [State.OK, State.OK, State.WARNING, State.PROBLEM]
    assert read_counts("up 1\n") is None


def test_what_was_put_aside(tmp_path: Path) -> None:
    """The only copies of charges: never passed over in silence, never to be removed."""
    assert list(running.set_aside(tmp_path)) == []
    for name in (REFUSED, running.DAMAGED):
        (tmp_path / name).mkdir()
        assert list(running.set_aside(tmp_path)) == []
        (tmp_path / name / "1").touch()
        (found,) = running.set_aside(tmp_path)
        assert (found.state, "keep them" in found.then) == (State.PROBLEM, True)
        (tmp_path / name / "1").unlink()


def test_what_it_says_to_look_for_in_the_log_is_logged() -> None:
    """Each event that it names by `name` is one that a module logs, by that very name."""
    levels = {"debug", "info", "warning", "error", "exception"}
    logged = {
        node.args[0].value
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    texts = [text for text in Path(running.__file__).read_text(encoding="utf-8").splitlines() if " log" in text]
    named = {name for text in texts for name in re.findall(r"`([a-z]+(?:_[a-z]+)*)`", text)}
    assert {"settlement_not_recorded", "sync_failed", "events_refused"} <= named
    assert named - logged == set()


def test_nothing_answers(tmp_path: Path) -> None:
    """Each address by itself, with the command that starts what should be there."""
    place = Place(NOBODY, TOKEN, tmp_path, NOBODY, NOBODY)
    found = list(running.running(Setup(Settings(), Path("c"), None, tmp_path, place, {})))
    assert [one.check for one in found] == ["ledger", "sidecar", "health"]
    assert {one.state for one in found} == {State.PROBLEM}
    assert all(f"spend up --data {tmp_path}" in one.then for one in found)


def test_a_ledger_of_its_own_is_started_as_one(tmp_path: Path) -> None:
    """Its folder has no sidecar's address: what starts it is `spend ledger`, and no outbox of calls is looked for."""
    (tmp_path / "outbox" / REFUSED).mkdir(parents=True)
    (tmp_path / "outbox" / REFUSED / "1").touch()
    place = Place(NOBODY, TOKEN, tmp_path, "", NOBODY)
    found = list(running.running(Setup(Settings(), Path("c"), None, tmp_path, place, {})))
    assert [one.check for one in found] == ["ledger", "health"]
    assert {one.then for one in found} == {f"spend ledger --data {tmp_path}"}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"null"])
def test_a_server_that_answers_everything(body: bytes) -> None:
    """Whatever answers 200 to all is neither a ledger nor a sidecar."""

    class Anything(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Anything) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        place = Place(address, TOKEN, None, address, address)
        found = {one.check: one for one in running.running(Setup(Settings(), Path("c"), None, None, place, {}))}
        server.shutdown()
        thread.join()
    assert {check for check, one in found.items() if one.state is State.PROBLEM} == {"ledger", "sidecar", "health"}


def test_something_else_answers(shell: Shell, tmp_path: Path) -> None:
    """A ledger is no sidecar and has no metrics; and a token may be an old one."""
    place = Place(shell.address, TOKEN, tmp_path, shell.address, shell.address)
    states = {one.check: one for one in running.running(Setup(Settings(), Path("c"), None, tmp_path, place, {}))}
    assert states["ledger"].state is State.OK
    assert states["clock"].state is State.OK
    assert "something else" in states["sidecar"].what
    assert "not as a sidecar's" in states["health"].what
    old = Place(shell.address, "old", None)
    (ledger, _) = running.running(Setup(Settings(), Path("c"), None, None, old, {}))
    assert "does not take this token" in ledger.what
    assert "old" not in ledger.what.split()
