"""What it takes to read a balance, over a small book and over one of ten million entries, on each engine.

Run as `python -m tests.benchmarks.balance` in the repository (some minutes, 10 GB of disk); `--entries`, `--json FILE`.
A customer with five budgets and three grants is set up and used by the ledger itself; then its journal is filled up
with rows of the same shape and length, half of them its own and half of five hundred others', by one statement for
every 100,000. They are in no chain: nothing but the time of a reading is asked of that book.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import msgspec
import uvloop

from sidecar.contract.codec import encode
from sidecar.contract.messages import RecordedPart, RecordedSync
from sidecar.storage.options import DatabaseOptions
from sidecar.storage.postgres import open_postgres
from sidecar.storage.sqlite import open_book
from tests.benchmarks.book import Scenario, Sidecars
from tests.benchmarks.engines import DURABLE
from tests.support.engines import POSTGRES, SQLITE
from tests.support.ledger import Desk
from tests.support.postgres import Server

CUSTOMER = "customer-0"
STEP = 100_000
READINGS = 1000
MAX_GROWTH, MAX_P99_MS = 1.3, 10.0
"""The aims: of the median over the small book's, and of the 99th percentile."""

_COLUMNS = "customer, sequence, kind, entry_key, recorded_at_ms, occurred_at_ms, hash, body"
_ROW = """ CASE WHEN n % 2 = 0 THEN 'customer-0' ELSE 'filling-' || (n % 1000) END, 1000000 + n, 'lent', NULL,
    1764000000000 + n, 1764000000000 + n, hash, body FROM"""
_ONE = (
    "(SELECT hash, body FROM entries WHERE customer = 'customer-0' AND kind = 'lent' ORDER BY sequence LIMIT 1) AS one"
)
FILL_POSTGRES = f"INSERT INTO entries ({_COLUMNS}) SELECT {_ROW} generate_series($1::bigint, $2::bigint) AS n, {_ONE}"
FILL_SQLITE = (
    "WITH RECURSIVE counted (n) AS (VALUES (?) UNION ALL SELECT n + 1 FROM counted WHERE n < ?)"
    f" INSERT INTO entries ({_COLUMNS}) SELECT {_ROW} counted, {_ONE}"
)


@dataclass(frozen=True)
class Reading:
    """Milliseconds to read one balance, with so many entries in the book."""

    engine: str
    entries: int
    p50_ms: float
    p99_ms: float


async def use(desk: Desk) -> None:
    """A customer as `book` has it, with some calls booked."""
    sidecars = Sidecars(desk, Scenario("", 1, 64, 8, 0))
    await sidecars.open()
    events = tuple(msgspec.Raw(encode(one)) for one in next(sidecars.batches()))
    sync = RecordedSync("s1", "s1-inc", desk.clock.wall_ms(), (RecordedPart(CUSTOMER, events),))
    reply = await desk.service.sync(sync)
    if not reply.parts[0].booked:
        sys.exit("not booked")


async def read(desk: Desk, engine: str, entries: int) -> Reading:
    """Balance after balance; the first ones warm caches and are not counted."""
    times = []
    for number in range(READINGS + READINGS // 10):
        began = time.perf_counter()
        await desk.service.balance(CUSTOMER)
        if number >= READINGS // 10:
            times.append(time.perf_counter() - began)
    times.sort()
    return Reading(engine, entries, 1e3 * times[len(times) // 2], 1e3 * times[len(times) * 99 // 100])


def steps(entries: int, engine: str) -> Iterator[tuple[int, int]]:
    """From which number to which, each time; on a terminal it shows how far it has come."""
    for start in range(1, entries + 1, STEP):
        end = min(entries, start + STEP - 1)
        yield start, end
        if sys.stderr.isatty():
            done = round(40 * end / entries)
            print(
                f"\r{engine:11} {'#' * done:40} {end:,}",
                end="\n" if end == entries else "",
                file=sys.stderr,
                flush=True,
            )


async def on_sqlite(entries: int) -> list[Reading]:
    """In a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="spend-balance-") as folder:
        path = Path(folder) / "book.db"
        book = open_book(path)
        desk = Desk(book)
        await use(desk)
        small = await read(desk, SQLITE, 0)
        book.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            for start, end in steps(entries, SQLITE):
                connection.execute(FILL_SQLITE, (start, end))
        desk.book = book = open_book(path)
        desk = Desk(book)
        large = await read(desk, SQLITE, entries)
        book.close()
    return [small, large]


async def on_postgres(entries: int) -> list[Reading]:
    """On a server of its own."""
    server = Server(DURABLE)
    try:
        url = server.new_database()
        book = await open_postgres(DatabaseOptions(url))
        desk = Desk(book)
        await use(desk)
        small = await read(desk, POSTGRES, 0)
        connection = await asyncpg.connect(url)
        await connection.execute("SET synchronous_commit = off")
        for start, end in steps(entries, POSTGRES):
            await connection.execute(FILL_POSTGRES, start, end, timeout=600)
        await connection.execute("VACUUM ANALYZE entries", timeout=1800)
        await connection.close()
        large = await read(desk, POSTGRES, entries)
        await book.close()
    finally:
        server.remove()
    return [small, large]


def table(readings: list[Reading]) -> str:
    """One line for each."""
    lines = [f"{'engine':11} {'entries more':>12} {'p50 ms':>8} {'p99 ms':>8}"]
    lines += [f"{one.engine:11} {one.entries:12,} {one.p50_ms:8.2f} {one.p99_ms:8.2f}" for one in readings]
    return "\n".join([*lines, f"aims: the median at most {MAX_GROWTH} times as long, p99 below {MAX_P99_MS:.0f} ms"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--engine", choices=[POSTGRES, SQLITE], help="one alone")
    parser.add_argument("--json", type=Path, help="write every reading there")
    options = parser.parse_args()
    readings = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for engine, measure in ((SQLITE, on_sqlite), (POSTGRES, on_postgres)):
            if options.engine in (None, engine):
                readings += runner.run(measure(options.entries))
    print(table(readings))
    if options.json:
        options.json.write_text(json.dumps([asdict(reading) for reading in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
