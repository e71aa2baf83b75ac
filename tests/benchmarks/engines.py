"""What the ledger does in a second on each engine, beside what PostgreSQL itself does in the same run.

Run as `python -m tests.benchmarks.engines` in the repository; `--json FILE` keeps the readings. PostgreSQL is
started by this, in a folder of its own, on this machine's disk, with fsync on; the ledger's service is called
in process, so that what is measured is booking and lending and not HTTP, and memory is settled as `spend ledger` does.

- *events*: settled calls with full attribution, in syncs of 512 of one customer; beside it the same bytes (each
  event as its outbox recorded it) inserted by `unnest`, 512 rows to a statement and a commit to each.
- *leases*: a resolve that has to lend, from many askers at once: each on an account of its own, of as many
  customers or of one; and all on one account.
- *latency*: the same at half the rate that is wanted (of what was reached, where that is less), asked at even distances
  whatever has been answered.

The CPU is of this process and of PostgreSQL's, for one event or lease: on a machine that others use as well it
tells more than the rates, which are what was left of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import asyncpg
import msgspec
import uvloop

from sidecar.app.serving import settle_memory
from sidecar.contract.codec import encode
from sidecar.contract.messages import RecordedPart, RecordedSync, RegisterRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.administration import NewBudget
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from sidecar.storage.sqlite import open_book
from tests.benchmarks.book import SCENARIOS, Scenario, Sidecars
from tests.support.engines import POSTGRES, SQLITE
from tests.support.ledger import Desk, usd
from tests.support.postgres import Server

DURABLE = ("max_connections=100", "shared_buffers=256MB", "max_wal_size=2GB", "jit=off")
ASKERS = 64
BATCH = 512
SECONDS = 4.0
PLENTY = 10**15
EVENTS, YARDSTICK = "events, 512 to a sync", "yardstick: raw inserts of their bytes"


@dataclass(frozen=True)
class Reading:
    """One row: so many a second, of so many wanted; the latency's median and 99th percentile at half of that."""

    engine: str
    what: str
    per_s: float
    cpu_us: float
    database_us: float
    wanted_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None


@asynccontextmanager
async def desk_on(engine: str, server: Server) -> AsyncIterator[Desk]:
    """A ledger on an empty book."""
    with tempfile.TemporaryDirectory(prefix="spend-engines-") as folder:
        if engine == SQLITE:
            embedded = open_book(Path(folder) / "book.db")
            try:
                yield Desk(embedded)
            finally:
                embedded.close()
            return
        shared = await open_postgres(DatabaseOptions(server.new_database()))
        try:
            yield Desk(shared)
        finally:
            await shared.close()


class Meter:
    """CPU since it was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ours, self._theirs = time.process_time(), server.cpu_s()

    def us(self, count: int) -> tuple[float, float]:
        """Microseconds for each of so many: of this process, and of the database's."""
        spent = time.process_time() - self._ours, self._server.cpu_s() - self._theirs
        return 1e6 * spent[0] / count, 1e6 * spent[1] / count


async def events(desk: Desk, engine: str, server: Server) -> Reading:
    """Syncs of 512 calls of each of four customers, four at a time."""
    sidecars = Sidecars(desk, Scenario("", 4, BATCH, 1, 0))
    await sidecars.open()
    rates = []
    spent: list[tuple[float, float]] = []
    for batch in islice(sidecars.batches(), 9):
        by_customer: dict[str, list[msgspec.Raw]] = {}
        for event in batch:
            by_customer.setdefault(event.admission.subject.customer, []).append(msgspec.Raw(encode(event)))
        requests = [
            RecordedSync("s1", "s1-inc", desk.clock.wall_ms(), (RecordedPart(customer, tuple(some)),))
            for customer, some in by_customer.items()
        ]
        meter = Meter(server)
        began = time.perf_counter()
        replies = await asyncio.gather(*map(desk.service.sync, requests))
        rates.append(len(batch) / (time.perf_counter() - began))
        spent.append(meter.us(len(batch)))
        if any(part.error or not part.booked for reply in replies for part in reply.parts):
            sys.exit("not booked")
        desk.clock.advance(0.25)
    return Reading(engine, EVENTS, median(rates[1:]), *_means(spent[1:]))


async def raw_inserts(desk: Desk, server: Server) -> Reading:
    """The yardstick: the bytes of the same events, and nothing done with them."""
    sidecars = Sidecars(desk, SCENARIOS[0])
    await sidecars.open()
    url = server.new_database()
    connections = [await asyncpg.connect(url) for _ in range(4)]
    await connections[0].execute("CREATE TABLE events (id TEXT PRIMARY KEY, body BYTEA NOT NULL)")
    insert = "INSERT INTO events (id, body) SELECT * FROM unnest($1::text[], $2::bytea[])"
    rates = []
    spent: list[tuple[float, float]] = []
    batches = sidecars.batches()
    for _ in range(9):
        four = [[(one.admission.request_id, encode(one)) for one in next(batches)] for _ in connections]
        meter = Meter(server)
        began = time.perf_counter()
        await asyncio.gather(
            *(
                connection.execute(insert, *map(list, zip(*rows, strict=True)))
                for connection, rows in zip(connections, four, strict=True)
            )
        )
        rates.append(sum(map(len, four)) / (time.perf_counter() - began))
        spent.append(meter.us(sum(map(len, four))))
    for connection in connections:
        await connection.close()
    return Reading(POSTGRES, YARDSTICK, median(rates[1:]), *_means(spent[1:]))


def _means(spent: list[tuple[float, float]]) -> tuple[float, float]:
    ours, theirs = zip(*spent, strict=True)
    return sum(ours) / len(spent), sum(theirs) / len(spent)


async def leases(
    desk: Desk, engine: str, server: Server, what: str, subjects: list[Subject], wanted_per_s: float
) -> Reading:
    """Resolves that must lend, from ASKERS sidecars at once; then at half of the rate that is wanted."""
    for customer in sorted({subject.customer for subject in subjects}):
        await desk.service.add_customer(customer, "none", desk.act())
        form = NewBudget(customer, usd(PLENTY), "month", each="user" if subjects[0].user else "")
        await desk.service.set_budget(form, desk.act())
    for number in range(ASKERS):
        await desk.service.register(RegisterRequest(f"s{number}", f"s{number}-inc"))
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        request = desk.request(subjects[asked % len(subjects)], 10, sidecar=f"s{asked % ASKERS}")
        if not (await desk.service.resolve(request)).leases:
            sys.exit("nothing was lent")

    settle_memory()
    await at_once(ask, SECONDS / 2)
    meter, before = Meter(server), asked
    per_s = await at_once(ask, SECONDS)
    spent = meter.us(asked - before)
    times = sorted(await evenly(ask, min(per_s, wanted_per_s) / 2, SECONDS))
    p50, p99 = (1e3 * times[int((len(times) - 1) * share)] for share in (0.5, 0.99))
    return Reading(engine, what, per_s, *spent, wanted_per_s, p50, p99)


async def at_once(ask: Callable[[], Awaitable[None]], seconds: float) -> float:
    """How many a second, of ASKERS that each ask again as soon as they are answered."""
    began = time.perf_counter()
    count = 0

    async def keep_asking() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            await ask()
            count += 1

    await asyncio.gather(*(keep_asking() for _ in range(ASKERS)))
    return count / (time.perf_counter() - began)


async def evenly(ask: Callable[[], Awaitable[None]], per_s: float, seconds: float) -> list[float]:
    """Seconds that each took, at a rate that does not wait for answers; from when it was due."""
    times: list[float] = []
    began = time.perf_counter()

    async def one(due: float) -> None:
        await ask()
        times.append(time.perf_counter() - due)

    tasks = []
    for number in range(int(per_s * seconds)):
        due = began + number / per_s
        while (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return times


def own_customers(count: int) -> list[Subject]:
    """As many customers, each with one account."""
    return [Subject(f"customer-{n}") for n in range(count)]


def own_users(count: int) -> list[Subject]:
    """One customer, an account for each user."""
    return [Subject("acme", user=f"user-{n}") for n in range(count)]


async def measure(only: str) -> list[Reading]:
    """Everything, on a server of its own."""
    server = Server(DURABLE)
    readings = []
    rows: list[tuple[str, list[Subject], dict[str, float]]] = [
        ("leases, 1,000 accounts of as many customers", own_customers(1000), {SQLITE: 3000, POSTGRES: 2500}),
        ("leases, 1,000 accounts of one customer", own_users(1000), {SQLITE: 3000, POSTGRES: 2500}),
        ("leases, one account", [Subject("acme")], {SQLITE: 3000, POSTGRES: 1500}),
    ]
    try:
        for engine in (SQLITE, POSTGRES):
            if "events".startswith(only[:6]):
                async with desk_on(engine, server) as desk:
                    readings.append(await events(desk, engine, server))
            for what, subjects, wanted in rows:
                if only in what:
                    async with desk_on(engine, server) as desk:
                        readings.append(await leases(desk, engine, server, what, subjects, wanted[engine]))
        if "events".startswith(only[:6]):
            async with desk_on(SQLITE, server) as desk:
                readings.append(await raw_inserts(desk, server))
    finally:
        server.remove()
    return readings


def table(readings: list[Reading]) -> str:
    """One line for each."""
    lines = [
        f"{'engine':11} {'what':45} {'a second':>9} {'wanted':>7} {'CPU us':>7} {'its':>6} {'p50 ms':>8} {'p99 ms':>8}"
    ]
    for one in readings:
        times = "" if one.p50_ms is None else f" {one.p50_ms:8.1f} {one.p99_ms:8.1f}"
        wanted = f"{one.wanted_per_s:7,.0f}" if one.wanted_per_s else " " * 7
        figures = f"{one.per_s:9,.0f} {wanted} {one.cpu_us:7.0f} {one.database_us:6.0f}{times}"
        lines.append(f"{one.engine:11} {one.what:45} {figures}")
    by_what = {(one.engine, one.what): one for one in readings}
    events, raw = by_what.get((POSTGRES, EVENTS)), by_what.get((POSTGRES, YARDSTICK))
    if events is not None and raw is not None:
        by_cpu = (raw.cpu_us + raw.database_us) / (events.cpu_us + events.database_us)
        lines.append(
            f"events booked over raw inserts: {events.per_s / raw.per_s:.2f} by rate, {by_cpu:.2f} by CPU; aim 0.4"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--json", type=Path, help="write every reading there")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        readings = runner.run(measure(options.only))
    print(table(readings))
    if options.json:
        options.json.write_text(json.dumps([asdict(reading) for reading in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
