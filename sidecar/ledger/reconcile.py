"""Applying one customer's part of a sync: calls booked, credit returned, leases renewed and filled (L42)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from sidecar.contract.messages import (
    AnyPart,
    AnySync,
    CustomerPart,
    LeaseGrant,
    LeaseReport,
    PartReply,
    lease_account,
)
from sidecar.core.credits.amounts import MAX_ATOMS
from sidecar.core.credits.burn_order import burn_key
from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.credits.grants import Grant
from sidecar.core.governance.budgets import Budget, budget_id_of
from sidecar.core.governance.limits import Cadence, Period
from sidecar.core.governance.overdrafts import is_overdraft, owning_id
from sidecar.ledger.booking import Booking, counted_account
from sidecar.ledger.budget_accounts import BudgetAccounts, left_of
from sidecar.ledger.freezing import NOTHING_FROZEN, frozen_of
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.learning import Claim, LossProven, borrowers
from sidecar.ledger.lending import Holder, Lender, Target, grant_target, overdraft_target
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.policies import budget_of
from sidecar.ledger.purse import Purse, debt_account
from sidecar.ledger.recorded_events import named_leases, read_events
from sidecar.ledger.redeclaring import Redeclaring
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.windows import window_of
from sidecar.ports import Transaction


class Applied(msgspec.Struct, frozen=True):
    """What became of a part. `loss`: why it proves that the book has lost something; `` where it does not (L50a)."""

    reply: PartReply
    loss: str = ""


async def apply_part(
    tx: Transaction,
    request: AnySync,
    part: AnyPart,
    wall_ms: int,
    options: LedgerOptions,
    *,
    is_last: bool = True,
    loss: str = "",
) -> Applied:
    """One part in one transaction. What is odd about a report is told in `error`; the rest is applied.

    A part that is booked in portions comes several times, each time with some of its calls and all of its reports;
    until the last one, `is_last`, nothing is returned or lent. `loss` is what was found with those before.
    """
    journal = await Journal.open(tx, part.customer, wall_ms)
    if journal is None:
        return Applied(PartReply(part.customer, error=f"customer {part.customer!r} is not known"))
    events = read_events(part)
    strangers = events.customers - {part.customer}
    if strangers:
        return Applied(PartReply(part.customer, error=f"events of {len(strangers)} other customers are among them"))
    purse = await Purse.open(journal)
    currencies = sorted({options.currency, *(call.event.admission.currency for call in events.calls)})
    # What the part names is read at once, and not where each is used: a statement costs many times what a row does.
    named = dict.fromkeys((*(report.lease_id for report in part.leases), *named_leases(events)))
    touched = [*map(lease_account, named), *map(counted_account, currencies), *map(debt_account, currencies)]
    await journal.load_accounts(touched)
    await journal.load_leases(named)
    reconciling = _Reconciling(journal, purse, request, options, loss)
    await reconciling.begin(part.leases)  # so that calls find the leases that they were let run by
    booking = Booking(journal, purse, request)
    await booking.book(events)
    leases = await reconciling.apply(part.heard, booking.budgets) if is_last else ()
    for currency in currencies:
        await purse.repay(currency)
    await journal.write()
    if events.unreadable:
        reconciling.problems.append(f"{events.unreadable} events make no sense")
    problems = "; ".join(reconciling.problems)
    reply = PartReply(part.customer, leases, error=problems, booked=True, revision=journal.revision)
    return Applied(reply, reconciling.loss)


async def end_incarnation(tx: Transaction, request: AnySync, wall_ms: int) -> None:
    """It gets no new grant from now on (L43); what still comes from it is taken in."""
    await tx.execute(
        "UPDATE incarnations SET ended_at_ms = ? WHERE incarnation = ? AND sidecar = ? AND ended_at_ms IS NULL",
        (wall_ms, request.incarnation, request.sidecar),
    )


async def leases_left(tx: Transaction, request: AnySync) -> list[CustomerPart]:
    """A close of every lease with anything out, of an incarnation whose calls are all booked: the rest is free.

    Also of one that was closed before: a call booked while a restored book did not have its lease is not posted on it.
    """
    rows = await tx.fetch_of_everyone(
        "SELECT customer, lease_id, granted, posted FROM leases"
        " WHERE incarnation = ? AND sidecar = ? AND (closed = 0 OR granted - returned > posted)"
        " ORDER BY customer, lease_id",
        (request.incarnation, request.sidecar),
    )
    parts: dict[str, list[LeaseReport]] = {}
    for row in rows:
        left = max(0, row["granted"] - row["posted"])
        parts.setdefault(row["customer"], []).append(LeaseReport(row["lease_id"], left, closed=True))
    return [CustomerPart(customer, leases=tuple(reports)) for customer, reports in parts.items()]


class _Reconciling:
    """The lease reports of one part."""

    def __init__(self, journal: Journal, purse: Purse, request: AnySync, options: LedgerOptions, loss: str) -> None:
        self._journal = journal
        self._purse = purse
        self._request = request
        self._options = options
        self._holder = Holder(request.sidecar, request.incarnation)
        self._frozen = NOTHING_FROZEN
        self._merged: dict[str, LeaseReport] = {}
        self._lends = False
        self._known_budgets: dict[str, Budget] = {}
        self.problems: list[str] = []
        self.loss = loss

    async def begin(self, reports: Iterable[LeaseReport]) -> None:
        """Take in the reports, and what they say was lent and the book does not have; the leases must be loaded."""
        self._merged = _merge(reports)
        redeclaring = Redeclaring(self._journal, self._purse, self._request.sidecar, self._options.valid_for_ms)
        await redeclaring.take(self._merged.values())
        if redeclaring.is_ahead and self._request.history_id:
            self.loss = self.loss or f"sidecar {self._request.sidecar} holds more than the book says it lent"

    async def apply(self, heard: int, known_budgets: Iterable[Budget]) -> tuple[LeaseGrant, ...]:
        """Take what comes back, then renew the leases that stay and lend more on those that want it.

        `heard` is the revision by which their holder says that it decides; `known_budgets` are those that this
        transaction has read already.
        """
        merged = self._merged
        self._known_budgets = {budget.budget_id: budget for budget in known_budgets}
        known = [(lease, merged[one]) for one in merged if (lease := self._known(merged[one])) is not None]
        await self._purse.load(lease.account for lease, _ in known)
        self._take_back(known)
        mine = [(lease, r) for lease, r in known if lease.incarnation == self._request.incarnation]
        self._note_heard((lease for lease, _ in mine), heard)
        if not mine or self._request.ended:
            return ()
        found = await borrowers(self._journal.tx, frozenset([self._holder]))
        if self._holder not in found.holders:
            return ()
        request = self._request
        refusal = found.refusal(self._holder, Claim(request.sidecar, request.history_id, request.heard))
        if isinstance(refusal, LossProven):
            self.loss = self.loss or str(refusal)
        self._lends = refusal is None and not self.loss  # what is lent goes on, whatever the book has lost
        return await self._renew([(lease, report) for lease, report in mine if not lease.closed])

    def _note_heard(self, leases: Iterable[Lease], heard: int) -> None:
        """Note by which revision their holder decides, once for each; one that is yet to come is none of this book."""
        for lease in leases:
            if lease.heard < heard <= self._journal.revision:
                lease.heard = heard
                self._journal.keep(lease)

    def _known(self, report: LeaseReport) -> Lease | None:
        """The lease of a report that makes sense; of any other, a problem is noted."""
        lease = self._journal.lease(report.lease_id)
        if lease is None or lease.sidecar != self._request.sidecar:
            self.problems.append(f"lease {report.lease_id!r} is not known")
            return None
        most = max(lease.granted, report.granted_atoms)
        if not 0 <= report.returned_atoms <= most:
            self.problems.append(
                f"lease {report.lease_id!r}: of {lease.granted} atoms, {report.returned_atoms} came back"
            )
            return None
        return lease

    def _take_back(self, known: list[tuple[Lease, LeaseReport]]) -> None:
        """Merge the holder's totals by maximum and move what is no longer kept aside."""
        moves = Moves()
        facts: dict[str, object] = {}
        for lease, report in known:
            self._note_tally(lease, report.tally_atoms)
            before, returned = lease.escrow, report.returned_atoms
            if report.closed and report.tally_atoms is not None:
                # Its holder may never have heard of the last that was lent on it, and will not admit on that either.
                returned = max(returned, lease.granted - max(0, report.tally_atoms))
            returned = min(returned, lease.granted)
            if returned <= lease.returned and report.closed <= lease.closed:
                continue  # heard before
            lease.returned = max(lease.returned, returned)
            lease.closed = lease.closed or report.closed
            self._journal.keep(lease)
            currency = self._journal.balance(lease.account, self._options.currency).currency
            home = self._purse.home(lease.account)
            moves.move(lease.account, currency, Bucket.LEASED, home, before - lease.escrow)
            facts[lease.lease_id] = {"returned": lease.returned, "closed": lease.closed}
        if facts:
            self._journal.post(
                "returned", actor=f"sidecar:{self._request.sidecar}", moves=moves, facts={"leases": facts}
            )

    def _note_tally(self, lease: Lease, tally: int | None) -> None:
        """Note what its holder has counted, and how far the book is from it; an older message says nothing new."""
        if tally is None or not (lease.tally or 0) <= tally <= MAX_ATOMS:
            return
        drift = tally - lease.posted
        if (tally, drift) != (lease.tally, lease.drift):
            lease.tally, lease.drift = tally, drift
            self._journal.keep(lease)

    async def _renew(self, reports: list[tuple[Lease, LeaseReport]]) -> tuple[LeaseGrant, ...]:
        """Another while for each lease; more for those that want it, where nobody is short."""
        accounts = BudgetAccounts(self._journal, await self._budgets(lease for lease, _ in reports))
        self._frozen = await frozen_of(self._journal, accounts.budgets)
        lender = Lender(self._journal, accounts, self._purse, self._holder)
        targets = [(self._target(lease, accounts), report) for lease, report in reports]
        await lender.load(target for target, _ in targets)
        loans = []
        for target, report in targets:
            if report.want_atoms > 0 and self._may_lend(target, lender):
                loans.append(lender.plan(target, at_least=0, demand=report.want_atoms))
        lender.make(loan for loan in loans if loan is not None)
        renewed = [(lender.renew(target), self._frozen.holds(target.budget)) for target, _ in targets]
        return tuple(replace(one, recall=True) if frozen else one for one, frozen in renewed if one is not None)

    async def _budgets(self, leases: Iterable[Lease]) -> list[Budget]:
        owning = [owning_id(budget_id_of(lease.account)) for lease in leases if lease.account.startswith("budget:")]
        ids = dict.fromkeys(owning)
        known = [self._known_budgets[one] for one in ids if one in self._known_budgets]
        missing = [one for one in ids if one not in self._known_budgets]
        sql = "SELECT * FROM budgets WHERE customer = ? AND budget_id IN ({})"
        rows = await fetch_in(self._journal.tx, sql, (self._journal.customer,), missing)
        return [*known, *map(budget_of, rows)]

    def _target(self, lease: Lease, accounts: BudgetAccounts) -> Target:
        """A lease's account; one of a period, grant or budget that is over pays for 0 ms."""
        grant, budget = self._purse.find(lease.account), accounts.find(lease.account)
        currency = self._journal.balance(lease.account, self._options.currency).currency
        if self._purse.is_voided(lease.account):
            return Target(lease.account, currency, 0, grant=grant)
        if grant is not None:
            return grant_target(grant, self._journal.now_ms, self._options)
        if budget is None:
            return Target(lease.account, currency, 0)
        period = self._period(lease.account, budget)
        if period is None:
            return Target(lease.account, currency, 0, budget=budget)
        if is_overdraft(budget.budget_id):
            return overdraft_target(budget, period, self._journal.now_ms, self._options)
        left = left_of(period, self._journal.now_ms)
        pays_for_ms = self._options.valid_for_ms if left is None else min(self._options.valid_for_ms, left)
        starts_in_ms = max(0, period.starts_at_ms - self._journal.now_ms)
        return Target(lease.account, currency, pays_for_ms, starts_in_ms=starts_in_ms, budget=budget)

    def _period(self, account: str, budget: Budget) -> Period | None:
        """The period of a budget's account if it is this one or the next; None: it is over."""
        if budget.cadence is Cadence.WINDOW:
            window = window_of(account, budget)
            return window if window.contains(self._journal.now_ms) else None
        period = self._journal.period(budget)
        periods = [period]
        if period.ends_at_ms is not None:
            periods.append(self._journal.period(budget, period.ends_at_ms))
        prefix = f"budget:{budget.budget_id}:"
        return next((one for one in periods if account.startswith(f"{prefix}{one.key}:")), None)

    def _may_lend(self, target: Target, lender: Lender) -> bool:
        """Whether more may go to a holder that merely likes to have it.

        Not while somebody waits for what is lent, nor where no call of it may run, nor from a grant while
        an earlier one that may pay for the same calls has anything left (L16).
        """
        if (
            not self._lends
            or target.pays_for_ms <= 0
            or lender.is_recalled(target)
            or self._frozen.holds(target.budget)
        ):
            return False
        if target.grant is None:
            return target.budget is not None and target.budget.hard
        key = burn_key(target.grant)
        earlier = [g for g in self._purse.live if g.currency == target.currency and burn_key(g) < key]
        return not any(self._purse.available(g) > 0 and _may_overlap(g, target.grant) for g in earlier)


def _merge(reports: Iterable[LeaseReport]) -> dict[str, LeaseReport]:
    """One report per lease, should a message name it twice."""
    merged: dict[str, LeaseReport] = {}
    for report in reports:
        before = merged.get(report.lease_id, report)
        merged[report.lease_id] = LeaseReport(
            report.lease_id,
            max(before.returned_atoms, report.returned_atoms),
            max(before.want_atoms, report.want_atoms),
            before.closed or report.closed,
            _most(before.tally_atoms, report.tally_atoms),
            max(before.granted_atoms, report.granted_atoms),
        )
    return merged


def _most(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return max(a, b)


def _may_overlap(a: Grant, b: Grant) -> bool:
    """Whether some call could be covered by both grants; yes, where patterns leave it open."""

    def disjoint(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
        literal = ours and theirs and not any("*" in pattern for pattern in (*ours, *theirs))
        return bool(literal) and not set(ours) & set(theirs)

    return not disjoint(a.models, b.models) and not disjoint(a.features, b.features)
