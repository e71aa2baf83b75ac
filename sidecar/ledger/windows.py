"""Budgets whose period is a window from first use on: five hours from the first call, say (L37).

A child's window begins when the ledger first lends on it, and is over so long after; the next one begins
at the first lending after that. Its account's name says when it began, and the entry that lent first has
opened that account: so nothing else needs to be kept, and what verifies accounts verifies windows. A window
counts what was admitted from what it lent, and nothing that came before.
"""

from __future__ import annotations

from sidecar.core.governance.budgets import Budget, window_accounts
from sidecar.core.governance.limits import Cadence, Period
from sidecar.ledger.journal import Journal

START_DIGITS = 13
"""When a window began, in Unix milliseconds, at the end of its account's name."""


async def window_to_lend_from(journal: Journal, budget: Budget, child: str) -> Period:
    """The window of a child that runs; where none does, the one that would begin now."""
    first = window_accounts(budget.budget_id, child)
    rows = await journal.tx.fetch(
        "SELECT account FROM accounts WHERE customer = ? AND account > ? AND account < ? ORDER BY account DESC LIMIT 1",
        (journal.customer, first, first[:-1] + "0"),  # `0` follows `/`
    )
    if rows:
        running = window_of(rows[0]["account"], budget)
        if running.contains(journal.now_ms):
            return running
    return _from(journal.now_ms, budget)


def window_of(account: str, budget: Budget) -> Period:
    """The window of an account."""
    return _from(int(account.rpartition("/")[2]), budget)


def is_window_of(account: str, budget: Budget, child: str, now_ms: int) -> bool:
    """Whether an account is of a window of a child, and of one that has begun; of no other cadence's budget."""
    if budget.cadence is not Cadence.WINDOW:
        return False
    first = window_accounts(budget.budget_id, child)
    start = account.removeprefix(first)
    return (
        account.startswith(first)
        and len(start) == START_DIGITS
        and start.isascii()
        and start.isdecimal()
        and int(start) <= now_ms
    )


def child_of(account: str) -> str:
    """Whose window it is."""
    return account.split(":", 3)[3].rpartition("/")[0]


def running_windows(budget: Budget, now_ms: int) -> tuple[str, str, str]:
    """Between which names the accounts of all windows are, and after which start (their last 13 digits) they run."""
    prefix = window_accounts(budget.budget_id, "")[:-1]
    return prefix, prefix[:-1] + ";", f"{max(0, now_ms - budget.window_ms):013}"


def _from(start_ms: int, budget: Budget) -> Period:
    return Period(Cadence.WINDOW, start_ms, start_ms + budget.window_ms)
