"""A budget set while its period runs counts what the period has already seen (L31)."""

from __future__ import annotations

from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.governance.budgets import Budget, applies, budget_account
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.tenancy import Subject, parse_path
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.journal import Journal
from sidecar.ledger.purse import ACTOR
from sidecar.ledger.usage_facts import UsageBody
from sidecar.ledger.usage_reading import MAX_ENTRIES_AT_ONCE, calls_of, first_since


async def count_period(journal: Journal, budget: Budget) -> None:
    """Post what the current period's recorded usage means for a new budget, child by child.

    Reads the period's usage once; that of a lifetime is all there is. Must come before anything
    else of this transaction is booked on the budget.
    """
    if budget.cadence is Cadence.WINDOW:  # it begins with the first lending, and has seen nothing
        return
    period = journal.period(budget)
    used: dict[str, int] = {}
    # What occurred in a period was recorded in it or later.
    sequence = await first_since(journal.tx, journal.customer, period.starts_at_ms) - 1
    while rows := await journal.tx.fetch(
        "SELECT customer, sequence, recorded_at_ms, body, calls FROM entries"
        " WHERE customer = ? AND sequence > ? AND kind = 'usage' AND occurred_at_ms >= ? ORDER BY sequence LIMIT ?",
        (journal.customer, sequence, period.starts_at_ms, MAX_ENTRIES_AT_ONCE),
    ):
        sequence = rows[-1]["sequence"]
        for call in (call for row in rows for call in calls_of(row)):
            body = call.read()
            subject = _subject(body)
            facts = body.facts
            if (
                facts.currency == budget.currency
                and facts.charge_atoms
                and body.occurred_at_ms >= period.starts_at_ms  # an entry is as late as the latest of its calls
                and (period.ends_at_ms is None or body.occurred_at_ms < period.ends_at_ms)
                and applies(budget, subject, model=facts.model, provider=facts.provider)
            ):
                child = budget.child_of(subject)
                used[child] = used.get(child, 0) + facts.charge_atoms
    if not used:
        return
    accounts = BudgetAccounts(journal, [budget])
    names = {child: budget_account(budget.budget_id, child, period) for child in used}
    await journal.load_accounts(names.values())
    moves = Moves()
    for child, atoms in used.items():
        accounts.fit_limit(moves, names[child], budget)
        moves.move(names[child], budget.currency, Bucket.AVAILABLE, Bucket.CONSUMED, atoms)
    journal.post("budget_counted", actor=ACTOR, moves=moves, facts={"budget_id": budget.budget_id})
    accounts.post_crossings()


def _subject(body: UsageBody) -> Subject:
    facts = body.facts
    return Subject(
        customer=body.customer,
        path=parse_path(facts.path),
        user=facts.user,
        agent=facts.agent,
        session=facts.session,
        feature=facts.feature,
        product=facts.product,
    )
