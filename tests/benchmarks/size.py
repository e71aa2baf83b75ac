"""The figures beside CPU: a crowd of streams, added latency, memory, start, and a decision's cost.

    python -m tests.benchmarks.size                # a table
    python -m tests.benchmarks.size --json FILE

As in `run`, each is set against a yardstick of the same run: nginx passing the same bytes, or Python
importing the libraries alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks import steps
from tests.benchmarks.processes import LOAD_CORE, SERVER_CORE, free_port, pin, pinned, rss_mib, running
from tests.benchmarks.processes import wait_until_serving as wait
from tests.benchmarks.run import (
    CALLER_HEADERS,
    PATH,
    SCENARIOS,
    Scenario,
    measure,
    nginx_proxy,
    prepare,
    request_body,
    spend_up,
    upstream_command,
    whole_request,
)
from tests.support.product import Product, provider_environment
from tests.support.product import running as product_running

CROWD = Scenario("1,000 streams x 50/s", 1, 1000, True, 0.85)
RATE = 500
SLOW = Scenario("held streams", 1, 1000, True, 0, interval_ms=500)
HELD = 1000
STARTS = 5


class Figure(NamedTuple):
    """One line of the table; `more` is better where `must` is a floor."""

    name: str
    value: float
    must: float
    aim: float
    unit: str = ""
    more: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.value >= self.must if self.more else self.value <= self.must


def crowd(root: Path, rounds: int, seconds: int) -> Figure:
    """How much of what nginx delivers we do."""
    readings = measure(CROWD, {"nginx": nginx_proxy, "spend": spend_up}, rounds, seconds, root)
    nginx = {one.round: one.units for one in readings if one.server == "nginx"}
    ours = [one for one in readings if one.server == "spend"]
    lost = sum(one.failed for one in ours)
    return Figure(
        f"{CROWD.name}, delivered / nginx",
        median(one.units / nginx[one.round] for one in ours),
        0.85,
        0.95,
        more=True,
        note=f"{lost} lost",
    )


def paced(port: int, root: Path, seconds: int) -> float:
    """The median latency at RATE requests a second, in microseconds."""
    request = root / "paced"
    request.write_bytes(whole_request(SCENARIOS[0], port))
    command = [sys.executable, "-m", "tests.benchmarks.paced_load", "--port", str(port), "--request", str(request)]
    command += ["--rate", str(RATE), "--seconds", str(seconds)]
    done = subprocess.run(pinned(LOAD_CORE, command), check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} requests failed")
    return float(result["p50_us"])


def latency(root: Path, rounds: int, seconds: int) -> Figure:
    """What we add to the median, as a multiple of what nginx adds."""
    ratios, added = [], []
    with contextlib.ExitStack() as stack:
        upstream = free_port()
        place = Path(tempfile.mkdtemp(dir=root))
        stack.enter_context(running(upstream_command(SCENARIOS[0], upstream, place), core=LOAD_CORE, folder=place))
        ports = [upstream]
        for server in (nginx_proxy, spend_up):
            place = Path(tempfile.mkdtemp(dir=root))
            ports.append(stack.enter_context(server(upstream, place))[0])
        for port in ports:
            wait(port, PATH, request_body(SCENARIOS[0]), CALLER_HEADERS, root / "log")
        for _ in range(rounds):
            direct, nginx, ours = (paced(port, root, seconds) for port in ports)
            ratios.append((ours - direct) / max(1.0, nginx - direct))
            added.append(ours - direct)
    return Figure(f"added p50 at {RATE}/s / nginx's", median(ratios), 2.5, 1.5, note=f"{median(added):.0f} us added")


@contextlib.contextmanager
def prepared(root: Path, scenario: Scenario) -> Iterator[Product]:
    """A product that has run before, stopped, and its provider."""
    port, place = free_port(), Path(tempfile.mkdtemp(dir=root))
    with running(upstream_command(scenario, port, place), core=LOAD_CORE, folder=place):
        wait(port, PATH, request_body(scenario), {}, place / "log")
        product = Product(place / "data", provider_environment(f"http://127.0.0.1:{port}"))
        with product_running(product):
            prepare(product)
        yield product


def memory(root: Path) -> tuple[Figure, Figure]:
    """What `spend up` takes when idle, and for each stream that it holds."""
    with prepared(root, SLOW) as product, product_running(product):
        process = product.process
        if process is None:
            raise RuntimeError("spend up is not running")
        pin(process.pid, SERVER_CORE)
        time.sleep(3)
        idle_mib = rss_mib(process.pid)
        port = int(product.proxy.rpartition(":")[2])
        request = root / "held"
        request.write_bytes(whole_request(SLOW, port))
        command = [sys.executable, "-m", "tests.benchmarks.stream_load", "--port", str(port), "--request", str(request)]
        command += ["--streams", str(HELD)]
        held_mib = []
        loads = []
        for seconds in (14, 7):  # the second crowd beside the first: what one more stream takes, whatever the first did
            loads.append(subprocess.Popen(pinned(LOAD_CORE, [*command, "--seconds", str(seconds)]), stdout=-3))
            time.sleep(6)
            held_mib.append(rss_mib(process.pid))
        each_kib = 1024 * (held_mib[1] - held_mib[0]) / HELD
        for load in loads:
            load.wait()
    return (
        Figure("spend up, idle", idle_mib, 64, 52, "MiB"),
        Figure("each held stream", each_kib, 16, 8, "KiB"),
    )


def start(root: Path) -> Figure:
    """From spawning to the first answered request, as a multiple of what the imports alone take."""
    imports: list[float] = []
    starts: list[float] = []
    with prepared(root, SCENARIOS[0]) as product:
        for _ in range(STARTS):
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", "import aiohttp.web, uvloop"], check=True)
            imports.append(time.monotonic() - began)
            began = time.monotonic()
            with product_running(product):
                port = int(product.proxy.rpartition(":")[2])
                wait(port, PATH, request_body(SCENARIOS[0]), CALLER_HEADERS, root / "log")
                starts.append(time.monotonic() - began)
    ratios = [ours / alone for ours, alone in zip(starts, imports, strict=True)]
    return Figure("first answer / importing", median(ratios), 1.7, 1.2, note=f"{1000 * median(starts):.0f} ms")


def decision(root: Path) -> Figure:
    """Check, take and settle over eight held accounts."""
    return Figure("a decision, eight accounts", asyncio.run(steps.measure(root / "steps"))[steps.DECISION], 15, 8, "us")


def table(figures: list[Figure]) -> str:
    """One line each."""
    lines = [f"{'figure':40} {'value':>9} {'must':>7} {'aim':>6}  met"]
    for one in figures:
        sign = ">=" if one.more else "<="
        value = f"{one.value:.2f} {one.unit}".strip()
        lines.append(
            f"{one.name:40} {value:>9} {sign}{one.must:g}".ljust(60)
            + f" {one.aim:>5g}  {'yes' if one.is_met else 'NO'}  {one.note}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write every figure there")
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="spend-bench-") as folder:
        root = Path(folder)
        (root / "steps").mkdir()
        work: list[Callable[[], list[Figure]]] = [
            lambda: [crowd(root, options.rounds, options.seconds)],
            lambda: [latency(root, options.rounds, options.seconds)],
            lambda: list(memory(root)),
            lambda: [start(root)],
            lambda: [decision(root)],
        ]
        for number, step in enumerate(work, start=1):
            print(f"\r{number} of {len(work)} …", end="", file=sys.stderr, flush=True)
            figures += step()
    print(file=sys.stderr)
    print(f"Python {platform.python_version()}")
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps([one._asdict() for one in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
