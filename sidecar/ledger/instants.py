"""When calls were let run, by the ledger's time (L31, L37).

Budgets without a lease, soft ones above all, count a call in the period of that instant. A sidecar says how long
ago it was by its own clock, which may have been set since. Its leases say more: each was good in one period
alone, and so was whatever ran on it. What they leave open is taken from the sidecar's word, and is never yet to come.
"""

from __future__ import annotations

from sidecar.contract.messages import lease_account
from sidecar.core.governance.limits import Cadence, Period, starts_at_ms_of
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.journal import Journal
from sidecar.ledger.lost_leases import is_of
from sidecar.ledger.recorded_events import Events, Recorded, read_leases
from sidecar.ledger.windows import window_of

_EVER = (0, 1 << 63)


class Instants:
    """Tells when the calls of one message were let run, in Unix milliseconds.

    Args:
        journal: of the customer whose calls they are.
        accounts: their budgets'.
        sent_at_ms: when the message was sent, by the clock that the calls' own instants are of.
    """

    def __init__(self, journal: Journal, accounts: BudgetAccounts, sent_at_ms: int) -> None:
        self._journal = journal
        self._accounts = accounts
        self._sent_at_ms = sent_at_ms
        self._spans: dict[tuple[bytes, bytes], tuple[int, int]] = {}

    def of(self, call: Recorded, events: Events) -> int:
        """When a call was let run: of its sender's instants only the distance is used, and that within its leases'."""
        admission, now_ms = call.event.admission, self._journal.now_ms
        instant = min(now_ms, max(0, now_ms - self._sent_at_ms + admission.admitted_at_ms))
        leases = bytes(admission.budget_leases)
        span = self._spans.get((leases, call.subject))
        if span is None:
            span = self._spans[leases, call.subject] = self._span(leases, events.subjects[call.subject])
        first, last = span
        return instant if first <= instant <= last else min(now_ms, max(first, min(instant, last)))

    def _span(self, leases: bytes, subject: Subject) -> tuple[int, int]:
        """Between which instants some leases could all be spent from; ever, where they contradict each other."""
        first, last = _EVER
        for name in read_leases(leases) or ():
            period = self._period(lease_account(name), subject)
            if period is not None and period.ends_at_ms is not None:
                first, last = max(first, period.starts_at_ms), min(last, period.ends_at_ms - 1)
        return (first, last) if first <= last else _EVER

    def _period(self, account: str, subject: Subject) -> Period | None:
        """The period that an account is of; None where no lease of the subject's calls can have been on it."""
        budget = self._accounts.find(account)
        if budget is None or not is_of(account, budget, budget.child_of(subject), self._journal):
            return None
        if budget.cadence is Cadence.WINDOW:
            return window_of(account, budget)
        return self._journal.period(budget, starts_at_ms_of(account.split(":", 3)[2]))
