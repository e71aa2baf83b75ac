"""Booking settled calls: every one is recorded, once, whatever state it arrives in (L29).

The money is spent by the time an event comes here. So nothing about it is refused: a lease we
do not know, a lease that is closed, a charge above what was held are flags on its entry, and
what no lease covers is found elsewhere.

The calls of a batch are many and much alike. What they have in common, namely where the caller
stands in the tree, which budgets apply and which accounts those are, is worked out once for each
kind of call (`_Route`); what is left for each call are its amounts and its entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from sidecar.contract.messages import Admission, CustomerPart, SyncRequest, UsageEvent, lease_account
from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.credits.burn_order import BURN_ORDER
from sidecar.core.credits.entries import Bucket
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Node, Subject, format_path
from sidecar.ledger.budget_accounts import HOUR_MS, BudgetAccounts, account_at
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.policies import Refusal, load_budgets, load_paths, locate, nodes_named
from sidecar.ledger.posting import CallMoves
from sidecar.ledger.purse import Purse, debt_account
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.usage_facts import UsageFacts

BUDGET, GRANT = "budget:", "grant:"
"""What the accounts of either kind begin with."""


def counted_account(currency: str) -> str:
    """Where the charges of a customer without a wallet stand: `counted:usd`."""
    return f"counted:{currency}"


@dataclass(slots=True)
class _Charged:
    """What one event moves, and what was odd about it, while it is being put together."""

    flags: list[str]
    moves: CallMoves = field(default_factory=CallMoves)
    debt_atoms: int = 0

    def flag(self, word: str) -> None:
        if word not in self.flags:
            self.flags.append(word)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a subject stands. `subject` has its canonical path, or the one it came with if that is `unknown`."""

    subject: Subject
    path: str
    is_unknown: bool


@dataclass(frozen=True, slots=True)
class _Line:
    """A lease that calls name: None if the sender may not charge it. `flag` is what is odd about it."""

    lease: Lease | None
    budget: Budget | None
    flag: str


@dataclass(frozen=True, slots=True)
class _Route:
    """What calls of one kind charge: the leases they name, and the budgets that apply without one."""

    place: _Place
    lines: tuple[_Line, ...]
    counting: tuple[tuple[Budget, str], ...]


_Kind = tuple[Subject, str, str, str, int]
"""What decides which budgets apply and on which accounts: subject, model, provider, currency, hour."""


class Booking:
    """Books the events of one customer's part of a sync."""

    def __init__(self, journal: Journal, purse: Purse, request: SyncRequest) -> None:
        self._journal = journal
        self._purse = purse
        self._request = request
        self._actor = f"sidecar:{request.sidecar}"
        self._accounts = BudgetAccounts(journal, ())
        self._counting: dict[_Kind, tuple[tuple[Budget, str], ...]] = {}
        self._routes: dict[tuple[_Kind, tuple[str, ...]], _Route] = {}
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._posted: dict[str, Lease] = {}

    async def book(self, part: CustomerPart) -> None:
        """Post an entry for each event that was not booked before, and the thresholds they crossed."""
        events = await self._fresh(part.events)
        if not events:
            return
        places = await self._places({event.admission.subject for event in events})
        nodes = {node for at in places.values() for node in (*at.subject.path, Node("user", at.subject.user))}
        self._accounts = BudgetAccounts(
            self._journal, await load_budgets(self._journal.tx, self._journal.customer, sorted(nodes))
        )
        kinds = [self._kind(event) for event in events]
        for kind in dict.fromkeys(kinds):
            self._counting[kind] = self._applying(kind, places[kind[0]].subject)
        await self._load(events)
        for event, kind in zip(events, kinds, strict=True):
            self._book_one(event, self._route(kind, event.admission, places))
        for lease in self._posted.values():
            self._journal.keep_posted(lease)
        self._accounts.post_crossings()

    async def _fresh(self, events: Sequence[UsageEvent]) -> list[UsageEvent]:
        """The events that are not in the journal, each id once."""
        by_id: dict[str, UsageEvent] = {}
        for event in events:
            by_id.setdefault(event.admission.request_id, event)
        sql = "SELECT entry_key FROM entries WHERE customer = ? AND kind = 'usage' AND entry_key IN ({})"
        rows = await fetch_in(self._journal.tx, sql, (self._journal.customer,), list(by_id))
        for row in rows:
            del by_id[row["entry_key"]]
        return list(by_id.values())

    async def _places(self, subjects: Iterable[Subject]) -> dict[Subject, _Place]:
        """Each subject with its canonical path; one that the tree does not know stays as it came."""
        nodes = {subject: nodes_named(subject) for subject in subjects}
        named = sorted({node for some in nodes.values() for node in some})
        paths = await load_paths(self._journal.tx, self._journal.customer, named)
        places: dict[Subject, _Place] = {}
        for subject in nodes:
            place = locate(subject, paths)
            if isinstance(place, Refusal):
                places[subject] = _Place(subject, format_path(subject.path), is_unknown=True)
            else:
                located = msgspec.structs.replace(subject, path=place)
                places[subject] = _Place(located, format_path(place), is_unknown=False)
        return places

    async def _load(self, events: Sequence[UsageEvent]) -> None:
        """Read every account and lease that the events touch or may touch."""
        leases: set[str] = set()
        for event in events:
            leases.update(event.admission.budget_leases)
            leases.update([lease for lease, _ in event.paid])
        currencies = sorted({event.admission.currency for event in events})
        names = set(map(lease_account, leases))
        names.update(account for counting in self._counting.values() for _, account in counting)
        names.update(account(currency) for currency in currencies for account in (counted_account, debt_account))
        await self._journal.load_accounts(sorted(names))
        await self._journal.load_leases(sorted(leases))

    def _occurred_at_ms(self, event: UsageEvent) -> int:
        """When the call was admitted, on our clock: only the distance of the sender's instants is used."""
        age_ms = max(0, self._request.sent_at_ms - event.admission.admitted_at_ms)
        return max(0, self._journal.now_ms - age_ms)

    def _kind(self, event: UsageEvent) -> _Kind:
        admission = event.admission
        hour = self._occurred_at_ms(event) // HOUR_MS
        return admission.subject, admission.model, admission.provider, admission.currency, hour

    def _applying(self, kind: _Kind, subject: Subject) -> tuple[tuple[Budget, str], ...]:
        """The budgets that apply to a call, hard and soft, each with its account at the time of the call."""
        _, model, provider, currency, hour = kind
        applying = self._accounts.applying(subject, model=model, provider=provider, currency=currency)
        return tuple((budget, account_at(budget, subject, hour)) for budget in applying)

    def _route(self, kind: _Kind, admission: Admission, places: dict[Subject, _Place]) -> _Route:
        """What a call charges: its budgets' leases, each once, and beside them the budgets without one.

        Without a lease are the soft ones (L36a), and hard ones set after the call was admitted (L31).
        """
        route = self._routes.get((kind, admission.budget_leases))
        if route is None:
            names = dict.fromkeys(admission.budget_leases)
            lines = tuple(self._line(name, BUDGET, admission.currency) for name in names)
            counted = {_budget_id(line.lease.account) for line in lines if line.lease is not None}
            counting = tuple(one for one in self._counting[kind] if one[0].budget_id not in counted)
            route = self._routes[kind, admission.budget_leases] = _Route(places[kind[0]], lines, counting)
        return route

    def _line(self, lease_id: str, prefix: str, currency: str) -> _Line:
        """A lease that the sender may charge for calls in a currency, or None and a flag."""
        line = self._lines.get((lease_id, prefix, currency))
        if line is not None:
            return line
        lease = self._journal.lease(lease_id)
        if (
            lease is None
            or lease.sidecar != self._request.sidecar
            or not lease.account.startswith(prefix)
            or self._journal.balance(lease.account, currency).currency != currency
        ):
            line = _Line(None, None, "lease_unknown")
        else:
            line = _Line(lease, self._accounts.find(lease.account), "late" if lease.closed else "")
        self._lines[lease_id, prefix, currency] = line
        return line

    def _book_one(self, event: UsageEvent, route: _Route) -> None:
        charged = _Charged(list(event.flags))
        charge = event.charge_atoms
        if charge is not None and not 0 <= charge <= MAX_ATOMS:
            charged.flag("charge_refused")
            charge = None
        if route.place.is_unknown:
            charged.flag("path_unknown")
        if charge is not None:
            self._count_budgets(charged, event.admission.currency, route, charge)
            self._pay(charged, event, charge)
        self._journal.post_call(
            self._facts(event, route.place, charge, charged),
            charged.moves,
            actor=self._actor,
            occurred_at_ms=self._occurred_at_ms(event),
        )

    def _count_budgets(self, charged: _Charged, currency: str, route: _Route, charge: int) -> None:
        """Charge every budget that applies once: its lease where there was one, else what is free."""
        for line in route.lines:
            if line.flag:
                charged.flag(line.flag)
            if line.lease is not None:
                if line.budget is not None:
                    self._accounts.fit_limit(charged.moves, line.lease.account, line.budget)
                self._post_on_lease(charged, line.lease, currency, charge, charge)
        for budget, account in route.counting:
            self._accounts.fit_limit(charged.moves, account, budget)
            charged.moves.consume(account, currency, 0, charge)

    def _pay(self, charged: _Charged, event: UsageEvent, charge: int) -> None:
        """Let the grants' leases pay their legs; what they do not pay is an excess, or only counted."""
        admission, owed = event.admission, charge
        currency = admission.currency
        for lease_id, atoms in event.paid:
            line = self._line(lease_id, GRANT, currency)
            if line.flag:
                charged.flag(line.flag)
            if line.lease is not None and atoms > 0:
                leg = min(atoms, owed)
                borne = min(leg, line.lease.escrow)
                owed -= borne
                self._post_on_lease(charged, line.lease, currency, leg, borne)
        if self._journal.wallet is Wallet.NONE:
            charged.moves.move(counted_account(currency), currency, Bucket.SOURCE, Bucket.CONSUMED, owed)
        elif owed:
            charged.flag("overrun")
            charged.debt_atoms = self._purse.take_excess(
                charged.moves, owed, currency, model=admission.model, feature=admission.subject.feature
            )

    def _post_on_lease(self, charged: _Charged, lease: Lease, currency: str, posted: int, consumed: int) -> None:
        """Post a charge on a lease: from its escrow first, and beyond that from what is free (L17).

        `posted` counts whole, as the holder counted it; `consumed` is what this account bears.
        """
        escrow = lease.granted - lease.returned - lease.posted
        lease.posted += posted
        self._posted[lease.lease_id] = lease
        if escrow >= consumed:  # nearly always
            charged.moves.consume(lease.account, currency, consumed, 0)
            return
        from_escrow = max(0, escrow)
        charged.moves.consume(lease.account, currency, from_escrow, consumed - from_escrow)
        if from_escrow < consumed:
            charged.flag("overrun")

    def _facts(self, event: UsageEvent, place: _Place, charge: int | None, charged: _Charged) -> UsageFacts:
        admission, subject = event.admission, place.subject
        return UsageFacts(  # by place: it is made for every call, and names would cost as much again
            admission.request_id,
            place.path,
            subject.user,
            subject.agent,
            subject.session,
            subject.feature,
            subject.product,
            admission.provider,
            admission.protocol,
            admission.model,
            event.usage.state,
            event.usage.tier or "",
            event.status,
            event.ending,
            event.duration_ms,
            admission.currency,
            charge,
            admission.held_atoms,
            charged.debt_atoms,
            self._request.sidecar,
            self._request.incarnation,
            admission.budget_leases,
            event.paid,
            BURN_ORDER if event.paid else "",
            event.usage,
            admission.decision,
            tuple(charged.flags),
        )


def _budget_id(account: str) -> str:
    return account.split(":", 2)[1]
