"""A real lease table with credit in it, and a keeper and a spool that do as a test says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sidecar.contract.codec import encode
from sidecar.contract.messages import AccountReading, Admission, LeaseGrant, UsageEvent, lease_id
from sidecar.core.credits.amounts import Currency
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget, budget_account, grant_account
from sidecar.core.governance.decisions import Reason, Source
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.periods import UTC_ONLY, period_at
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.core.pricing.ceilings import Ceiling, price_ceiling
from sidecar.core.pricing.rate_cards import ContextTier, RateBook, RateCard, Rates
from sidecar.errors import SpoolFull
from sidecar.leases.table import Covered, Held, LeaseTable, Uncovered
from sidecar.ports import Clock
from sidecar.providers.dialect import RequestFacts
from sidecar.proxy.authorize import Authority, Call
from sidecar.proxy.price import UnknownModel
from tests.support.clock import FakeClock

USD = Currency("usd", 9)
MODEL = "gpt-4o-mini"
CARD = RateCard(
    "openai/gpt-4o-mini", "openai", (MODEL,), 0, "usd", (ContextTier(0, Rates(input=150_000, output=600_000)),),
    16_384, 128_000, "test", "2026-11",
)  # fmt: skip
BOOK = RateBook((CARD,), (USD,), sha256="ab" * 32)
CEILING = Ceiling(MODEL, 100, 50)
NEED = price_ceiling(CEILING, CARD, USD)
TEAM = (Node("team", "data"),)
DAILY = Budget("bud_day", "usd", 10 * NEED, Cadence.DAY, node=TEAM[0])
GRANT = Grant("gr_1", "usd", 100 * NEED, 0, 1)
ACME = Subject("acme", TEAM, user="ada")


@dataclass
class ListSpool:
    """A spool in memory; `admit_fault` and `settle_fault` are raised instead of writing."""

    admitted: list[Admission] = field(default_factory=list)
    settled: list[UsageEvent] = field(default_factory=list)
    admit_fault: Exception | None = None
    settle_fault: Exception | None = None

    def admit(self, admission: Admission) -> None:
        """Keep it."""
        if self.admit_fault is not None:
            raise self.admit_fault
        self.admitted.append(admission)

    def settle(self, event: UsageEvent) -> bytes:
        """Keep it."""
        if self.settle_fault is not None:
            raise self.settle_fault
        self.settled.append(event)
        return encode(event)


@dataclass
class ScriptedKeeper:
    """Knows the standings it was given; on a miss it says `refusal`, or lends `lends` atoms once and tries again."""

    table: LeaseTable
    clock: Clock
    known: dict[str, Standing] = field(default_factory=dict)
    unheard: dict[str, Standing] = field(default_factory=dict)
    refusal: Uncovered = field(default_factory=lambda: Uncovered(Reason.BUDGET_EXCEEDED))
    lends: int = 0
    asked: list[tuple[int, str]] = field(default_factory=list)
    since: list[float | None] = field(default_factory=list)

    def standing(self, subject: Subject) -> Covered | None:
        """From memory."""
        found = self.known.get(subject.customer)
        return None if found is None else Covered(found, 7, None)

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
        """After a turn of the loop."""
        self.asked.append((need_atoms, currency))
        self.since.append(since)
        await asyncio.sleep(0)
        self.known |= self.unheard
        found = self.known.get(subject.customer)
        if found is None:
            return Uncovered(Reason.CUSTOMER_UNKNOWN, detail="customer is not known")
        if not need_atoms:
            return Covered(found, 0, None)
        if self.lends:
            lend(self.table, found, self.lends, self.clock)
            self.lends = 0
        now = self.clock.monotonic()
        held = self.table.take(found, subject, model=model, provider=provider, atoms=need_atoms, now=now)
        return Covered(found, 0, held, Source.EXACT) if isinstance(held, Held) else self.refusal


def standing(*budgets: Budget, grants: tuple[Grant, ...] = (), wallet: Wallet = Wallet.NONE) -> Standing:
    """What the ledger says of acme."""
    return Standing("acme", TEAM, "ada", wallet, "usd", budgets, grants, "default@1", 1, 60_000)


def lend(table: LeaseTable, to: Standing, atoms: int, clock: Clock) -> None:
    """Put so many atoms on a lease for every account of a standing: a total, as the ledger says it."""
    now, leases, readings = clock.monotonic(), [], []
    accounts: list[tuple[str, str, str, int]] = []
    for budget in to.budgets:
        account = budget_account(budget.budget_id, "", period_at(budget.calendar(UTC_ONLY), clock.wall_ms()))
        accounts.append((account, "budget", budget.budget_id, budget.limit_atoms))
    accounts += [(grant_account(each.grant_id), "grant", each.grant_id, each.issued_atoms) for each in to.grants]
    for account, kind, name, limit in accounts:
        leases.append(LeaseGrant(lease_id("inc1", account), atoms, 900_000))
        readings.append(AccountReading(account, kind, name, "", limit, 0, atoms, 0, limit - atoms, 3_600_000))
    table.merge(to.customer, leases, readings, sent_at=now, now=now)


@dataclass
class Bench:
    """An authority and what stands behind it."""

    clock: Clock
    table: LeaseTable
    keeper: ScriptedKeeper
    spool: ListSpool
    authority: Authority

    def fund(self, what: Standing, atoms: int) -> None:
        """Make a standing known, with so many atoms leased on each of its accounts."""
        self.keeper.known[what.customer] = what
        if atoms:
            lend(self.table, what, atoms, self.clock)


def bench(unknown_model: UnknownModel = UnknownModel.DENY, clock: Clock | None = None) -> Bench:
    """One with nothing in it."""
    clock, table, spool = clock or FakeClock(), LeaseTable(), ListSpool()
    keeper = ScriptedKeeper(table, clock)
    authority = Authority(table, keeper, spool, clock, lambda: BOOK, unknown_model)
    return Bench(clock, table, keeper, spool, authority)


def full() -> SpoolFull:
    """What a full disk raises."""
    return SpoolFull("no room")


def call(number: int = 1, subject: Subject = ACME, ceiling: Ceiling = CEILING) -> Call:
    """A call as the corridor puts it."""
    facts = RequestFacts(ceiling, stream=False, body=b"{}")
    return Call(f"req_{number}", subject, facts, "openai", "openai_chat")
