"""Other gateways beside the sidecar, in one run on one machine, each with its limits on.

    make bench-peers
    python -m tests.benchmarks.peers --rounds 3 --seconds 4 --json .bench/peers.json

Two tables come out, in Markdown: what a request costs, and what is spent when fifty calls of one dollar race
for five dollars, while what the limits are kept in is up, stopped, and back. A peer that cannot be installed or
started says why, and the table does. Plots are drawn by `plots`, which has an environment of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import nginx, race
from tests.benchmarks.peer_races import CUSTOMERS, PHASES, SETTLED_AFTER_S, race_peer, race_sidecar, race_up
from tests.benchmarks.peer_servers import (
    BENCH,
    ENVIRONMENTS,
    PATH,
    PEERS,
    START_TIMEOUT_S,
    Peer,
    Problems,
    Redis,
    Up,
    below,
    environment,
)
from tests.benchmarks.processes import (
    LOAD_CORE,
    SERVER_CORE,
    cpu_s,
    free_port,
    pin,
    pinned,
    rss_mib,
    running,
    use_realtime,
    wait_until_serving,
)
from tests.benchmarks.run import CALLER_HEADERS, SCENARIOS, answer_body, prepare, request_body
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.product import Product, provider_environment
from tests.support.product import running as product_running

MATPLOTLIB = "matplotlib==3.11.2"
PLOTS = Path(__file__).parent / "plots"
CROWD, FEW = 16, 4
"""Callers at once: for the CPU of a request, and for how long one waits. What is under way at the end of a round was
paid for and is not counted: so no more than the slowest can finish many times over."""

PERCENTILES = (*range(1, 100), 99.5, 99.9)
LUA = """
wrk.method = "POST"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
wrk.headers["Content-Type"] = "application/json"
{headers}
done = function(summary, latency, requests)
  local e, found = summary.errors, {{}}
  for i, p in ipairs({{{percentiles}}}) do found[i] = latency:percentile(p) end
  io.write(string.format('\\nJSON {{"requests":%d,"failed":%d,"us":[%s]}}\\n', summary.requests,
    e.status + e.connect + e.read + e.write + e.timeout, table.concat(found, ",")))
end
"""


@dataclass(frozen=True)
class Speed:
    """One round of one server."""

    server: str
    round: int
    cpu_us: float
    failed: int
    latency_us: list[float]
    """At PERCENTILES, with few callers."""


@dataclass
class Report:
    """All that was measured."""

    speeds: list[Speed] = field(default_factory=list)
    idle_mib: dict[str, float] = field(default_factory=dict)
    busy_mib: dict[str, float] = field(default_factory=dict)
    start_s: dict[str, float] = field(default_factory=dict)
    races: dict[str, dict[str, int | None]] = field(default_factory=dict)
    """Calls that reached the provider, by phase; None where there was nothing to measure."""

    problems: Problems = field(default_factory=Problems)


# -- speed: servers that are up together and busy in turn


@dataclass(frozen=True)
class Contestant:
    """A server under load; `start_s` from its spawning to its first answer."""

    up: Up
    headers: dict[str, str]
    body: bytes
    start_s: float


Serving = Callable[[int, Path], "contextlib.AbstractContextManager[Contestant]"]
PLAIN = request_body(SCENARIOS[0])


@contextlib.contextmanager
def nginx_contestant(upstream: int, folder: Path) -> Iterator[Contestant]:
    """The yardstick, which limits nothing."""
    port, began = free_port(), time.monotonic()
    with running(nginx.proxy_command(folder, port, upstream), core=SERVER_CORE, folder=folder) as pid:
        wait_until_serving(port, PATH, PLAIN, {}, folder / "log")
        yield Contestant(Up(port, pid), {}, PLAIN, time.monotonic() - began)


@contextlib.contextmanager
def _started(product: Product) -> Iterator[Contestant]:
    began = time.monotonic()
    with product_running(product):
        port = int(product.proxy.rpartition(":")[2])
        wait_until_serving(port, PATH, PLAIN, CALLER_HEADERS, product.data / "log")
        start_s = time.monotonic() - began
        assert product.process is not None
        pin(product.process.pid, SERVER_CORE)
        yield Contestant(Up(port, product.process.pid), CALLER_HEADERS, PLAIN, start_s)


@contextlib.contextmanager
def spend_up_contestant(upstream: int, folder: Path) -> Iterator[Contestant]:
    """`spend up`, started again on a book in which five budgets and three grants apply to every call."""
    product = Product(folder / "data", provider_environment(f"http://127.0.0.1:{upstream}"))
    with product_running(product):
        prepare(product)
    with _started(product) as contestant:
        yield contestant


@contextlib.contextmanager
def spend_sidecar_contestant(upstream: int, folder: Path) -> Iterator[Contestant]:
    """`spend sidecar` with the same limits; its ledger is on the load's core and not counted, as a peer's Redis is."""
    given = provider_environment(f"http://127.0.0.1:{upstream}")
    ledger = LedgerProcess(folder / "ledger", given)
    with product_running(ledger):
        prepare(ledger)
        assert ledger.process is not None
        pin(ledger.process.pid, LOAD_CORE)
        with _started(SidecarProcess(folder / "sidecar", given, ledger.ledger, ledger.token(BENCH))) as contestant:
            yield contestant


def peer_contestant(peer: Peer) -> Serving:
    """A peer with its own Redis."""

    @contextlib.contextmanager
    def serving(upstream: int, folder: Path) -> Iterator[Contestant]:
        redis = Redis(below(folder, "redis"))
        redis.start()
        headers, body = peer.headers(BENCH), peer.body(BENCH, json.loads(PLAIN))
        try:
            began = time.monotonic()
            with peer.serve(upstream, redis, folder, SERVER_CORE) as up:
                wait_until_serving(up.port, up.path, body, headers, folder / "log", timeout_s=START_TIMEOUT_S)
                yield Contestant(up, headers, body, time.monotonic() - began)
        finally:
            redis.stop()

    return serving


def measure_speed(report: Report, servers: dict[str, Serving], rounds: int, seconds: int, root: Path) -> None:
    """All up at once, measured in turn, round after round."""
    with contextlib.ExitStack() as stack:
        place, port = below(root, "upstream"), free_port()
        upstream = nginx.upstream_command(place, port, answer_body())
        stack.enter_context(running(upstream, core=LOAD_CORE, folder=place))
        wait_until_serving(port, PATH, PLAIN, {}, place / "log")
        there: dict[str, Contestant] = {}
        for name, serving in servers.items():
            with report.problems.noted(name):
                found = stack.enter_context(serving(port, below(root, f"speed-{len(there)}-")))
                time.sleep(SETTLED_AFTER_S)
                report.start_s[name], report.idle_mib[name] = found.start_s, rss_mib(found.up.pid)
                _load(found, CROWD, 1, root)  # warm
                there[name] = found
        for number in range(rounds):
            for name, one in there.items():
                before = cpu_s(one.up.pid)
                done = _load(one, CROWD, seconds, root)
                cpu_us = 1e6 * (cpu_s(one.up.pid) - before) / max(done["requests"], 1)
                time.sleep(SETTLED_AFTER_S)  # what was cut off is not waited for, but it may still be worked on
                waits = _load(one, FEW, seconds, root)
                failed = done["failed"] + waits["failed"]
                report.speeds.append(Speed(name, number, cpu_us, failed, waits["us"]))
                report.busy_mib[name] = max(report.busy_mib.get(name, 0.0), rss_mib(one.up.pid))


def _load(one: Contestant, callers: int, seconds: int, folder: Path) -> dict[str, Any]:
    script, body = folder / "load.lua", folder / "body.json"
    body.write_bytes(one.body)
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in one.headers.items())
    percentiles = ",".join(map(str, PERCENTILES))
    script.write_text(LUA.format(body=body, headers=headers, percentiles=percentiles))
    command = ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    command.append(f"http://127.0.0.1:{one.up.port}{one.up.path}")
    output = subprocess.run(pinned(LOAD_CORE, command), check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(next(line for line in output.splitlines() if line.startswith("JSON "))[5:])
    return result


# -- what comes out


def speed_table(report: Report) -> list[str]:
    """Medians over the rounds; ratios are taken inside each."""
    lines = [
        "| | requests per core and second | CPU per request | median, and 90 %, of 4 callers | memory idle, busy"
        " | first answer after |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    nginx_us = {speed.round: speed.cpu_us for speed in report.speeds if speed.server == "nginx"}
    for name in dict.fromkeys(speed.server for speed in report.speeds):
        mine = [speed for speed in report.speeds if speed.server == name]
        cpu_us = median(speed.cpu_us for speed in mine)
        ratio = median(speed.cpu_us / nginx_us[speed.round] for speed in mine) if nginx_us else 0.0
        half, most = (median(at(speed, p) / 1000 for speed in mine) for p in (50, 90))
        failed = sum(speed.failed for speed in mine)
        lines.append(
            f"| {name} | {1e6 / cpu_us:,.0f} | {cpu_us:,.0f} µs, {ratio:,.1f} × nginx | {half:.2f} ms, {most:.2f} ms"
            f" | {report.idle_mib[name]:.0f}, {report.busy_mib[name]:.0f} MiB | {report.start_s[name]:.2f} s"
            + (f", {failed} failed |" if failed else " |")
        )
    return lines


def race_table(report: Report) -> list[str]:
    """Calls of a dollar that were paid for, of fifty, and by how many dollars that is too many."""
    lines = ["| | " + " | ".join(PHASES) + " | overspent |", "| --- " * (len(PHASES) + 2) + "|"]
    for name, found in report.races.items():
        cells = ["—" if found.get(phase) is None else str(found[phase]) for phase in PHASES]
        paid = dict.fromkeys(CUSTOMERS, 0)
        for phase, customer in zip(PHASES, CUSTOMERS, strict=True):
            paid[customer] += found.get(phase) or 0
        over = sum(max(0, dollars - race.BUDGET_USD) for dollars in paid.values())
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {over} $ |")
    return lines


def at(speed: Speed, percentile: float) -> float:
    """A percentile of its latency, in microseconds."""
    return speed.latency_us[PERCENTILES.index(percentile)]


def draw(file: Path) -> None:
    """The plots, by the environment that has matplotlib.

    Raises:
        CannotHave: it has not.
    """
    home = environment("plots", MATPLOTLIB)
    command = [str(home / "bin" / "python"), str(Path(__file__).parent / "plots.py"), str(file), str(PLOTS)]
    subprocess.run(command, check=True)


def main() -> int:
    """Measure and print; the exit code is 0 if something was measured beside nginx."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--realtime", action="store_true", help="ahead of other work on a shared machine (chrt)")
    parser.add_argument("--only", choices=["speed", "race"])
    parser.add_argument("--json", type=Path, default=ENVIRONMENTS / "peers.json", help="every reading goes there")
    options = parser.parse_args()
    if options.realtime:
        use_realtime()
    report = Report()
    ENVIRONMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spend-peers-") as root:
        if options.only != "race":
            servers: dict[str, Serving] = {"nginx": nginx_contestant, "spend sidecar": spend_sidecar_contestant}
            servers |= {"spend up": spend_up_contestant}
            servers |= {peer.name: peer_contestant(peer) for peer in PEERS if peer.name not in NOT_TIMED}
            measure_speed(report, servers, options.rounds, options.seconds, Path(root))
        if options.only != "speed":
            races: dict[str, Callable[[], dict[str, int | None]]] = {
                "spend up": partial(race_up, Path(root)),
                "spend sidecar, over its ledger": partial(race_sidecar, Path(root)),
            }
            for peer in PEERS:
                races[f"{peer.name}, over its Redis"] = partial(race_peer, peer, Path(root))
            for name, run in races.items():
                with report.problems.noted(name):
                    report.races[name] = run()
    print(f"{datetime.now(UTC):%d %B %Y}, Python {platform.python_version()}, {options.rounds} rounds\n")
    if report.speeds:
        print("\n".join(speed_table(report)), end="\n\n")
    if report.races:
        print("\n".join(race_table(report)), end="\n\n")
    for name, why in report.problems.found.items():
        print(f"{name} could not be had: {why}")
    options.json.write_text(json.dumps(asdict(report) | {"percentiles": PERCENTILES}, indent=1) + "\n")
    if report.speeds:
        with report.problems.noted("the plots"):
            draw(options.json)
    others = {speed.server for speed in report.speeds} - {"nginx"}
    return 0 if others or report.races else 1


NOT_TIMED = frozenset(peer.name for peer in PEERS if getattr(peer, "closed", False))
"""The same server with another setting, which costs a request nothing."""

if __name__ == "__main__":
    sys.exit(main())
