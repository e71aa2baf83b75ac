"""The benchmark beside other gateways counts what it says: its tables and its race, without the gateways."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.benchmarks import race
from tests.benchmarks.peer_races import PHASES, race_all
from tests.benchmarks.peer_servers import BENCH, PEERS, CannotHave
from tests.benchmarks.peers import PERCENTILES, PLOTS, Report, Speed, race_table, speed_table
from tests.unit.source_tree import ROOT


class Store:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")

    def stop(self) -> None:
        self.done.append("stop")

    def kill(self) -> None:
        self.done.append("kill")


def test_the_race_sends_all_at_once_and_counts_what_is_paid() -> None:
    """With nothing between, every call reaches the provider; what is no call is not counted."""
    with race.counting_provider() as provider:
        passed, answers = race.race(provider, provider.port, "/v1/chat/completions", {}, b"{}")
        assert (passed, answers) == (race.CALLS, {200: race.CALLS})
        assert race.race(provider, provider.port, "/", {}, b"")[0] == race.CALLS


def test_the_phases_come_in_order() -> None:
    """One customer's money before and after a stop, another's without a store, a third's before and after a kill."""
    store = Store()

    def call(customer: str) -> int:
        store.done.append(customer)
        return len(store.done)

    def back() -> None:
        store.done.append("back")

    found = race_all(store, back, call)
    stopped = ["race-1", "stop", "race-2", "start", "back", "race-1"]
    assert store.done == [*stopped, "race-3", "kill", "start", "back", "race-3"]
    assert tuple(found) == PHASES


@pytest.mark.parametrize(
    ("found", "cells"),
    [
        ((5, 0, 0, 5, 0), "5 | 0 | 0 | 5 | 0 | 0 $"),
        ((6, 50, 0, 5, 0), "6 | 50 | 0 | 5 | 0 | 46 $"),
        ((5, 5, 50, 4, 2), "5 | 5 | 50 | 4 | 2 | 51 $"),
        ((3, 0, 2, 0, 6), "3 | 0 | 2 | 0 | 6 | 1 $"),
        ((5, None, 0, 5, 0), "5 | — | 0 | 5 | 0 | 0 $"),
    ],
)
def test_overspend_is_counted_for_each_customer(found: tuple[int | None, ...], cells: str) -> None:
    """What one customer has left pays for nothing of another's."""
    report = Report(races={"one": dict(zip(PHASES, found, strict=True))})
    assert race_table(report)[-1] == f"| one | {cells} |"


def test_ratios_are_taken_inside_a_round() -> None:
    """A machine that is slow in one round is slow for both."""
    report = Report(idle_mib={"nginx": 1, "p": 10}, busy_mib={"nginx": 2, "p": 20}, start_s={"nginx": 0.1, "p": 1})
    latency = [1000.0 * (1 + PERCENTILES.index(p)) for p in PERCENTILES]
    for number, slow in enumerate((1, 10, 1)):
        report.speeds += [Speed("nginx", number, 10.0 * slow, 0, latency), Speed("p", number, 50.0 * slow, 1, latency)]
    row = speed_table(report)[-1]
    assert row == "| p | 20,000 | 50 µs, 5.0 × nginx | 50.00 ms, 90.00 ms | 10, 20 MiB | 1.00 s, 3 failed |"


def test_a_peer_that_cannot_be_had_is_told_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are still measured."""
    report = Report()

    def fail() -> None:
        raise CannotHave("not installed: ERROR: No matching distribution")

    for name, step in {"first": fail, "second": lambda: None}.items():
        run: Callable[[], None] = step
        with report.problems.noted(name):
            run()
    assert report.problems.found == {"first": "not installed: ERROR: No matching distribution"}
    assert "first: not installed" in capsys.readouterr().err


def test_every_peer_tells_its_callers_apart() -> None:
    """By a header or in the body; the customer of the other measurements is one that its limit knows as rich."""
    for peer in PEERS:
        said = [(peer.headers(name), peer.body(name, {"model": "m"})) for name in ("race-1", "race-2", BENCH)]
        assert len({repr(one) for one in said}) == 3
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_the_readme_shows_what_was_drawn() -> None:
    """Both plots, small enough to be kept."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in PLOTS.iterdir()} == {"latency.png", "cpu.png"}
    for path in PLOTS.iterdir():
        assert f"({path.relative_to(ROOT)})" in text
        assert path.stat().st_size < 100_000
