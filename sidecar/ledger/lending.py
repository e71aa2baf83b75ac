"""Moving spending power from an account to a lease (L39, L42, L44).

A loan is planned first and made only when the whole plan stands: of the accounts that a call
needs, all are lent to or none.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sidecar.contract.messages import AccountReading, LeaseGrant, lease_id
from sidecar.core.credits.entries import Balance, Bucket, Moves
from sidecar.core.credits.grants import Grant
from sidecar.core.credits.leases import lease_size, overdraft_share
from sidecar.core.governance.budgets import Budget, budget_account, grant_account
from sidecar.core.governance.limits import Period
from sidecar.core.governance.overdrafts import is_overdraft
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.budget_accounts import BudgetAccounts, left_of
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.purse import Purse


class Holder(msgspec.Struct, frozen=True):
    """Who borrows: one run of one sidecar (L43)."""

    sidecar: str
    incarnation: str


class Target(msgspec.Struct, frozen=True):
    """An account that can be lent from: of a budget in a period, or of a grant.

    `pays_for_ms` counts from now, and so from no later than the holder's own sending: already
    cut to the period and to the grant's end.
    """

    account: str
    currency: str
    pays_for_ms: int
    starts_in_ms: int = 0
    budget: Budget | None = None
    grant: Grant | None = None
    child: str = ""
    resets_in_ms: int | None = None

    @property
    def is_overdraft(self) -> bool:
        """Whether it is what a budget may spend beyond its limit in an outage (L47)."""
        return self.budget is not None and is_overdraft(self.budget.budget_id)


class Loan(msgspec.Struct, frozen=True):
    """`moved_atoms` leave the account; `granted_atoms` are added to the lease's total.

    They differ where a charge exceeded what was lent: what the lease is overdrawn by was taken
    from the account when it was booked, and must not be taken twice.
    """

    target: Target
    granted_atoms: int
    moved_atoms: int


class Lender:
    """Lends within one transaction on a customer's book, to one holder."""

    def __init__(self, journal: Journal, accounts: BudgetAccounts, purse: Purse, holder: Holder) -> None:
        self._journal = journal
        self._accounts = accounts
        self._purse = purse
        self._holder = holder

    async def load(self, targets: Iterable[Target]) -> None:
        """Read the accounts, the holder's leases on them, and how many others hold a live one."""
        names = [target.account for target in targets]
        await self._journal.load_accounts(names)
        await self._journal.load_leases(lease_id(self._holder.incarnation, name) for name in names)
        await self._journal.load_holders(names)

    def lease(self, target: Target) -> Lease:
        """The holder's lease on an account, new where there is none: there can be only one."""
        name = lease_id(self._holder.incarnation, target.account)
        found = self._journal.lease(name)
        return found or Lease(name, target.account, self._holder.sidecar, self._holder.incarnation)

    def unlent(self, target: Target) -> int:
        """What could still be lent; below zero where a budget was overrun or lowered."""
        if target.budget is not None:
            return self._accounts.unlent(target.account, target.budget)
        return self._journal.balance(target.account, target.currency).available

    def plan(self, target: Target, *, at_least: int, demand: int) -> Loan | None:
        """Size a loan that makes `at_least` more spendable on the holder's lease (L44), or None: too little is left.

        Args:
            target: the account.
            at_least: atoms by which what the holder can spend must grow; 0 if nothing waits.
            demand: atoms it would like.
        """
        lease = self.lease(target)
        if lease.closed:  # its holder has sworn never to admit on it again
            return None
        remaining, holders = max(0, self.unlent(target)), self._journal.others(lease) + 1
        if target.budget is not None and target.is_overdraft:
            size = overdraft_share(
                overdraft=target.budget.limit_atoms, held_here=lease.escrow, remaining=remaining, live_holders=holders
            )
        else:
            size = lease_size(at_least=at_least, demand=max(0, demand), remaining=remaining, live_holders=holders)
        if not size and not (target.is_overdraft and self._journal.lease(lease.lease_id) is None):
            return None  # who gets nothing of an overdraft is counted yet among those who share it
        return Loan(target, granted_atoms=size + max(0, -lease.raw), moved_atoms=size)

    def is_recalled(self, target: Target) -> bool:
        """Whether what others hold of an account should come back (L39, L45)."""
        if target.budget is not None and target.is_overdraft:
            lease = self.lease(target)  # whose holder has more than its part, since others came
            if lease.escrow * (self._journal.others(lease) + 1) > target.budget.limit_atoms:
                return True
        return self.unlent(target) < 0 or self._journal.wanted_until_ms(target.account) > self._journal.now_ms

    def elsewhere(self, target: Target) -> int:
        """Atoms of an account that are lent to others."""
        return self._journal.balance(target.account, target.currency).leased - self.lease(target).escrow

    def make(self, loans: Iterable[Loan]) -> None:
        """Post the loans, as one entry."""
        moves = Moves()
        granted: dict[str, object] = {}
        for loan in loans:
            target, lease = loan.target, self.lease(loan.target)
            if target.budget is not None:
                self._accounts.fit_limit(moves, target.account, target.budget)
            moves.move(target.account, target.currency, Bucket.AVAILABLE, Bucket.LEASED, loan.moved_atoms)
            lease.granted += loan.granted_atoms
            granted[lease.lease_id] = loan.granted_atoms
            self._journal.keep(lease)
        if granted:
            self._journal.post(
                "lent",
                actor=f"sidecar:{self._holder.sidecar}",
                moves=moves,
                facts={"incarnation": self._holder.incarnation, "granted": granted},
            )

    def renew(self, target: Target) -> LeaseGrant | None:
        """The holder's lease as it now stands, valid for another while; None where it has none open."""
        lease = self.lease(target)
        if self._journal.lease(lease.lease_id) is None or lease.closed:
            return None
        self._journal.renew(lease, self._journal.now_ms + target.pays_for_ms)
        return LeaseGrant(
            lease.lease_id,
            lease.granted,
            target.pays_for_ms,
            starts_in_ms=target.starts_in_ms,
            has_more=self.unlent(target) > 0,
            recall=self.is_recalled(target),
            returned_atoms=lease.returned,
        )

    def reading(self, target: Target) -> AccountReading:
        """How an account stands."""
        balance: Balance = self._journal.balance(target.account, target.currency)
        limit, name = 0, ""
        if target.budget is not None:
            limit, name = target.budget.limit_atoms, target.budget.budget_id
        elif target.grant is not None:
            limit, name = target.grant.issued_atoms, target.grant.grant_id
        return AccountReading(
            account=target.account,
            kind="grant" if target.budget is None else "budget",
            id=name,
            child=target.child,
            limit_atoms=limit,
            used_atoms=balance.consumed + balance.unaccounted,
            escrow_atoms=self.lease(target).escrow,
            elsewhere_atoms=self.elsewhere(target),
            unlent_atoms=max(0, self.unlent(target)),
            resets_in_ms=target.resets_in_ms,
            overdrawn_atoms=max(0, -self.lease(target).raw),
        )


def budget_target(budget: Budget, subject: Subject, period: Period, now_ms: int, options: LedgerOptions) -> Target:
    """The account of a budget on which a subject's calls in a period count."""
    child, left = budget.child_of(subject), left_of(period, now_ms)
    return Target(
        budget_account(budget.budget_id, child, period),
        budget.currency,
        options.valid_for_ms if left is None else min(options.valid_for_ms, left),
        starts_in_ms=max(0, period.starts_at_ms - now_ms),
        budget=budget,
        child=child,
        resets_in_ms=left,
    )


def overdraft_target(overdraft: Budget, period: Period, now_ms: int, options: LedgerOptions) -> Target:
    """The account of an overdraft in a period. It is for when nobody answers: so it is good for long (L47)."""
    left = left_of(period, now_ms)
    return Target(
        budget_account(overdraft.budget_id, "", period),
        overdraft.currency,
        options.grace_for_ms if left is None else min(options.grace_for_ms, left),
        starts_in_ms=max(0, period.starts_at_ms - now_ms),
        budget=overdraft,
        resets_in_ms=left,
    )


def grant_target(grant: Grant, now_ms: int, options: LedgerOptions) -> Target:
    """The account of a grant; one that does not pay now pays for 0 ms."""
    left = options.valid_for_ms if grant.expires_at_ms is None else grant.expires_at_ms - now_ms
    pays_for_ms = min(options.valid_for_ms, left) if grant.is_live(now_ms) else 0
    return Target(grant_account(grant.grant_id), grant.currency, pays_for_ms, grant=grant)
