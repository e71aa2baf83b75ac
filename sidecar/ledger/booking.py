"""Booking settled calls: every one is recorded, once, whatever state it arrives in (L29).

The money is spent by the time an event comes here. So nothing about it is refused: a lease we
do not know, a lease that is closed, a charge above what was held are flags on its entry, and
what no lease covers is found elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sidecar.contract.messages import CustomerPart, SyncRequest, UsageEvent
from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.credits.burn_order import BURN_ORDER
from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Node, Subject, format_path
from sidecar.ledger.budget_accounts import BudgetAccounts, account_at
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.policies import Refusal, load_budgets, load_paths, locate, nodes_named
from sidecar.ledger.purse import Purse
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.usage_facts import UsageFacts, facts_of


def counted_account(currency: str) -> str:
    """Where the charges of a customer without a wallet stand: `counted:usd`."""
    return f"counted:{currency}"


class _Charged(msgspec.Struct):
    """What one event moves, and what was odd about it, while it is being put together."""

    moves: Moves
    flags: list[str]
    debt_atoms: int = 0

    def flag(self, word: str) -> None:
        if word not in self.flags:
            self.flags.append(word)


class Booking:
    """Books the events of one customer's part of a sync."""

    def __init__(self, journal: Journal, purse: Purse, request: SyncRequest) -> None:
        self._journal = journal
        self._purse = purse
        self._request = request
        self._accounts = BudgetAccounts(journal, ())
        self._misplaced: set[str] = set()  # requests whose path the tree does not know

    async def book(self, part: CustomerPart) -> None:
        """Post an entry for each event that was not booked before, and the thresholds they crossed."""
        events = await self._fresh(part.events)
        if not events:
            return
        subjects = await self._subjects(events)
        nodes = {node for subject in subjects for node in (*subject.path, Node("user", subject.user))}
        budgets = await load_budgets(self._journal.tx, self._journal.customer, nodes)
        self._accounts = BudgetAccounts(self._journal, budgets)
        leases = {one for e in events for one in (*e.admission.budget_leases, *(lease for lease, _ in e.paid))}
        await self._journal.load_leases(sorted(leases))
        currencies = {event.admission.currency for event in events}
        await self._journal.load_accounts(map(counted_account, sorted(currencies)))
        counting = [self._counting(event, subject) for event, subject in zip(events, subjects, strict=True)]
        await self._journal.load_accounts(account for counted in counting for _, account in counted)
        for event, subject, counted in zip(events, subjects, counting, strict=True):
            await self._book_one(event, subject, counted)
        self._accounts.post_crossings()

    async def _fresh(self, events: Sequence[UsageEvent]) -> list[UsageEvent]:
        """The events that are not in the journal, each id once."""
        by_id: dict[str, UsageEvent] = {}
        for event in events:
            by_id.setdefault(event.admission.request_id, event)
        sql = "SELECT entry_key FROM entries WHERE customer = ? AND kind = 'usage' AND entry_key IN ({})"
        rows = await fetch_in(self._journal.tx, sql, (self._journal.customer,), list(by_id))
        booked = {row["entry_key"] for row in rows}
        return [event for request_id, event in by_id.items() if request_id not in booked]

    async def _subjects(self, events: Sequence[UsageEvent]) -> list[Subject]:
        """Each event's subject with its canonical path; one that the tree does not know stays as it came."""
        said = [event.admission.subject for event in events]
        nodes = {node for subject in said for node in nodes_named(subject)}
        paths = await load_paths(self._journal.tx, self._journal.customer, nodes)
        subjects: list[Subject] = []
        for event, subject in zip(events, said, strict=True):
            place = locate(subject, paths)
            if isinstance(place, Refusal):
                self._misplaced.add(event.admission.request_id)
            subjects.append(subject if isinstance(place, Refusal) else msgspec.structs.replace(subject, path=place))
        return subjects

    def _occurred_at_ms(self, event: UsageEvent) -> int:
        """When the call was admitted, on our clock: only the distance of the sender's instants is used."""
        age_ms = max(0, self._request.sent_at_ms - event.admission.admitted_at_ms)
        return max(0, self._journal.now_ms - age_ms)

    def _counting(self, event: UsageEvent, subject: Subject) -> list[tuple[Budget, str]]:
        """The budgets that apply to a call, hard and soft, each with its account at the time of the call."""
        admission, at_ms = event.admission, self._occurred_at_ms(event)
        applying = self._accounts.applying(
            subject, model=admission.model, provider=admission.provider, currency=admission.currency
        )
        return [(budget, account_at(budget, subject, at_ms)) for budget in applying]

    async def _book_one(self, event: UsageEvent, subject: Subject, counting: list[tuple[Budget, str]]) -> None:
        charged = _Charged(Moves(), list(event.flags))
        charge = event.charge_atoms
        if charge is not None and not 0 <= charge <= MAX_ATOMS:
            charged.flag("charge_refused")
            charge = None
        if event.admission.request_id in self._misplaced:
            charged.flag("path_unknown")
        if charge is not None:
            self._count_budgets(charged, event, counting, charge)
            await self._pay(charged, event, charge)
        self._journal.post(
            "usage",
            actor=f"sidecar:{self._request.sidecar}",
            moves=charged.moves,
            facts=facts_of(self._facts(event, subject, charge, charged)),
            key=event.admission.request_id,
            occurred_at_ms=self._occurred_at_ms(event),
        )

    def _count_budgets(
        self, charged: _Charged, event: UsageEvent, counting: list[tuple[Budget, str]], charge: int
    ) -> None:
        """Charge every budget that applies once: its lease where there was one, else what is free.

        Without a lease are the soft ones (L36a), and hard ones set after the call was admitted (L31).
        """
        counted: set[str] = set()
        for lease_id in dict.fromkeys(event.admission.budget_leases):
            lease = self._lease(charged, event, lease_id, "budget:")
            if lease is None:
                continue
            counted.add(_budget_id(lease.account))
            budget = self._accounts.find(lease.account)
            if budget is not None:
                self._accounts.fit_limit(charged.moves, lease.account, budget)
            self._post_on_lease(charged, lease, event.admission.currency, charge, charge)
        for budget, account in counting:
            if budget.budget_id not in counted:
                self._accounts.fit_limit(charged.moves, account, budget)
                charged.moves.move(account, budget.currency, Bucket.AVAILABLE, Bucket.CONSUMED, charge)

    async def _pay(self, charged: _Charged, event: UsageEvent, charge: int) -> None:
        """Let the grants' leases pay their legs; what they do not pay is an excess, or only counted."""
        owed = charge
        for lease_id, atoms in event.paid:
            lease = self._lease(charged, event, lease_id, "grant:")
            if lease is not None and atoms > 0:
                leg = min(atoms, owed)
                owed -= min(leg, lease.escrow)
                self._post_on_lease(charged, lease, event.admission.currency, leg, min(leg, lease.escrow))
        admission = event.admission
        if self._journal.wallet is Wallet.NONE:
            charged.moves.move(
                counted_account(admission.currency), admission.currency, Bucket.SOURCE, Bucket.CONSUMED, owed
            )
        elif owed:
            charged.flag("overrun")
            charged.debt_atoms = await self._purse.take_excess(
                charged.moves, owed, admission.currency, model=admission.model, feature=admission.subject.feature
            )

    def _lease(self, charged: _Charged, event: UsageEvent, lease_id: str, kind: str) -> Lease | None:
        """A lease that the sender may charge for this event, or None and a flag."""
        currency = event.admission.currency
        lease = self._journal.lease(lease_id)
        if (
            lease is None
            or lease.sidecar != self._request.sidecar
            or not lease.account.startswith(kind)
            or self._journal.balance(lease.account, currency).currency != currency
        ):
            charged.flag("lease_unknown")
            return None
        if lease.closed:
            charged.flag("late")
        return lease

    def _post_on_lease(self, charged: _Charged, lease: Lease, currency: str, posted: int, consumed: int) -> None:
        """Post a charge on a lease: from its escrow first, and beyond that from what is free (L17).

        `posted` counts whole, as the holder counted it; `consumed` is what this account bears.
        """
        from_escrow = min(consumed, lease.escrow)
        lease.posted += posted
        self._journal.keep(lease)
        charged.moves.move(lease.account, currency, Bucket.LEASED, Bucket.CONSUMED, from_escrow)
        charged.moves.move(lease.account, currency, Bucket.AVAILABLE, Bucket.CONSUMED, consumed - from_escrow)
        if from_escrow < consumed:
            charged.flag("overrun")

    def _facts(self, event: UsageEvent, subject: Subject, charge: int | None, charged: _Charged) -> UsageFacts:
        admission = event.admission
        return UsageFacts(
            request_id=admission.request_id,
            path=format_path(subject.path),
            user=subject.user,
            agent=subject.agent,
            session=subject.session,
            feature=subject.feature,
            product=subject.product,
            provider=admission.provider,
            protocol=admission.protocol,
            model=admission.model,
            state=event.usage.state.value,
            tier=event.usage.tier or "",
            status=event.status,
            ending=event.ending,
            duration_ms=event.duration_ms,
            currency=admission.currency,
            charge_atoms=charge,
            held_atoms=admission.held_atoms,
            debt_atoms=charged.debt_atoms,
            sidecar=self._request.sidecar,
            incarnation=self._request.incarnation,
            budget_leases=admission.budget_leases,
            paid=event.paid,
            burn_order=BURN_ORDER if event.paid else "",
            usage=event.usage,
            decision=admission.decision,
            flags=tuple(charged.flags),
        )


def _budget_id(account: str) -> str:
    return account.split(":", 2)[1]
