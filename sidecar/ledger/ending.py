"""Ending what was given: a grant is voided (L15), a budget removed.

Neither takes from a sidecar what it holds: spending power that was lent stays chargeable until it comes
back, and then stands with the rest: of a voided grant revoked, of a removed budget nowhere that anybody
looks. What was consumed is untouched, and what was done is an entry that says who did it and why.
"""

from __future__ import annotations

import msgspec

from sidecar.core.credits.entries import Bucket, Moves, read_body
from sidecar.core.governance.budgets import grant_account
from sidecar.errors import NotFound
from sidecar.ledger.budget_kinds import check_allocations
from sidecar.ledger.journal import Journal
from sidecar.ledger.purse import Purse
from sidecar.ledger.showing import Shower
from sidecar.ledger.views import BudgetView

REMOVED = "budget_removed"
"""The kind of the entry that ends a budget; its key is the budget's id."""


async def void_grant(journal: Journal, grant_id: str, *, actor: str, reason: str) -> None:
    """Revoke what is free of a grant, now, and what is lent of it as it comes back; twice is once.

    Raises:
        NotFound: the customer has no such grant.
    """
    account = grant_account(grant_id)
    purse = await Purse.open(journal)
    await purse.load([account])
    grant = purse.find(account)
    if grant is None:
        raise NotFound("grant", grant_id)
    if purse.is_voided(account):
        return
    await journal.load_accounts([account])
    moves = Moves()
    moves.move(account, grant.currency, Bucket.AVAILABLE, Bucket.REVOKED, purse.available(grant))
    facts: dict[str, object] = {"grant_id": grant_id, "reason": reason}
    journal.post("grant_voided", actor=actor, moves=moves, facts=facts, key=grant_id, policy=True)
    await journal.tx.execute(
        "UPDATE grants SET voided = 1, ended = 1 WHERE customer = ? AND grant_id = ?", (journal.customer, grant_id)
    )


async def remove_budget(journal: Journal, show: Shower, budget_id: str, *, actor: str, reason: str) -> BudgetView:
    """Limit, and count, by a budget no more; twice is once. Gives the budget as it stood at its end.

    Its accounts stay in the book. The same budget set anew is another one, which counts what its period
    has seen.

    Raises:
        NotFound: the customer has, and had, no such budget.
        Rejected: what is allocated of it would be of nothing, or too much of the one above (L32).
    """
    tx, customer = journal.tx, journal.customer
    found = await show.budgets(tx, customer, journal.now_ms, journal.zones, budget_id) if budget_id else []
    if not found:
        rows = await tx.fetch(
            "SELECT body FROM entries WHERE entry_key = ? AND kind = ? AND customer = ?", (budget_id, REMOVED, customer)
        )
        if not rows:
            raise NotFound("budget", budget_id)
        return msgspec.convert(read_body(rows[0]["body"]).facts["budget"], BudgetView)
    facts: dict[str, object] = {"budget": msgspec.to_builtins(found[0]), "reason": reason}
    journal.post("budget_removed", actor=actor, facts=facts, key=budget_id, policy=True)
    await tx.execute("DELETE FROM budgets WHERE customer = ? AND budget_id = ?", (customer, budget_id))
    await check_allocations(tx, customer, show, field="budget_id")
    return found[0]
