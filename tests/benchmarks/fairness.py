"""How much longer others wait for the ledger while one customer floods it (S-35).

    python -m tests.benchmarks.fairness                # a table, of SQLite and PostgreSQL
    python -m tests.benchmarks.fairness --rounds 20

Twenty quiet customers borrow at an even pace, whatever has been answered. In turns they are alone and beside one
customer that asks as fast as it is answered: with a new session in every call, its names as long as names may be;
or with syncs of 512 settled calls. Each pair of turns follows one another in the same run, so what else the
machine does is in both; the ratio of their 99th percentiles is the figure, which should be at most 1.10.
The service is called in process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from sidecar.app.serving import settle_memory
from sidecar.contract.codec import encode
from sidecar.contract.messages import RecordedPart, RecordedSync, RegisterRequest
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from sidecar.ledger.administration import NewBudget
from tests.benchmarks.engines import BATCH, DURABLE, PLENTY, desk_on, evenly
from tests.support.engines import POSTGRES, SQLITE
from tests.support.ledger import Desk, usd
from tests.support.postgres import Server

AIM: Final = 1.10
QUIET: Final = 20
"""Customers that are not flooding."""

QUIET_PER_S: Final = 60.0
"""Calls of theirs together."""

TURN_S: Final = 2.0
FLOODERS: Final = 64
"""Calls of the one customer that wait at a time."""

SYNCS: Final = 4
"""The same of its syncs."""

MADE: Final = 100
"""Syncs that are made before a turn: more than it takes."""

LONGEST_NAME: Final = 128
FLOOD: Final = "flood"
"""The customer that floods."""


@dataclass(frozen=True)
class Reading:
    """Milliseconds that quiet customers waited, alone and beside a flood, and how much of it there was."""

    engine: str
    flood: str
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    flood_per_s: float

    @property
    def ratio(self) -> float:
        """By how much the 99th percentile moved: 1 is not at all."""
        return self.beside_p99_ms / self.alone_p99_ms


class Flood:
    """One customer that asks again as soon as it is answered, or refused."""

    def __init__(
        self, askers: int, ask: Callable[[], Awaitable[int]], prepare: Callable[[], None] | None = None
    ) -> None:
        """`ask` gives how much was done; `prepare` makes what it sends, before the clock starts."""
        self._askers = askers
        self._ask = ask
        self._prepare = prepare
        self.done = 0

    def prepare(self) -> None:
        """Have enough to send for the next turn: to make it is the flooder's work, and not the ledger's."""
        if self._prepare is not None:
            self._prepare()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It floods until the block ends."""
        stopping = asyncio.Event()

        async def keep_asking() -> None:
            while not stopping.is_set():
                try:
                    done = await self._ask()
                    self.done += done
                except LedgerUnavailable:  # it is refused: that is what there is to be said to a flood
                    await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(keep_asking()) for _ in range(self._askers)]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*tasks)


async def set_up(desk: Desk) -> None:
    """The customers, each with a budget, and their sidecar."""
    for customer in (FLOOD, *(f"quiet-{number}" for number in range(QUIET))):
        await desk.service.add_customer(customer, "none", desk.act())
        await desk.service.set_budget(NewBudget(customer, usd(PLENTY), "month"), desk.act())
    await desk.service.set_budget(NewBudget(FLOOD, usd(PLENTY), "month", each="session"), desk.act())
    for sidecar in ("s1", "s2"):
        await desk.service.register(RegisterRequest(sidecar, f"{sidecar}-inc"))


def floods(desk: Desk) -> dict[str, Flood]:
    """What one customer may do, by its name in the table."""
    numbers = count()

    async def new_session() -> int:
        name = f"{next(numbers)}-".ljust(LONGEST_NAME, "x")
        await desk.service.resolve(desk.request(Subject(FLOOD, user=name, agent=name, session=name), 10, sidecar="s2"))
        return 1

    made: list[RecordedPart] = []

    def make() -> None:
        events = (desk.event(f"req_{next(numbers)}", Subject(FLOOD, user="bo"), 5) for _ in range(BATCH))
        made.append(RecordedPart(FLOOD, tuple(msgspec.Raw(encode(one)) for one in events)))

    def prepare() -> None:
        while len(made) < MADE:
            make()

    async def sync() -> int:
        if not made:
            make()
        await desk.service.sync(RecordedSync("s2", "s2-inc", desk.clock.wall_ms(), (made.pop(),)))
        return BATCH

    return {"new sessions, long names": Flood(FLOODERS, new_session), "syncs of 512 calls": Flood(SYNCS, sync, prepare)}


async def measure(desk: Desk, engine: str, name: str, flood: Flood, rounds: int) -> Reading:
    """Turns alone and beside a flood; the first two are practice."""
    numbers = count()

    async def ask() -> None:
        if not (await desk.service.resolve(desk.request(Subject(f"quiet-{next(numbers) % QUIET}"), 10))).leases:
            sys.exit("nothing was lent")

    alone: list[float] = []
    beside: list[float] = []
    for number in range(rounds + 1):
        flood.prepare()
        found = await evenly(ask, QUIET_PER_S, TURN_S)
        async with flood.running():
            pressed = await evenly(ask, QUIET_PER_S, TURN_S)
        if number:
            alone += found
            beside += pressed
        else:
            flood.done = 0
    return Reading(engine, name, *_percentiles(alone), *_percentiles(beside), flood.done / (rounds * TURN_S))


def _percentiles(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    p50, p99 = (1e3 * ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99))
    return p50, p99


async def measure_all(rounds: int, engines: list[str]) -> list[Reading]:
    """Every flood on every engine, each on a book of its own."""
    server = Server(DURABLE)
    readings = []
    try:
        for engine in engines:
            for name in ("new sessions, long names", "syncs of 512 calls"):
                async with desk_on(engine, server) as desk:
                    await set_up(desk)
                    settle_memory()
                    readings.append(await measure(desk, engine, name, floods(desk)[name], rounds))
    finally:
        server.remove()
    return readings


def table(readings: list[Reading]) -> str:
    """One line for each."""
    lines = [
        f"{'engine':11} {'one customer sends':25} {'a second':>8} {'others p50 ms':>16} {'p99 ms':>16} {'ratio':>6}",
        *(
            f"{one.engine:11} {one.flood:25} {one.flood_per_s:8,.0f} {one.alone_p50_ms:7.1f} → {one.beside_p50_ms:6.1f}"
            f" {one.alone_p99_ms:7.1f} → {one.beside_p99_ms:6.1f} {one.ratio:6.2f}"
            for one in readings
        ),
    ]
    return "\n".join([*lines, f"others' 99th percentile beside a flood over alone; aim: at most {AIM:.2f}"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help=f"pairs of turns of {TURN_S:.0f} s")
    parser.add_argument("--engine", choices=[SQLITE, POSTGRES], action="append")
    parser.add_argument("--json", type=Path, help="write every reading there")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        readings = runner.run(measure_all(options.rounds, options.engine or [SQLITE, POSTGRES]))
    print(table(readings))
    if options.json:
        options.json.write_text(json.dumps([asdict(reading) for reading in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
