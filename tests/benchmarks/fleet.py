"""How long a sync takes while a whole fleet of sidecars talks to one ledger on PostgreSQL.

Run as `python -m tests.benchmarks.fleet` in the repository; `--json FILE` keeps the readings. Each of 200 sidecars
has 50 active customers, of a thousand that they share, and syncs every 10 s, at an instant of its own: of each
customer it brings some settled calls and its lease, and wants as much again as was spent. A sync is counted
from when it was due until it is answered. The service is called in process; PostgreSQL is started by this, with fsync
on, and the process is settled as `spend ledger` settles itself (`settle_memory`). The CPU is for one customer's part
of a sync: ours (the sidecars' messages are made before the clock starts), and PostgreSQL's.

Beside it, in the same run, the yardstick: at the same instants PostgreSQL is given the bytes of the same calls, in one
statement and one commit for each sync, and nothing is decided about them. On a machine that others use as well the
ratio tells more than the milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
import uvloop

from sidecar.app.serving import settle_memory
from sidecar.contract.codec import encode
from sidecar.contract.messages import LeaseReport, RecordedPart, RecordedSync, RegisterRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from sidecar.ledger.administration import NewBudget
from sidecar.storage.options import DatabaseOptions
from tests.benchmarks.engines import DURABLE, PLENTY, Meter, desk_on
from tests.support.engines import POSTGRES, SQLITE
from tests.support.ledger import Desk, usd
from tests.support.postgres import Server

TARGET_MS = 250.0
"""The 99th percentile, at most."""

YARDSTICK = "raw inserts"
REFRESH_S = 10.0
CHARGE = 1_000
AT_ONCE = 64
"""Who sets up the fleet."""


@dataclass(frozen=True)
class Fleet:
    """`calls` of each of its `active` customers are in each sync of each sidecar."""

    sidecars: int
    active: int
    customers: int
    calls: int


@dataclass(frozen=True)
class Reading:
    """Milliseconds of a sync; microseconds of CPU for one customer's part; how busy both processes were, in cores.

    `refused`: how often the ledger had too much to do, and was asked again. `engine` is YARDSTICK for that.
    """

    engine: str
    syncs: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_us: float
    database_us: float
    cores: float
    refused: int


class Sidecar:
    """One of the fleet: its customers, its leases and its next message."""

    def __init__(self, desk: Desk, number: int, fleet: Fleet) -> None:
        self._desk = desk
        self._fleet = fleet
        self.name = f"s{number}"
        first = number * fleet.active
        self.subjects = [Subject(f"customer-{(first + n) % fleet.customers}") for n in range(fleet.active)]
        self._leases: dict[str, str] = {}
        self.syncs = 0
        self.inserted = 0
        self.refused = 0

    async def join(self) -> None:
        """Register, and borrow for each customer."""
        await self._desk.service.register(RegisterRequest(self.name, f"{self.name}-inc"))
        for subject in self.subjects:
            request = self._desk.request(subject, CHARGE, sidecar=self.name, demand=10**9)
            reply = await self._desk.service.resolve(request)
            self._leases[subject.customer] = reply.leases[0].lease_id

    def message(self) -> RecordedSync:
        """What it has to say by now."""
        self.syncs += 1
        parts = tuple(map(self._part, self.subjects))
        return RecordedSync(self.name, f"{self.name}-inc", self._desk.clock.wall_ms(), parts)

    async def say(self, message: RecordedSync) -> None:
        """Sync; where the ledger has too much to do, again."""
        while True:
            try:
                reply = await self._desk.service.sync(message)
                break
            except LedgerUnavailable:
                self.refused += 1
                await asyncio.sleep(1.0)
        if any(part.error or not part.booked or not part.leases for part in reply.parts):
            sys.exit(f"not booked: {reply.parts[0]}")

    def _part(self, subject: Subject) -> RecordedPart:
        lease, calls = self._leases[subject.customer], range(self._fleet.calls)
        ids = [f"req_{self.name}_{self.syncs}_{n}_{subject.customer}" for n in calls]
        events = tuple(msgspec.Raw(encode(self._desk.event(one, subject, CHARGE, leases=(lease,)))) for one in ids)
        return RecordedPart(subject.customer, events, (LeaseReport(lease, 0, want_atoms=CHARGE * len(calls)),))


async def set_up(desk: Desk, fleet: Fleet) -> list[Sidecar]:
    """Customers with a budget each, and sidecars with their leases."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def customer(number: int) -> None:
        async with gate:
            await desk.service.add_customer(f"customer-{number}", "none", desk.act())
            await desk.service.set_budget(NewBudget(f"customer-{number}", usd(PLENTY), "month"), desk.act())

    async def join(sidecar: Sidecar) -> None:
        async with gate:
            await sidecar.join()

    await asyncio.gather(*map(customer, range(fleet.customers)))
    sidecars = [Sidecar(desk, number, fleet) for number in range(fleet.sidecars)]
    await asyncio.gather(*map(join, sidecars))
    return sidecars


Say = Callable[[Sidecar, RecordedSync], Awaitable[None]]


class Talk(NamedTuple):
    """Seconds that each sync took; microseconds of a customer's part, of ours and PostgreSQL's; how long it was."""

    times: list[float]
    cpu_us: float
    database_us: float
    took_s: float


async def talk(sidecars: Sequence[Sidecar], rounds: int, server: Server, say: Say) -> Talk:
    """Each sidecar at its own instant of every round; what they will say is made beforehand, and is not measured."""
    times: list[float] = []
    messages = {sidecar.name: [sidecar.message() for _ in range(rounds)] for sidecar in sidecars}
    meter, began = Meter(server), time.perf_counter()

    async def one(number: int, sidecar: Sidecar) -> None:
        for turn, message in enumerate(messages[sidecar.name]):
            due = began + REFRESH_S * (turn + number / len(sidecars))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await say(sidecar, message)
            times.append(time.perf_counter() - due)

    await asyncio.gather(*(one(number, sidecar) for number, sidecar in enumerate(sidecars)))
    spent, took_s = meter.us(len(times) * len(sidecars[0].subjects)), time.perf_counter() - began
    return Talk(times, *spent, took_s)


async def measure(engine: str, fleet: Fleet, rounds: int, server: Server) -> list[Reading]:
    """One round that warms caches, and then those that count; then the yardstick, likewise."""
    async with desk_on(engine, server) as desk:
        sidecars = await set_up(desk, fleet)
        settle_memory()
        ledger = await _measured(engine, sidecars, fleet, rounds, server, Sidecar.say)
        for number in range(0, fleet.customers, 100):
            if problems := await desk.problems(f"customer-{number}"):
                sys.exit(f"the book is wrong: {problems[0]}")
        async with asyncpg.create_pool(
            server.new_database(), min_size=1, max_size=DatabaseOptions().connections
        ) as pool:
            await pool.execute("CREATE TABLE events (id TEXT PRIMARY KEY, body BYTEA NOT NULL)")
            raw = await _measured(YARDSTICK, sidecars, fleet, rounds, server, partial(insert, pool))
    return [ledger, raw]


async def insert(pool: asyncpg.Pool, sidecar: Sidecar, message: RecordedSync) -> None:
    """The yardstick: a sync's calls as they were recorded, by `unnest` and with one commit."""
    bodies = [bytes(event) for part in message.parts for event in part.events]
    sidecar.inserted += 1
    ids = [f"{sidecar.name}_{sidecar.inserted}_{number}" for number in range(len(bodies))]
    await pool.execute("INSERT INTO events (id, body) SELECT * FROM unnest($1::text[], $2::bytea[])", ids, bodies)


async def _measured(
    name: str, sidecars: Sequence[Sidecar], fleet: Fleet, rounds: int, server: Server, say: Say
) -> Reading:
    await talk(sidecars, 1, server, say)
    refused = sum(sidecar.refused for sidecar in sidecars)
    found = await talk(sidecars, rounds, server, say)
    times = sorted(found.times)
    cores = (found.cpu_us + found.database_us) * len(times) * fleet.active / 1e6 / found.took_s
    p50, p99, longest = (1e3 * times[int((len(times) - 1) * share)] for share in (0.5, 0.99, 1.0))
    refused = sum(sidecar.refused for sidecar in sidecars) - refused
    return Reading(name, len(times), p50, p99, longest, found.cpu_us, found.database_us, cores, refused)


def table(readings: list[Reading], fleet: Fleet) -> str:
    """One line for each."""
    lines = [
        f"{fleet.sidecars} sidecars, {fleet.active} of {fleet.customers} customers each, {fleet.calls} calls of each",
        f"{'engine':11} {'syncs':>6} {'p50 ms':>7} {'p99 ms':>7} {'longest':>8} {'CPU us':>7} {'its':>6} {'cores':>6}"
        f" {'refused':>7}",
    ]
    lines += [
        f"{one.engine:11} {one.syncs:6} {one.p50_ms:7.1f} {one.p99_ms:7.1f} {one.longest_ms:8.1f} {one.cpu_us:7.0f}"
        f" {one.database_us:6.0f} {one.cores:6.2f} {one.refused:7}"
        for one in readings
    ]
    ledger, raw = readings
    ratios = [a / b for a, b in ((ledger.p50_ms, raw.p50_ms), (ledger.p99_ms, raw.p99_ms))]
    cpu = (ledger.cpu_us + ledger.database_us) / (raw.cpu_us + raw.database_us)
    lines.append(f"over {YARDSTICK}: {ratios[0]:.1f} x the median, {ratios[1]:.1f} x the p99, {cpu:.1f} x the CPU")
    return "\n".join([*lines, f"CPU of a customer's part; aim: p99 below {TARGET_MS:.0f} ms"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=[POSTGRES, SQLITE], default=POSTGRES)
    parser.add_argument("--sidecars", type=int, default=200)
    parser.add_argument("--active", type=int, default=50, help="customers of each")
    parser.add_argument("--customers", type=int, default=1000, help="that they share")
    parser.add_argument("--calls", type=int, default=2, help="of each customer in each sync")
    parser.add_argument("--rounds", type=int, default=3, help="of ten seconds")
    parser.add_argument("--json", type=Path, help="write the readings there")
    options = parser.parse_args()
    fleet = Fleet(options.sidecars, options.active, options.customers, options.calls)
    server = Server(DURABLE)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            readings = runner.run(measure(options.engine, fleet, options.rounds, server))
    finally:
        server.remove()
    print(table(readings, fleet))
    if options.json:
        options.json.write_text(json.dumps([asdict(reading) for reading in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
