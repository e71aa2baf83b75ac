"""The accounts that calls name by leases which are not in the book, as after a restore (L31, L50a).

A call counts where it was let run. Its lease's name says on which account, and so in which period: when the call
came in is known by its sender's clock alone, which may have been set since. A name that no lease can have had,
of another child or of a period that the budget does not have or that is yet to come, says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.contract.messages import lease_account
from sidecar.core.governance.budgets import Budget, applies, budget_account
from sidecar.core.governance.limits import Cadence, starts_at_ms_of
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.journal import Journal, Lease
from sidecar.ledger.windows import is_window_of

Counted = tuple[tuple[Budget, str], ...]
"""Budgets, each with the account that calls count on."""


def named_accounts(
    names: Iterable[str],
    accounts: BudgetAccounts,
    journal: Journal,
    subject: Subject,
    *,
    model: str,
    provider: str,
    currency: str,
) -> Counted:
    """Of the accounts that calls of one kind name, those that leases for them were on; one for each budget."""
    found: dict[str, tuple[Budget, str]] = {}
    for account in names:
        budget = accounts.find(account)
        if (
            budget is not None
            and budget.currency == currency
            and applies(budget, subject, model=model, provider=provider)
            and is_of(account, budget, budget.child_of(subject), journal)
        ):
            found.setdefault(budget.budget_id, (budget, account))
    return tuple(found.values())


def lost_leases(names: Iterable[str], counted: Counted, journal: Journal, sidecar: str) -> tuple[Lease, ...]:
    """The leases that calls name on the accounts they count on, and that the book has lost; loaded, as far as there.

    What calls charge on one was lent on it, and is posted: so when its holder tells of it, no more is kept aside than
    is out yet (L42, L50a). Nothing else of it is known before.
    """
    accounts = {account for _, account in counted}
    return tuple(
        Lease(name, lease_account(name), sidecar, name.partition("/")[0])
        for name in dict.fromkeys(names)
        if journal.lease(name) is None and lease_account(name) in accounts
    )


def is_of(account: str, budget: Budget, child: str, journal: Journal) -> bool:
    """Whether an account is of a child in a period of its budget that has begun."""
    if budget.cadence is Cadence.WINDOW:
        return is_window_of(account, budget, child, journal.now_ms)
    key = account.removeprefix(f"budget:{budget.budget_id}:").partition(":")[0]
    starts_at_ms = starts_at_ms_of(key)
    if starts_at_ms is None or starts_at_ms > journal.now_ms:
        return False
    return account == budget_account(budget.budget_id, child, journal.period(budget, starts_at_ms))
