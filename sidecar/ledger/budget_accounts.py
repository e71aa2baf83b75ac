"""The accounts of budgets within one transaction: one for each child and period.

An account is opened by the first entry that touches it. What was put in, its `source`, is the
limit; when the limit was edited, the next entry that touches the account moves the difference,
so that an edit costs the same however many children there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.governance.budgets import Budget, applies, budget_account
from sidecar.core.governance.limits import Cadence, Period, period_at
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.journal import Journal
from sidecar.ledger.purse import ACTOR

HOUR_MS = 3_600_000


class BudgetAccounts:
    """Some budgets of a customer, and what this transaction did to their accounts."""

    def __init__(self, journal: Journal, budgets: Iterable[Budget]) -> None:
        self._journal = journal
        self.budgets = tuple(budgets)
        self._by_id = {budget.budget_id: budget for budget in self.budgets}
        self._touched: dict[str, Budget] = {}

    def applying(self, subject: Subject, *, model: str, provider: str, currency: str) -> tuple[Budget, ...]:
        """The budgets of a currency that apply to a request, outermost first (L30)."""
        return tuple(
            b for b in self.budgets if b.currency == currency and applies(b, subject, model=model, provider=provider)
        )

    def find(self, account: str) -> Budget | None:
        """The budget that an account belongs to, if it is one of these."""
        kind, _, rest = account.partition(":")
        return self._by_id.get(rest.partition(":")[0]) if kind == "budget" else None

    def unlent(self, account: str, budget: Budget) -> int:
        """What is neither spent nor lent of a loaded account, by the limit as it is now; may be negative."""
        balance = self._journal.balance(account, budget.currency)
        return budget.limit_atoms - balance.consumed - balance.leased

    def fit_limit(self, moves: Moves, account: str, budget: Budget) -> None:
        """Add to an entry what opens the account, or brings it to a limit that was edited."""
        change = budget.limit_atoms + self._journal.balance(account, budget.currency).source
        if account not in self._touched:  # within a transaction once: the balance shows only what was posted
            self._touched[account] = budget
            if change > 0:
                moves.move(account, budget.currency, Bucket.SOURCE, Bucket.AVAILABLE, change)
            else:
                moves.move(account, budget.currency, Bucket.AVAILABLE, Bucket.SOURCE, -change)

    def post_crossings(self) -> None:
        """Post the thresholds that the accounts touched have crossed, each once in its period (L53)."""
        for account, budget in self._touched.items():
            consumed = self._journal.balance(account, budget.currency).consumed
            for percent in sorted(budget.thresholds_percent):
                if not consumed or consumed * 100 < percent * budget.limit_atoms:
                    break
                if percent > self._journal.alerted_percent(account):
                    self._journal.note_alert(account, percent)
                    self._journal.post(
                        "threshold_crossed",
                        actor=ACTOR,
                        facts={
                            "account": account,
                            "budget_id": budget.budget_id,
                            "percent": percent,
                            "limit_atoms": budget.limit_atoms,
                            "used_atoms": consumed,
                        },
                        key=f"{account}@{percent}",
                    )


def account_at(budget: Budget, subject: Subject, at_ms: int) -> str:
    """The account on which a request at an instant counts."""
    return _account_in(budget.budget_id, budget.child_of(subject), budget.cadence, at_ms // HOUR_MS)


@lru_cache(maxsize=4096)
def _account_in(budget_id: str, child: str, cadence: Cadence, hour: int) -> str:
    """Every period begins with an hour (UTC), so the hour decides; a batch's events share a few."""
    return budget_account(budget_id, child, period_at(cadence, hour * HOUR_MS))


def left_of(period: Period, now_ms: int) -> int | None:
    """Milliseconds until a period ends; None: it does not."""
    return None if period.ends_at_ms is None else max(0, period.ends_at_ms - now_ms)
