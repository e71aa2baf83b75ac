"""What each step of a metered call costs on the proxy's thread, in microseconds, without the sockets.

    python -m tests.benchmarks.steps            # a table
    python -m tests.benchmarks.steps --json FILE

A customer with five hard budgets and three grants, all leased here; a real outbox on the local disk. Each
figure is the best of several rounds: what the step costs when nobody disturbs it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.app.system import RandomIds, SystemClock
from sidecar.contract.messages import AccountReading, LeaseGrant, lease_id
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget, Each, budget_account, grant_account
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.periods import UTC_ONLY, period_at
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.table import Covered, Held, LeaseTable, Uncovered
from sidecar.outbox.recovery import open_spool
from sidecar.outbox.spool import Spool, SpoolOptions
from sidecar.providers.dialect import Ending
from sidecar.providers.openai_chat import OpenAIChat
from sidecar.proxy.authorize import Admitted, Authority, Call, authorize
from sidecar.proxy.estimate import estimate
from sidecar.proxy.identify import Identifier
from sidecar.proxy.outcomes import Cause, Outcome
from sidecar.proxy.passage import Passage
from sidecar.proxy.recent import RecentDecisions
from sidecar.proxy.unfit import Unfit
from sidecar.telemetry.metrics import Metrics
from tests.benchmarks.run import SCENARIOS, answer_body, request_body
from tests.support.authority import BOOK, MODEL

ROUNDS: Final = 25
CALLS: Final = 200
PLENTY: Final = 10**15
DECISION: Final = "decision (take, settle)"
DECISION_MUST_US: Final = 15.0
"""One decision over eight accounts: taking, and settling what was taken."""

HEAD: Final = {
    b"host": b"127.0.0.1:8402",
    b"content-type": b"application/json",
    b"authorization": b"Bearer sk-bench",
    b"spend-customer": b"bench",
    b"spend-user": b"u1",
    b"spend-agent": b"bench",
    b"spend-session": b"s1",
}
BUDGETS: Final = (
    Budget("bud_day", "usd", PLENTY, Cadence.DAY),
    Budget("bud_month", "usd", PLENTY, Cadence.MONTH),
    Budget("bud_user", "usd", PLENTY, Cadence.DAY, each=Each.USER),
    Budget("bud_agent", "usd", PLENTY, Cadence.DAY, match={"agent": "bench"}),
    Budget("bud_session", "usd", PLENTY, Cadence.LIFETIME, each=Each.SESSION),
)
GRANTS: Final = tuple(Grant(f"gr_{number}", "usd", PLENTY, 0, number) for number in (1, 2, 3))
STANDING: Final = Standing("bench", (), "u1", Wallet.REQUIRED, "usd", BUDGETS, GRANTS, "default@1", 1, 60_000)


class _Keeper:
    """Knows the one customer; nothing is ever short."""

    def standing(self, subject: Subject) -> Covered | None:
        return Covered(STANDING, 7, None)

    async def cover(
        self,
        subject: Subject,
        *,
        model: str,
        provider: str,
        need_atoms: int,
        currency: str,
        since: float | None = None,
    ) -> Covered | Uncovered:
        raise AssertionError("a hit does not ask")


def leased_table(clock: SystemClock, subject: Subject, incarnation: str) -> LeaseTable:
    """A table with a lease on every account of the customer."""
    table, leases, readings = LeaseTable(), [], []
    periods = {b.budget_id: period_at(b.calendar(UTC_ONLY), clock.wall_ms()) for b in BUDGETS}
    accounts = [
        (budget_account(b.budget_id, b.child_of(subject), periods[b.budget_id]), "budget", b.budget_id,
         b.child_of(subject))
        for b in BUDGETS
    ]  # fmt: skip
    accounts += [(grant_account(grant.grant_id), "grant", grant.grant_id, "") for grant in GRANTS]
    for account, kind, name, child in accounts:
        leases.append(LeaseGrant(lease_id(incarnation, account), PLENTY // 2, 900_000))
        readings.append(AccountReading(account, kind, name, child, PLENTY, 0, PLENTY // 2, 0, 0, 3_600_000))
    now = clock.monotonic()
    table.merge("bench", leases, readings, sent_at=now, now=now)
    return table


def best_us(work: Callable[[], object]) -> float:
    """Microseconds of one run of `work`, in the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            work()
        best = min(best, time.perf_counter() - began)
    return 1e6 * best / CALLS


class Steps:
    """The parts of one proxy, and each step as a function without arguments."""

    def __init__(self, spool: Spool, clock: SystemClock, ids: RandomIds) -> None:
        self.clock, self.ids, self.spool = clock, ids, spool
        self.identifier = Identifier()
        self.dialect = OpenAIChat()
        self.metrics = Metrics()
        self.recent = RecentDecisions()
        subject = self.identifier.identify(HEAD)
        if not isinstance(subject, Subject):
            raise TypeError("the benchmark's caller is not known")
        self.subject = subject
        self.table = leased_table(clock, subject, spool.incarnation)
        self.authority = Authority(self.table, _Keeper(), spool, clock, lambda: BOOK)
        self.body = request_body(SCENARIOS[0])
        self.large_body = request_body(SCENARIOS[1])
        self.stream_body = request_body(SCENARIOS[2])
        self.answer = answer_body()
        facts = estimate(self.dialect, self.body)
        if isinstance(facts, Unfit):
            raise TypeError("the benchmark's request is not one")
        self.facts = facts

    def decision(self) -> None:
        """Check and hold on five budgets and three grants, charge, free."""
        held = self.table.take(
            STANDING, self.subject, model=MODEL, provider="openai", atoms=900_000, now=self.clock.monotonic()
        )
        if not isinstance(held, Held):
            raise TypeError("nothing is short here")
        self.table.settle(held, 100_000)

    def admitted(self) -> tuple[Call, Admitted]:
        """A call that is written down and may run."""
        call = Call(self.ids.new("req"), self.subject, self.facts, "openai", self.dialect.name)
        try:
            authorize(call, self.authority).send(None)
        except StopIteration as done:
            if isinstance(done.value, Admitted):
                return call, done.value
        raise TypeError("a hit is admitted at once")

    def metered(self) -> None:
        """The reading of a whole answer."""
        meter = self.dialect.meter(self.facts, status=200, lines=b"", content_encoding="")
        meter.feed(self.answer)
        meter.flush()
        meter.usage(Ending.COMPLETE)

    def whole(self) -> None:
        """Everything from the subject to the written settlement."""
        self.identifier.identify(HEAD)
        estimate(self.dialect, self.body)
        _, verdict = self.admitted()
        passage = Passage(
            verdict,
            self.dialect,
            authority=self.authority,
            metrics=self.metrics,
            recent=self.recent,
            overhead_s=0.0001,
        )
        passage.headers()
        meter = passage.meter_for(200, "", b"")
        meter.feed(self.answer)
        meter.flush()
        size = len(self.body)
        outcome = Outcome(Ending.COMPLETE, Cause.COMPLETE, "", 200, meter, True, size, len(self.answer), 0.1, 0.2)
        passage.on_end(outcome)

    def table_of(self) -> dict[str, float]:
        """Each step's microseconds."""
        return {
            "identify": best_us(lambda: self.identifier.identify(HEAD)),
            "estimate 1 KB": best_us(lambda: estimate(self.dialect, self.body)),
            "estimate 1 KB, streamed": best_us(lambda: estimate(self.dialect, self.stream_body)),
            "estimate 100 KB": best_us(lambda: estimate(self.dialect, self.large_body)),
            DECISION: best_us(self.decision),
            "authorize, with its record": best_us(self.admitted),
            "meter": best_us(self.metered),
            "everything": best_us(self.whole),
        }


async def measure(folder: Path) -> dict[str, float]:
    """Open an outbox and measure over it."""
    ids, clock = RandomIds(), SystemClock()
    recovery = open_spool(
        folder, clock, SpoolOptions(max_bytes=2**32), sidecar=ids.new("sidecar"), incarnation=ids.new("inc")
    )
    return Steps(recovery.spool, clock, ids).table_of()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    gc.collect()  # as `spend up` does
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    with tempfile.TemporaryDirectory(prefix="spend-steps-") as folder:
        found = asyncio.run(measure(Path(folder)))
    for name, cost_us in found.items():
        must = f"   must be at most {DECISION_MUST_US:.0f}" if name == DECISION else ""
        print(f"{name:28} {cost_us:8.1f} us{must}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
