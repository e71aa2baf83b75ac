"""Answering `resolve`: who is this, what applies to them, and enough spending power for one call."""

from __future__ import annotations

import msgspec

from sidecar.contract.messages import LeaseGrant, ResolveReply, ResolveRequest
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.errors import StaleIncarnation
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.freezing import outermost_frozen
from sidecar.ledger.journal import Journal
from sidecar.ledger.lending import Holder, Lender, Loan, Target, budget_target, grant_target
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.policies import Refusal, load_budgets, load_paths, locate, nodes_named
from sidecar.ledger.purse import Purse
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.windows import window_to_lend_from
from sidecar.ports import Transaction

NEXT_PERIOD_REFRESHES = 6
"""A lease on the next period is lent this many refreshes before it begins, at the earliest."""

WANTED_REFRESHES = 2
"""For how long a request that found too little keeps asking the others' leases back."""

HOUR_MS = 3_600_000


async def resolve(tx: Transaction, request: ResolveRequest, wall_ms: int, options: LedgerOptions) -> ResolveReply:
    """One resolve in one transaction; see `ports.Ledger.resolve`.

    Raises:
        StaleIncarnation: something is to be lent, and the asker is not registered or has ended.
    """
    journal = await Journal.open(tx, request.subject.customer, wall_ms)
    if journal is None:
        detail = f"customer {request.subject.customer!r} is not known"
        return ResolveReply(refusal=Reason.CUSTOMER_UNKNOWN.value, detail=detail)
    place = locate(request.subject, await load_paths(tx, journal.customer, nodes_named(request.subject)))
    if isinstance(place, Refusal):
        return ResolveReply(refusal=place.reason.value, detail=place.detail)
    if request.need_atoms and not await may_borrow(tx, Holder(request.sidecar, request.incarnation)):
        raise StaleIncarnation(f"incarnation {request.incarnation} is not registered, or has ended")
    subject = msgspec.structs.replace(request.subject, path=place)
    nodes = (*place, Node("user", subject.user)) if subject.user else place
    frozen = await outermost_frozen(journal, nodes)
    if frozen is not None:
        return ResolveReply(refusal=Reason.NODE_FROZEN.value, detail=f"{frozen} is frozen: its calls may not run")
    purse = await Purse.open(journal)
    await purse.repay(request.currency)
    accounts = BudgetAccounts(journal, await load_budgets(tx, journal.customer, nodes))
    reply = await _Resolving(journal, purse, accounts, request, subject, options=options).reply()
    await journal.write()
    return reply


async def may_borrow(tx: Transaction, holder: Holder) -> bool:
    """Whether an incarnation is registered and has not ended (L43), nor does before this transaction."""
    rows = await tx.fetch_locked(
        "SELECT sidecar FROM incarnations WHERE incarnation = ? AND ended_at_ms IS NULL",
        (holder.incarnation,),
        share=True,
    )
    return bool(rows) and rows[0]["sidecar"] == holder.sidecar


class _Resolving:
    """One request whose subject is known."""

    def __init__(
        self,
        journal: Journal,
        purse: Purse,
        accounts: BudgetAccounts,
        request: ResolveRequest,
        subject: Subject,
        *,
        options: LedgerOptions,
    ) -> None:
        self._journal = journal
        self._purse = purse
        self._request = request
        self._subject = subject
        self._options = options
        self._accounts = accounts
        self._lender = Lender(journal, accounts, purse, Holder(request.sidecar, request.incarnation))
        self._holdings = {holding.lease_id: holding.left_atoms for holding in request.holdings}

    async def reply(self) -> ResolveReply:
        """The standing, and what was lent."""
        request, now_ms = self._request, self._journal.now_ms
        debt = await self._purse.debt(request.currency)
        if request.need_atoms and self._journal.wallet is Wallet.REQUIRED and debt > self._options.debt_limit_atoms:
            detail = f"{self._journal.customer!r} owes {debt} atoms of {request.currency}; a paid grant repays them"
            return ResolveReply(refusal=Reason.DEBT_LIMIT.value, detail=detail)
        budgets = await self._budget_targets(ahead=request.next_period)
        grants: list[Target] = []
        if self._journal.wallet is Wallet.REQUIRED and not request.next_period:
            covering = self._purse.covering(request.currency, model=request.model, feature=self._subject.feature)
            grants = [grant_target(grant, now_ms, self._options) for grant in covering]
        targets = [*budgets, *grants]
        await self._lender.load(targets)
        leases: list[LeaseGrant | None] = []
        if request.need_atoms:
            hard = [target for target in budgets if target.budget is not None and target.budget.hard]
            new = await self._new_children(hard)
            if new is None:
                detail = f"over {self._options.max_new_children_per_hour} new users, agents or sessions in an hour"
                return ResolveReply(refusal=Reason.TOO_MANY_SUBJECTS.value, detail=detail)
            if self._lend(hard, grants):
                await self._note_children(new)
            # Also where nothing was lent: the asker's totals may have grown by a sync whose answer it
            # has not heard yet, and the readings alone would then look to it as if that were gone.
            leases = [self._lender.renew(target) for target in (*hard, *grants)]
        return ResolveReply(
            standing=self._standing(),
            leases=tuple(lease for lease in leases if lease is not None),
            readings=tuple(map(self._lender.reading, targets)),
        )

    def _standing(self) -> Standing:
        now_ms, fresh_for_ms = self._journal.now_ms, self._options.fresh_for_ms
        change_ms = self._purse.next_change_ms()
        return Standing(
            customer=self._journal.customer,
            path=self._subject.path,
            user=self._subject.user,
            wallet=self._journal.wallet,
            currency=self._options.currency,
            budgets=self._accounts.budgets,
            grants=self._purse.live,
            plan=self._options.plan,
            revision=self._journal.revision,
            fresh_for_ms=fresh_for_ms if change_ms is None else min(fresh_for_ms, change_ms - now_ms),
        )

    async def _budget_targets(self, *, ahead: bool) -> list[Target]:
        """The accounts of the budgets that apply, now or, `ahead`, in a next period that begins soon."""
        now_ms, request = self._journal.now_ms, self._request
        targets: list[Target] = []
        for budget in self._accounts.applying(
            self._subject, model=request.model, provider=request.provider, currency=request.currency
        ):
            if budget.cadence is Cadence.WINDOW:
                if not ahead:  # the next one begins when it is used
                    window = await window_to_lend_from(self._journal, budget, budget.child_of(self._subject))
                    targets.append(budget_target(budget, self._subject, window, now_ms, self._options))
                continue
            period = self._journal.period(budget)
            if ahead:
                if period.ends_at_ms is None or period.ends_at_ms - now_ms > self._ahead_ms():
                    continue
                period = self._journal.period(budget, period.ends_at_ms)
            targets.append(budget_target(budget, self._subject, period, now_ms, self._options))
        return targets

    def _ahead_ms(self) -> int:
        return NEXT_PERIOD_REFRESHES * self._options.refresh_every_ms

    def _lend(self, hard: list[Target], grants: list[Target]) -> bool:
        """Lend what the need is short of: on every account or, if one has too little, on none (False).

        Ahead of a period nothing waits yet, so each account there is lent to for itself.
        """
        plans = [(target, *self._plan_budget(target)) for target in hard]
        loans = [loan for _, loan, _ in plans if loan is not None]
        if self._request.next_period:
            self._lender.make(loans)
            return True
        short = [target for target, loan, covered in plans if loan is None and not covered]
        lacking = 0
        if self._journal.wallet is Wallet.REQUIRED:
            walked, lacking = self._walk_grants(grants)
            loans += walked
            short += grants if lacking else []
        if short or lacking:
            self._recall(short)
            return False
        self._lender.make(loans)
        return True

    def _left(self, target: Target) -> int:
        """What the holder has left on its lease: never more than we keep aside for it.

        Below zero is what it charged above its lease and we have not booked yet: what was booked
        of it was taken from the account then, and a loan's total makes up for it by itself.
        """
        lease = self._lender.lease(target)
        return min(self._holdings.get(lease.lease_id, 0), lease.raw) + max(0, -lease.raw)

    def _plan_budget(self, target: Target) -> tuple[Loan | None, bool]:
        """A loan, or None and whether the lease already covers the need."""
        left = self._left(target)
        if left >= self._request.need_atoms:
            return None, True
        at_least = self._request.need_atoms - left
        return self._lender.plan(target, at_least=at_least, demand=self._request.demand_atoms - left), False

    def _walk_grants(self, grants: list[Target]) -> tuple[list[Loan], int]:
        """Loans in burn order, each grant to its end before the next (L16), and what the need still lacks."""
        loans: list[Loan] = []
        lacking = self._request.need_atoms
        for target in grants:
            if lacking <= 0:
                break
            free = max(0, self._left(target))
            lacking -= free
            wanted = min(lacking, self._lender.unlent(target))
            if wanted > 0:
                loan = self._lender.plan(target, at_least=wanted, demand=self._request.demand_atoms - free)
                if loan is not None:
                    loans.append(loan)
                    lacking -= loan.moved_atoms
        return loans, max(0, lacking)

    def _recall(self, short: list[Target]) -> None:
        """Ask back what others hold of the accounts that had too little (L45)."""
        now_ms = self._journal.now_ms
        for target in short:
            if self._lender.elsewhere(target) > 0 and self._journal.wanted_until_ms(target.account) <= now_ms:
                until_ms = now_ms + WANTED_REFRESHES * self._options.refresh_every_ms
                self._journal.note_wanted(target.account, until_ms)

    async def _new_children(self, hard: list[Target]) -> list[tuple[str, str]] | None:
        """The children, by kind and id, that would get their first account; None: too many of late (L33)."""
        children = {
            (target.budget.each.value, target.child)
            for target in hard
            if target.budget is not None and target.child and not self._journal.exists(target.account)
        }
        if not children:
            return []
        tx, customer = self._journal.tx, self._journal.customer
        sql = "SELECT kind, id FROM children WHERE customer = ? AND (kind, id) IN (VALUES {})"
        known = {(row["kind"], row["id"]) for row in await fetch_in(tx, sql, (customer,), sorted(children))}
        new = sorted(children - known)
        counted = await tx.fetch(
            "SELECT count(*) AS new FROM children WHERE customer = ? AND first_seen_at_ms > ?",
            (customer, self._journal.now_ms - HOUR_MS),
        )
        if new and counted[0]["new"] + len(new) > self._options.max_new_children_per_hour:
            return None
        return new

    async def _note_children(self, new: list[tuple[str, str]]) -> None:
        if new:
            await self._journal.tx.execute_many(
                "INSERT INTO children (customer, kind, id, first_seen_at_ms) VALUES (?, ?, ?, ?)",
                [(self._journal.customer, kind, name, self._journal.now_ms) for kind, name in new],
            )
