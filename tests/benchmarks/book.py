"""What it costs to book settled calls: `LedgerService.sync` on an embedded book, CPU per call.

Run as `python -m tests.benchmarks.book` in the repository; `--json FILE` keeps every reading.
Each customer has five hard budgets (by day, by month, by user, by agent, by session) and three
grants, and each call says what all eight of them stood at: what `spend up` books under load, as its
outbox recorded it. The CPU is of the whole process, so of the thread that writes and of the event loop that asks;
`writer` is the part of the former. Compare on one machine, in one run: it repeats within a few per cent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import msgspec

from sidecar.contract.codec import encode
from sidecar.contract.messages import (
    AccountReading,
    RecordedPart,
    RecordedSync,
    ResolveReply,
    UsageEvent,
    lease_account,
)
from sidecar.core.governance.decisions import Asked, pack_figures
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.ledger.administration import NewBudget, NewGrant
from tests.support.ledger import DECISION, Desk, usd

SIDECAR = "s1"
PLENTY = 10**15
CHARGE = 1_234
TARGET_US = 25.0
"""Of CPU for one call, in batches as the shipper makes them under load."""

BUDGETS: tuple[dict[str, object], ...] = (
    {"per": "day"},
    {"per": "month"},
    {"per": "day", "each": "user"},
    {"per": "day", "match": {"agent": "bench"}},
    {"per": "lifetime", "each": "session"},
)
GRANTS = 3
FIGURES = (PLENTY, 123_456_789, 9_876, 0, PLENTY - 123_466_665, 43_200_000, 1_234)
RAW = b'{"prompt_tokens":180,"completion_tokens":40,"total_tokens":220,"prompt_tokens_details":{"cached_tokens":60}}'


@dataclass(frozen=True)
class Scenario:
    """Each sync brings `customers` × `calls` calls of `sessions` sessions."""

    name: str
    customers: int
    calls: int
    sessions: int
    syncs: int


SCENARIOS = (
    Scenario("512 of one customer", 1, 512, 1, 16),
    Scenario("256 of one customer", 1, 256, 1, 24),
    Scenario("256, each its session", 1, 256, 256, 12),
    Scenario("4 each of 64", 64, 4, 1, 12),
    Scenario("1 each of 256", 256, 1, 1, 6),
    Scenario("16 of one customer", 1, 16, 1, 100),
    Scenario("1 alone", 1, 1, 1, 200),
)


@dataclass(frozen=True)
class Reading:
    """One scenario: microseconds for one call, medians over the syncs. `wall_us` contains the fsync."""

    scenario: str
    calls: int
    cpu_us: float
    writer_us: float
    wall_us: float
    bytes_on_disk: float


class Sidecars:
    """The calls that one sidecar settles, on leases which the ledger gave it."""

    def __init__(self, desk: Desk, scenario: Scenario) -> None:
        self._desk = desk
        self._scenario = scenario
        self._replies: dict[tuple[str, str], ResolveReply] = {}
        self._count = 0

    async def open(self) -> None:
        """Set customers up, and borrow enough for all that follows."""
        for number in range(self._scenario.customers):
            customer = f"customer-{number}"
            await self._desk.service.add_customer(customer, "required", self._desk.act())
            await self._desk.service.add_nodes(f"{customer}/team:data", self._desk.act())
            for _ in range(GRANTS):
                await self._desk.service.add_grant(NewGrant(customer, usd(PLENTY)), self._desk.act())
            for fields in BUDGETS:
                await self._desk.service.set_budget(
                    NewBudget(path=customer, limit=usd(PLENTY), **fields),  # type: ignore[arg-type]
                    self._desk.act(),
                )
            for session in range(self._scenario.sessions):
                subject = self._subject(customer, f"job-{session}")
                self._replies[customer, subject.session] = await self._desk.borrow(subject, 10**7, demand=10**9)

    def batches(self) -> Iterator[list[UsageEvent]]:
        """The calls of each sync."""
        while True:
            yield [
                self._call(customer, number)
                for customer in range(self._scenario.customers)
                for number in range(self._scenario.calls)
            ]

    def _call(self, customer: int, number: int) -> UsageEvent:
        self._count += 1
        name, session = f"customer-{customer}", f"job-{number % self._scenario.sessions}"
        reply = self._replies[name, session]
        budgets = tuple(one.lease_id for one in reply.leases if lease_account(one.lease_id).startswith("budget:"))
        paying = next(one.lease_id for one in reply.leases if lease_account(one.lease_id).startswith("grant:"))
        event = self._desk.event(
            f"req_{self._count:026}",
            self._subject(name, session),
            CHARGE,
            leases=budgets,
            paid=((paying, CHARGE),),
        )
        asked = tuple(_asked(name, one) for one in reply.readings)
        decision = msgspec.structs.replace(
            DECISION, ceiling_atoms=9_876, asked=asked, figures=pack_figures(FIGURES * len(reply.readings))
        )
        return msgspec.structs.replace(
            event,
            admission=msgspec.structs.replace(event.admission, decision=decision, held_atoms=9_876),
            usage=msgspec.structs.replace(event.usage, raw=RAW, provider_request_id=f"chatcmpl-{self._count}"),
        )

    def _subject(self, customer: str, session: str) -> Subject:
        path = parse_path("team:data")
        return Subject(customer, path, user="ada", agent="bench", session=session, feature="chat")


def _asked(customer: str, reading: AccountReading) -> Asked:
    return Asked(reading.kind, reading.id, customer, "usd", reading.child, Cadence.DAY)


async def measure(scenario: Scenario, folder: Path) -> Reading:
    """Book batch after batch; the first warms caches and is not counted."""
    desk = Desk(folder)
    try:
        sidecars = Sidecars(desk, scenario)
        await sidecars.open()
        calls = scenario.customers * scenario.calls
        readings = []
        before = _bytes(folder)
        for events in islice(sidecars.batches(), scenario.syncs + 1):
            by_customer: dict[str, list[msgspec.Raw]] = {}
            for event in events:
                by_customer.setdefault(event.admission.subject.customer, []).append(msgspec.Raw(encode(event)))
            parts = tuple(RecordedPart(customer, tuple(some)) for customer, some in by_customer.items())
            request = RecordedSync(SIDECAR, f"{SIDECAR}-inc", desk.clock.wall_ms(), parts)
            began = time.process_time(), _writer_s(), time.perf_counter()
            reply = await desk.service.sync(request)
            ended = time.process_time(), _writer_s(), time.perf_counter()
            if any(part.error or not part.booked for part in reply.parts):
                sys.exit(f"not booked: {reply.parts[0].error}")
            readings.append([1e6 * (after - start) / calls for start, after in zip(began, ended, strict=True)])
            desk.clock.advance(0.25)
        problems = await desk.problems("customer-0")
        if problems:
            sys.exit(f"the book is wrong: {problems[0]}")
        cpu_us, writer_us, wall_us = (median(column) for column in zip(*readings[1:], strict=True))
        grown = (_bytes(folder) - before) / (calls * (scenario.syncs + 1))
        return Reading(scenario.name, calls, cpu_us, writer_us, wall_us, grown)
    finally:
        desk.close()


def _writer_s() -> float:
    """CPU seconds of the book's writing thread; 0 where the kernel does not tell."""
    writer = next(one for one in threading.enumerate() if one.name == "book-writer")
    try:
        return int(Path(f"/proc/self/task/{writer.native_id}/schedstat").read_text("ascii").split()[0]) / 1e9
    except OSError:
        return 0.0


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if not path.name.endswith("-wal"))


def table(readings: list[Reading]) -> str:
    """One line for each scenario."""
    lines = [f"{'calls of a sync':24} {'CPU us':>8} {'writer':>8} {'wall us':>8} {'bytes':>7}    (for one call)"]
    lines += [
        f"{one.scenario:24} {one.cpu_us:8.1f} {one.writer_us:8.1f} {one.wall_us:8.1f} {one.bytes_on_disk:7.0f}"
        for one in readings
    ]
    return "\n".join([*lines, f"Python {sys.version.split()[0]}; aim: {TARGET_US:.0f} us of CPU in a large batch"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="part of a scenario's name")
    parser.add_argument("--folder", type=Path, help="where the books are made; a temporary folder if not given")
    parser.add_argument("--json", type=Path, help="write every reading there")
    options = parser.parse_args()
    readings = []
    for scenario in SCENARIOS:
        if not options.only or options.only in scenario.name:
            with tempfile.TemporaryDirectory(prefix="spend-book-", dir=options.folder) as folder:
                readings.append(asyncio.run(measure(scenario, Path(folder))))
    print(table(readings))
    if options.json:
        options.json.write_text(json.dumps([asdict(reading) for reading in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
