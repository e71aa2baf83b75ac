"""What the sidecar costs, as a multiple of nginx passing the same bytes in the same run.

    python -m tests.benchmarks.run                       # `spend up` with five budgets and three grants
    python -m tests.benchmarks.run --server forward      # the proxy's doors alone
    python -m tests.benchmarks.run --command 'my-proxy --port {port} --upstream http://127.0.0.1:{upstream}'

Microseconds depend on the machine and on who else uses it; what is read here are ratios taken
inside one round, and their medians. The servers share one core and are busy one after the other;
upstream and load generator share another. Needs nginx, wrk and taskset.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks import nginx
from tests.benchmarks.processes import (
    LOAD_CORE,
    SERVER_CORE,
    cpu_s,
    free_port,
    main_thread_cpu_s,
    pin,
    pinned,
    rss_mib,
    running,
    use_realtime,
    wait_until_serving,
)
from tests.support.fleet import LedgerProcess, SidecarProcess
from tests.support.product import Product, provider_environment, running_product
from tests.support.product import running as product_running

PATH = "/v1/chat/completions"
CALLER_HEADERS = {"Authorization": "Bearer sk-bench", "Spend-Customer": "bench", "Spend-User": "u1"}
CALLER_HEADERS |= {"Spend-Agent": "bench", "Spend-Session": "s1"}
LUA = """
wrk.method = "POST"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
wrk.headers["Content-Type"] = "application/json"
{headers}
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nJSON {{"requests":%d,"failed":%d,"p50_us":%d,"p99_us":%d}}\\n', summary.requests,
    e.status + e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load: `body_kib` of prompt, `connections` at once; streams or whole answers."""

    name: str
    body_kib: int
    connections: int
    streams: bool
    target: float
    """The ratio to nginx that must not be exceeded."""

    interval_ms: int = 20
    """Between two pieces of a stream."""


SCENARIOS = (
    Scenario("1 KB, c=64", 1, 64, False, 4.5),
    Scenario("100 KB, c=16", 100, 16, False, 3.5),
    Scenario("64 streams x 50/s", 1, 64, True, 1.8),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement; a unit is a request, or a streamed piece."""

    scenario: str
    server: str
    round: int
    cpu_us: float
    units: int
    failed: int
    p50_us: float
    p99_us: float
    rss_mib: float
    loop_us: float
    """Of `cpu_us`, what the process's first thread took: with `spend`, the proxy; the rest is the embedded ledger."""


def request_body(scenario: Scenario) -> bytes:
    """A chat request of about that size."""
    text = "Tell me about the history of token budgets, in some detail please. "
    text = (text * (1 + scenario.body_kib * 1024 // len(text)))[: scenario.body_kib * 1024 - 200]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], "max_tokens": 256}
    if scenario.streams:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, separators=(",", ":")).encode()


def answer_body() -> bytes:
    """About 1 KB of chat completion, with usage."""
    text = ("The quick brown fox jumps over the lazy dog near the riverbank. " * 10)[:620]
    usage = {"prompt_tokens": 180, "completion_tokens": 140, "total_tokens": 320}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [choice],
            "usage": usage,
        }
    ).encode()


# -- servers under test: each is (port, pid) while the block runs

Server = Callable[[int, Path], "contextlib.AbstractContextManager[tuple[int, int]]"]


@contextlib.contextmanager
def nginx_proxy(upstream_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """The yardstick."""
    port = free_port()
    with running(nginx.proxy_command(folder, port, upstream_port), core=SERVER_CORE, folder=folder) as pid:
        yield port, pid


def command_server(command: str) -> Server:
    """Any server; `{port}` and `{upstream}` are filled in."""

    @contextlib.contextmanager
    def server(upstream_port: int, folder: Path) -> Iterator[tuple[int, int]]:
        port = free_port()
        words = shlex.split(command.format(port=port, upstream=upstream_port))
        with running(words, core=SERVER_CORE, folder=folder) as pid:
            yield port, pid

    return server


@contextlib.contextmanager
def spend_up(upstream_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """`spend up`, with budgets and grants that all apply to the benchmark's calls."""
    with running_product(folder / "data", provider_environment(f"http://127.0.0.1:{upstream_port}")) as product:
        prepare(product)
        if product.process is None:
            raise RuntimeError("spend up is not running")
        pin(product.process.pid, SERVER_CORE)
        yield int(product.proxy.rpartition(":")[2]), product.process.pid


@contextlib.contextmanager
def spend_sidecar(upstream_port: int, folder: Path) -> Iterator[tuple[int, int]]:
    """`spend sidecar` with the same limits; its ledger is a process of its own on the load's core, and not counted."""
    environment = provider_environment(f"http://127.0.0.1:{upstream_port}")
    ledger = LedgerProcess(folder / "ledger", environment)
    with product_running(ledger):
        prepare(ledger)
        sidecar = SidecarProcess(folder / "sidecar", environment, ledger.ledger, ledger.token("bench"))
        with product_running(sidecar):
            for process, core in ((ledger.process, LOAD_CORE), (sidecar.process, SERVER_CORE)):
                if process is None:
                    raise RuntimeError("the fleet is not running")
                pin(process.pid, core)
            if sidecar.process is None:
                raise RuntimeError("spend sidecar is not running")
            yield int(sidecar.proxy.rpartition(":")[2]), sidecar.process.pid


def prepare(product: Product) -> None:
    """Five hard budgets and three grants, far from their ends."""
    product.spend("customers", "add", "bench", "--wallet", "required")
    for amount, expiry in (("1000000", "20d"), ("1000000", "40d"), ("1000000", "60d")):
        product.spend("grants", "add", "bench", amount, "--expires", expiry)
    for options in (
        ("--per", "day"),
        ("--per", "month"),
        ("--per", "day", "--each", "user"),
        ("--per", "day", "--match", "agent=bench"),
        ("--per", "lifetime", "--each", "session"),
    ):
        product.spend("budgets", "set", "bench", "--limit", "1000000", *options)


# -- loads: each gives (units, failed, p50_us, p99_us)


def whole_load(scenario: Scenario, port: int, seconds: int, folder: Path) -> tuple[int, int, float, float]:
    """A closed loop of wrk."""
    script, body = folder / "load.lua", folder / "body.json"
    body.write_bytes(request_body(scenario))
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in CALLER_HEADERS.items())
    script.write_text(LUA.format(body=body, headers=headers))
    command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{port}{PATH}"]
    output = subprocess.run(pinned(LOAD_CORE, command), check=True, capture_output=True, text=True).stdout
    result = json.loads(next(line for line in output.splitlines() if line.startswith("JSON "))[5:])
    return result["requests"], result["failed"], result["p50_us"], result["p99_us"]


def whole_request(scenario: Scenario, port: int) -> bytes:
    """Head and body of a scenario's request."""
    body = request_body(scenario)
    lines = [f"POST {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in CALLER_HEADERS.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def stream_load(scenario: Scenario, port: int, seconds: int, folder: Path) -> tuple[int, int, float, float]:
    """Streams held open; p50 is the time to the first piece."""
    request = folder / "request"
    request.write_bytes(whole_request(scenario, port))
    command = [sys.executable, "-m", "tests.benchmarks.stream_load"]
    command += ["--port", str(port), "--request", str(request)]
    command += ["--streams", str(scenario.connections), "--seconds", str(seconds)]
    result = json.loads(subprocess.run(pinned(LOAD_CORE, command), check=True, capture_output=True, text=True).stdout)
    return result["pieces"], result["lost"], 1e6 * result["first_piece_s"], 0.0


def upstream_command(scenario: Scenario, port: int, folder: Path) -> list[str]:
    """The upstream for a scenario."""
    if scenario.streams:
        pace = ["--port", str(port), "--interval-ms", str(scenario.interval_ms)]
        return [sys.executable, "-m", "tests.benchmarks.stream_provider", *pace]
    return nginx.upstream_command(folder, port, answer_body())


def measure(scenario: Scenario, servers: dict[str, Server], rounds: int, seconds: int, root: Path) -> list[Reading]:
    """All servers up at once, measured in turn, round after round."""
    readings = []
    load = stream_load if scenario.streams else whole_load
    with contextlib.ExitStack() as stack:

        def folder(name: str) -> Path:
            return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))

        port, place = free_port(), folder("upstream")
        stack.enter_context(running(upstream_command(scenario, port, place), core=LOAD_CORE, folder=place))
        wait_until_serving(port, PATH, request_body(scenario), {}, place / "log")
        up = {}
        for name, server in servers.items():
            place = folder(name)
            up[name] = stack.enter_context(server(port, place))
            wait_until_serving(up[name][0], PATH, request_body(scenario), CALLER_HEADERS, place / "log")
            load(scenario, up[name][0], 1, root)  # warm
        for number in range(rounds):
            for name, (server_port, pid) in up.items():
                before, loop_before = cpu_s(pid), main_thread_cpu_s(pid)
                units, failed, p50_us, p99_us = load(scenario, server_port, seconds, root)
                cpu_us = 1e6 * (cpu_s(pid) - before) / max(units, 1)
                loop_us = 1e6 * (main_thread_cpu_s(pid) - loop_before) / max(units, 1)
                readings.append(
                    Reading(scenario.name, name, number, cpu_us, units, failed, p50_us, p99_us, rss_mib(pid), loop_us)
                )
    return readings


def table(readings: list[Reading]) -> str:
    """Medians; ratios are taken inside each round first."""

    lines = [
        f"{'scenario':20} {'server':8} {'CPU us':>8} {'/nginx':>7} {'must':>5} {'loop us':>8} {'rest us':>8}"
        f" {'p50 us':>8} {'RSS MiB':>8} failed"
    ]
    for scenario in SCENARIOS:
        here = [reading for reading in readings if reading.scenario == scenario.name]
        base = {reading.round: reading.cpu_us for reading in here if reading.server == "nginx"}
        for server in dict.fromkeys(reading.server for reading in here):
            mine = [reading for reading in here if reading.server == server]
            ratio = median(reading.cpu_us / base[reading.round] for reading in mine)
            cpu_us, p50_us = median(reading.cpu_us for reading in mine), median(reading.p50_us for reading in mine)
            memory_mib, failed = max(reading.rss_mib for reading in mine), sum(reading.failed for reading in mine)
            must = apart = ""
            if server != "nginx":  # whose worker is a process of its own
                must = f"{scenario.target:.1f}"
                loop_us = median(reading.loop_us for reading in mine)
                apart = f"{loop_us:8.1f} {max(0.0, cpu_us - loop_us):8.1f}"
            lines.append(
                f"{scenario.name:20} {server:8} {cpu_us:8.1f} {ratio:7.2f} {must:>5} {apart:17} {p50_us:8.0f}"
                f" {memory_mib:8.1f} {failed}"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["spend", "sidecar", "forward"], default="spend")
    parser.add_argument("--command", help="another server, with {port} and {upstream}")
    parser.add_argument("--only", help="part of a scenario's name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--realtime", action="store_true", help="ahead of other work on a shared machine (chrt)")
    parser.add_argument("--json", type=Path, help="write every reading there")
    options = parser.parse_args()
    missing = [tool for tool in ("nginx", "wrk", "taskset") if shutil.which(tool) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    if options.realtime:
        use_realtime()
    doors = f"{sys.executable} -m tests.benchmarks.forward_only"
    if options.command:
        server, name = command_server(options.command), "command"
    elif options.server == "forward":
        server, name = command_server(doors + " --port {port} --upstream http://127.0.0.1:{upstream}"), "forward"
    elif options.server == "sidecar":
        server, name = spend_sidecar, "sidecar"
    else:
        server, name = spend_up, "spend"
    readings = []
    with tempfile.TemporaryDirectory(prefix="spend-bench-") as root:
        for scenario in SCENARIOS:
            if not options.only or options.only in scenario.name:
                servers = {"nginx": nginx_proxy, name: server}
                readings += measure(scenario, servers, options.rounds, options.seconds, Path(root))
    print(f"Python {platform.python_version()}; `loop` is the first thread (the proxy), `rest` all others (the ledger)")
    print(table(readings))
    if options.json:
        options.json.write_text(json.dumps([asdict(reading) for reading in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
