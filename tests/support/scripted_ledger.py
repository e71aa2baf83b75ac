"""A ledger in memory that a test scripts: it lends by the laws, and can be slow, away, or forgetful."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from sidecar.contract import codec
from sidecar.contract.messages import (
    AccountReading,
    AnySync,
    Change,
    CustomerPart,
    LeaseGrant,
    PartReply,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
    SyncRequest,
    UsageEvent,
    lease_account,
    lease_id,
)
from sidecar.core.credits.grants import Grant
from sidecar.core.credits.leases import escrow, lease_size
from sidecar.core.governance.budgets import Budget, budget_account, grant_account
from sidecar.core.governance.periods import UTC_ONLY, period_at
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import LedgerUnavailable
from tests.support.clock import FakeClock

VALID_FOR_MS = 900_000
FRESH_FOR_MS = 60_000


@dataclass
class Lent:
    """One lease as the ledger has it."""

    granted: int = 0
    returned: int = 0
    posted: int = 0
    closed: bool = False

    @property
    def raw(self) -> int:
        return self.granted - self.returned - self.posted

    @property
    def escrow(self) -> int:
        return escrow(self.granted, self.returned, self.posted)


@dataclass
class AccountBook:
    """One account: its limit, what is posted on it, its leases."""

    limit: int
    used: int = 0
    leases: dict[str, Lent] = field(default_factory=dict)

    @property
    def unlent(self) -> int:
        return max(0, self.limit - self.used - sum(lent.escrow for lent in self.leases.values()))


@dataclass
class CustomerBook:
    """One customer's policies and accounts."""

    wallet: Wallet = Wallet.NONE
    budgets: tuple[Budget, ...] = ()
    grants: tuple[Grant, ...] = ()
    revision: int = 1
    accounts: dict[str, AccountBook] = field(default_factory=dict)


class ScriptedLedger:
    """`ports.Ledger`. `away` makes it unreachable, `gate` makes it wait, `lose_replies` drops that many answers."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.customers: dict[str, CustomerBook] = {}
        self.booked: dict[str, UsageEvent] = {}
        self.resolves: list[ResolveRequest] = []
        self.syncs: list[SyncRequest] = []
        self.registered: list[str] = []
        self.registers: list[RegisterRequest] = []
        self.ended: list[str] = []
        self.away = False
        self.gate: asyncio.Event | None = None
        self.lose_replies = 0
        self.refuse_events = ""
        self.history_id = "history_1"
        self.heard = 0
        self.window_events = self.pause_ms = 0
        self.keys: dict[bytes, Subject] = {}  # by digest
        self.keys_asked: list[bytes] = []
        self._listeners: list[Callable[[Change], None]] = []

    async def register(self, request: RegisterRequest) -> RegisterReply:
        self._check()
        self.registered.append(request.incarnation)
        self.registers.append(request)
        self.heard += 1
        return RegisterReply(self.history_id, self.heard)

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        self.resolves.append(request)
        await self._wait()
        book = self.customers.get(request.subject.customer)
        if book is None:
            return ResolveReply(refusal="customer_unknown", detail="who?")
        reply = self._lend(book, request)
        self._maybe_lose()
        return reply

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        self.keys_asked.append(request.sha256)
        subject = self.keys.get(request.sha256)
        await self._wait()
        return ResolveKeyReply() if subject is None else ResolveKeyReply(subject, "key_1", 1)

    async def sync(self, request: AnySync) -> SyncReply:
        request = codec.decode(codec.encode(request), SyncRequest)  # recorded or not, on the wire it is the same
        self.syncs.append(request)
        await self._wait()
        replies = tuple(self._apply(request, part) for part in request.parts)
        if request.ended:
            self.ended.append(request.incarnation)
            if request.all_booked:
                self._close_rest(f"{request.incarnation}/")
        self.heard += 1
        self._maybe_lose()
        return SyncReply(replies, self.history_id, self.heard, self.window_events, self.pause_ms)

    def _close_rest(self, prefix: str) -> None:
        for book in self.customers.values():
            for account in book.accounts.values():
                for name, lease in account.leases.items():
                    if name.startswith(prefix) and not lease.closed:
                        lease.returned, lease.closed = lease.returned + lease.escrow, True

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def change(self, customer: str) -> None:
        """Something about a customer changed: say so."""
        self.customers[customer].revision += 1
        for listener in list(self._listeners):
            listener(Change(customer, self.customers[customer].revision))

    def account(self, name: str) -> AccountBook:
        """An account by its name, of whatever customer."""
        return next(book.accounts[name] for book in self.customers.values() if name in book.accounts)

    def _check(self) -> None:
        if self.away:
            raise LedgerUnavailable("away")

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        self._check()

    def _maybe_lose(self) -> None:
        if self.lose_replies:
            self.lose_replies -= 1
            raise LedgerUnavailable("the answer was lost")

    def _targets(self, book: CustomerBook, request: ResolveRequest) -> list[tuple[str, str, str, str, int | None, int]]:
        """(account, kind, id, child, ms to its reset, ms to its start) of everything hard that applies."""
        now_ms = self.clock.wall_ms()
        found: list[tuple[str, str, str, str, int | None, int]] = []
        standing = self._standing(book, request)
        for budget in standing.budgets_for(request.subject, model=request.model, provider=request.provider):
            period = period_at(budget.calendar(UTC_ONLY), now_ms)
            if request.next_period:
                if period.ends_at_ms is None:
                    continue
                period = period_at(budget.calendar(UTC_ONLY), period.ends_at_ms)
            left = None if period.ends_at_ms is None else period.ends_at_ms - now_ms
            child = budget.child_of(request.subject)
            name = budget_account(budget.budget_id, child, period)
            book.accounts.setdefault(name, AccountBook(budget.limit_atoms)).limit = budget.limit_atoms
            if budget.hard:
                found.append((name, "budget", budget.budget_id, child, left, max(0, period.starts_at_ms - now_ms)))
        if book.wallet is Wallet.REQUIRED and not request.next_period:
            for grant in standing.grants_for(request.subject, model=request.model):
                name = grant_account(grant.grant_id)
                book.accounts.setdefault(name, AccountBook(grant.issued_atoms))
                found.append((name, "grant", grant.grant_id, "", None, 0))
        return found

    def _standing(self, book: CustomerBook, request: ResolveRequest) -> Standing:
        subject = request.subject
        return Standing(
            subject.customer, subject.path, subject.user, book.wallet, "usd", book.budgets, book.grants, "p@1",
            book.revision, FRESH_FOR_MS,
        )  # fmt: skip

    def _lend(self, book: CustomerBook, request: ResolveRequest) -> ResolveReply:
        targets = self._targets(book, request)
        loans = self._plan(book, request, targets) if request.need_atoms else None
        leases: list[LeaseGrant] = []
        for name, _, _, _, left, starts_in in targets if loans is not None else ():
            lent = book.accounts[name].leases.setdefault(lease_id(request.incarnation, name), Lent())
            more = (loans or {}).get(name, 0)
            lent.granted += more + max(0, -lent.raw) if more else 0
            if lent.granted:
                leases.append(self._grant(request.incarnation, name, book.accounts[name], left, starts_in))
        readings = tuple(
            self._reading(request.incarnation, book.accounts[name], name, kind, an_id, child, left)
            for name, kind, an_id, child, left, _ in targets
        )
        return ResolveReply(self._standing(book, request), tuple(leases), readings)

    def _plan(
        self, book: CustomerBook, request: ResolveRequest, targets: list[tuple[str, str, str, str, int | None, int]]
    ) -> dict[str, int] | None:
        """How much to lend on which account; None: one is short, and nothing is lent."""
        free = {holding.lease_id: holding.left_atoms for holding in request.holdings}
        loans: dict[str, int] = {}
        lacking = request.need_atoms
        for name, kind, *_ in targets:
            account = book.accounts[name]
            raw = account.leases.get(lease_id(request.incarnation, name), Lent()).raw
            have = min(free.get(lease_id(request.incarnation, name), 0), raw) + max(0, -raw)
            least = request.need_atoms - have if kind == "budget" else min(lacking, have + account.unlent) - have
            if kind == "grant":
                lacking -= have + max(0, least)
            if least > 0:
                size = lease_size(
                    at_least=least, demand=request.demand_atoms - have, remaining=account.unlent, live_holders=1
                )
                if not size:
                    return None
                loans[name] = size
        return None if book.wallet is Wallet.REQUIRED and lacking > 0 and not request.next_period else loans

    def _grant(
        self, incarnation: str, name: str, account: AccountBook, left: int | None, starts_in: int = 0
    ) -> LeaseGrant:
        lent = account.leases[lease_id(incarnation, name)]
        return LeaseGrant(
            lease_id(incarnation, name),
            lent.granted,
            VALID_FOR_MS if left is None else min(left, VALID_FOR_MS),
            starts_in_ms=starts_in,
            has_more=account.unlent > 0,
            returned_atoms=lent.returned,
        )

    def _reading(
        self, incarnation: str, account: AccountBook, name: str, kind: str, an_id: str, child: str, left: int | None
    ) -> AccountReading:
        lent = account.leases.get(lease_id(incarnation, name), Lent())
        others = sum(lent.escrow for lent in account.leases.values()) - lent.escrow
        return AccountReading(
            name, kind, an_id, child, account.limit, account.used, lent.escrow, others, account.unlent, left,
            max(0, -lent.raw),
        )  # fmt: skip

    def _apply(self, request: SyncRequest, part: CustomerPart) -> PartReply:
        if self.refuse_events and any(e.admission.request_id == self.refuse_events for e in part.events):
            return PartReply(part.customer, error="no")
        book = self.customers[part.customer]
        for event in part.events:
            self._book(book, event)
        grants: list[LeaseGrant] = []
        problems: list[str] = []
        for report in part.leases:
            name = lease_account(report.lease_id)
            account = book.accounts.get(name)
            lent = None if account is None else account.leases.get(report.lease_id)
            if account is None or lent is None or report.returned_atoms > lent.granted:
                problems.append(report.lease_id)
                continue
            lent.returned = max(lent.returned, report.returned_atoms)
            lent.closed = lent.closed or report.closed
            if not lent.closed and request.incarnation == report.lease_id.partition("/")[0]:
                lent.granted += lease_size(
                    at_least=0, demand=report.want_atoms, remaining=account.unlent, live_holders=1
                )
                grants.append(self._grant(request.incarnation, name, account, self._left(book, name)))
        return PartReply(part.customer, tuple(grants), ", ".join(problems), booked=True)

    def _left(self, book: CustomerBook, name: str) -> int | None:
        """Milliseconds to the end of an account's period; 0 once it is over."""
        for budget in book.budgets:
            if name.startswith(f"budget:{budget.budget_id}:"):
                period = period_at(budget.calendar(UTC_ONLY), self.clock.wall_ms())
                if period.ends_at_ms is None:
                    return None
                return period.ends_at_ms - self.clock.wall_ms() if f":{period.key}:" in name else 0
        return None

    def _book(self, book: CustomerBook, event: UsageEvent) -> None:
        if event.admission.request_id in self.booked:
            return
        self.booked[event.admission.request_id] = event
        legs = [(one, event.charge_atoms or 0) for one in event.admission.budget_leases] + list(event.paid)
        for one, atoms in legs:
            account = book.accounts[lease_account(one)]
            account.used += atoms
            account.leases[one].posted += atoms


def with_limit(budget: Budget, limit_atoms: int) -> Budget:
    """The same budget with another limit."""
    return msgspec.structs.replace(budget, limit_atoms=limit_atoms)
