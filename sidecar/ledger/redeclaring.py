"""What holders say was lent to them, and the book has lost (L50a).

A lease's `granted` is written by the ledger, and merged by maximum like everything that only grows (L42): where a
holder was told more than the book has, the book was put back to before. That much more of the account is out.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.contract.messages import LeaseReport, lease_account
from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.governance.budgets import Budget, budget_id_of
from sidecar.core.governance.overdrafts import owning_id
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.policies import budget_of
from sidecar.ledger.purse import Purse
from sidecar.ledger.sql import fetch_in


class Redeclaring:
    """The reports of one part that say more than the book has; their leases must have been loaded.

    Attributes:
        is_ahead: whether one on a budget did. Of a grant it proves nothing: what others have of it may
            have left too little to keep aside, and then each report says so again.
    """

    def __init__(self, journal: Journal, purse: Purse, sidecar: str, valid_for_ms: int) -> None:
        self._journal = journal
        self._purse = purse
        self._sidecar = sidecar
        self._valid_for_ms = valid_for_ms
        self.is_ahead = False

    async def take(self, reports: Iterable[LeaseReport]) -> None:
        """Keep aside what is out by them. A lease that is closed and not in the book has nothing out."""
        ahead = [report for report in reports if self._is_ahead(report)]
        if not ahead:
            return
        names = [lease_account(report.lease_id) for report in ahead]
        await self._journal.load_accounts(names)
        await self._purse.load(names)
        accounts = BudgetAccounts(self._journal, await self._budgets(names))
        moves = Moves()
        granted: dict[str, object] = {}
        for report in ahead:
            atoms = self._keep_aside(report, accounts, moves)
            if atoms:
                granted[report.lease_id] = atoms
        if granted:
            self._journal.post(
                "lease_redeclared", actor=f"sidecar:{self._sidecar}", moves=moves, facts={"granted": granted}
            )

    def _is_ahead(self, report: LeaseReport) -> bool:
        lease = self._journal.lease(report.lease_id)
        if lease is None:
            return report.granted_atoms > 0 and not report.closed
        return lease.sidecar == self._sidecar and report.granted_atoms > lease.granted

    async def _budgets(self, names: list[str]) -> list[Budget]:
        ids = [owning_id(budget_id_of(name)) for name in names if name.startswith("budget:")]
        sql = "SELECT * FROM budgets WHERE customer = ? AND budget_id IN ({})"
        return [budget_of(row) for row in await fetch_in(self._journal.tx, sql, (self._journal.customer,), ids)]

    def _keep_aside(self, report: LeaseReport, accounts: BudgetAccounts, moves: Moves) -> int:
        """By how much a lease's total grows; 0 where the book does not know its account, or nothing is left of it."""
        account = lease_account(report.lease_id)
        budget, grant = accounts.find(account), self._purse.find(account)
        if budget is None and grant is None:
            return 0
        incarnation = report.lease_id.partition("/")[0]
        lease = self._journal.lease(report.lease_id) or Lease(report.lease_id, account, self._sidecar, incarnation)
        more, before = report.granted_atoms - lease.granted, lease.escrow
        if budget is not None:
            accounts.fit_limit(moves, account, budget)
            self.is_ahead = True
        elif grant is not None:
            free = self._journal.balance(account, grant.currency).available
            more = min(more, max(0, free) + max(0, -lease.raw))
        if more <= 0:
            return 0
        lease.granted += more
        lease.pays_until_ms = max(lease.pays_until_ms, self._journal.now_ms + self._valid_for_ms)
        self._journal.keep(lease)
        currency = budget.currency if budget is not None else self._journal.balance(account, "").currency
        moves.move(account, currency, Bucket.AVAILABLE, Bucket.LEASED, lease.escrow - before)
        return more
