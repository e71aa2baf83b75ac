"""The accounts of budgets within one transaction: one for each child and period.

An account is opened by the first entry that touches it. What was put in, its `source`, is the
limit; when the limit was edited, the next entry that touches the account moves the difference,
so that an edit costs the same however many children there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.credits.entries import MAX_BUCKET, Bucket, Moves
from sidecar.core.governance.budgets import Budget, applies, budget_account
from sidecar.core.governance.limits import Cadence, Period
from sidecar.core.governance.overdrafts import overdraft_of
from sidecar.core.governance.periods import SLOT_MS
from sidecar.core.governance.tenancy import Subject
from sidecar.ledger.journal import Journal
from sidecar.ledger.purse import ACTOR
from sidecar.ledger.windows import running_windows
from sidecar.ports import Row

MAX_ALERTED_BY_EDIT = 1000
"""Accounts whose alerts are written by the act that edits their limit: an act stays short however many children."""


class BudgetAccounts:
    """Some budgets of a customer, and what this transaction did to their accounts."""

    def __init__(self, journal: Journal, budgets: Iterable[Budget]) -> None:
        self._journal = journal
        self.budgets = tuple(budgets)
        overdrafts = [one for one in map(overdraft_of, self.budgets) if one is not None]
        self._by_id = {budget.budget_id: budget for budget in (*self.budgets, *overdrafts)}
        self._touched: dict[str, Budget] = {}

    def applying(self, subject: Subject, *, model: str, provider: str, currency: str) -> tuple[Budget, ...]:
        """The budgets of a currency that apply to a request, outermost first (L30)."""
        return tuple(
            b for b in self.budgets if b.currency == currency and applies(b, subject, model=model, provider=provider)
        )

    def find(self, account: str) -> Budget | None:
        """The budget that an account belongs to, if it is one of these; or the overdraft of one."""
        kind, _, rest = account.partition(":")
        return self._by_id.get(rest.partition(":")[0]) if kind == "budget" else None

    def unlent(self, account: str, budget: Budget) -> int:
        """What is neither spent nor lent of a loaded account, by the limit as it is now; may be negative."""
        balance = self._journal.balance(account, budget.currency)
        return budget.limit_atoms - balance.consumed - balance.leased - balance.unaccounted

    def fit_limit(self, moves: Moves, account: str, budget: Budget) -> None:
        """Add to an entry what opens the account, or brings it to a limit that was edited."""
        if account in self._touched:  # within a transaction once: the balance shows only what was posted
            return
        self._touched[account] = budget
        change = budget.limit_atoms + self._journal.balance(account, budget.currency).source
        if change > 0:
            moves.move(account, budget.currency, Bucket.SOURCE, Bucket.AVAILABLE, change)
        else:
            moves.move(account, budget.currency, Bucket.AVAILABLE, Bucket.SOURCE, -change)

    def post_crossings(self) -> None:
        """Post the thresholds that the accounts touched have crossed, each once in its period (L53).

        A threshold that a raised limit took out of reach again is re-armed.
        """
        for account, budget in self._touched.items():
            self._post_crossings(account, budget)

    async def follow_edit(self, budget: Budget) -> None:
        """Post what an edited limit makes of this period's accounts: those above a lowered one have crossed it now.

        At most MAX_ALERTED_BY_EDIT of them; the others with their next call.
        """
        if budget.cadence is Cadence.WINDOW:
            first, behind, since = running_windows(budget, self._journal.now_ms)
        else:
            first = budget_account(budget.budget_id, "", self._journal.period(budget))
            behind, since = first[:-1] + chr(ord(first[-1]) + 1), ""
        found: dict[str, Row] = {}
        for percent in budget.thresholds_percent:
            rows = await self._journal.tx.fetch(
                "SELECT * FROM accounts WHERE customer = ? AND account >= ? AND account < ?"
                " AND (? = '' OR substr(account, length(account) - 12) > ?)"  # of a window: when it starts
                " AND (consumed >= ?) <> (alerted_percent >= ?) ORDER BY account LIMIT ?",
                (
                    *(self._journal.customer, first, behind, since, since),
                    *(_mark_atoms(percent, budget.limit_atoms), percent, MAX_ALERTED_BY_EDIT - len(found)),
                ),
            )
            found.update((row["account"], row) for row in rows)
        for account, row in found.items():
            self._journal.take_account(row)
            self._post_crossings(account, budget)

    def _post_crossings(self, account: str, budget: Budget) -> None:
        consumed = self._journal.balance(account, budget.currency).consumed
        crossed = [p for p in sorted(budget.thresholds_percent) if consumed >= _mark_atoms(p, budget.limit_atoms)]
        before, highest = self._journal.alerted_percent(account), crossed[-1] if crossed else -1
        if highest < before:
            self._journal.note_alert(account, highest)
        for percent in crossed:
            if percent > before:
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
                    key=f"{account}@{percent}#{budget.version}",
                )


def _mark_atoms(percent: int, limit_atoms: int) -> int:
    """From how much on a threshold is crossed: never by an account on which nothing was used."""
    return min(max(1, -(-percent * limit_atoms // 100)), MAX_BUCKET)


class Slots:
    """Stretches of time in which none of some budgets' periods begins: calls of one count on the same accounts.

    They are quarters of an hour, cut where a period does begin within one.
    """

    def __init__(self, journal: Journal, budgets: Iterable[Budget]) -> None:
        self._journal = journal
        timed = [budget for budget in budgets if budget.cadence is not Cadence.WINDOW]
        self._calendars = {budget.calendar(journal.zones): budget for budget in timed}
        self._cuts: dict[int, tuple[int, ...]] = {}

    def begin(self, at_ms: int) -> int:
        """When the stretch begins that an instant is in (Unix ms)."""
        slot = at_ms // SLOT_MS
        cuts = self._cuts.get(slot)
        if cuts is None:
            cuts = self._cuts[slot] = self._look(slot * SLOT_MS)
        begin = slot * SLOT_MS
        for cut in cuts:  # nearly always none
            if cut <= at_ms:
                begin = cut
        return begin

    def _look(self, from_ms: int) -> tuple[int, ...]:
        cuts: set[int] = set()
        for budget in self._calendars.values():
            end_ms = self._journal.period(budget, from_ms).ends_at_ms
            while end_ms is not None and end_ms < from_ms + SLOT_MS:
                cuts.add(end_ms)
                end_ms = self._journal.period(budget, end_ms).ends_at_ms
        return tuple(sorted(cuts))


def left_of(period: Period, now_ms: int) -> int | None:
    """Milliseconds until a period ends; None: it does not."""
    return None if period.ends_at_ms is None else max(0, period.ends_at_ms - now_ms)
