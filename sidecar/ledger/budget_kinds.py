"""What a budget that is set may be beside the others: a part of one above (L32), a member's own guardrail (L36).

The engine lets one transaction at a time write a customer, so that what is checked here, in the transaction
that sets the budget, still holds when it commits.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.governance.allocations import Overdrawn, Placed, overdrawn
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.tenancy import parse_path
from sidecar.errors import Rejected
from sidecar.ledger.policies import budget_of
from sidecar.ledger.showing import Shower
from sidecar.ports import Row, Transaction

MAX_GUARDRAILS: Final = 20
"""Of one node: who may set no other limits must not use up the room for them."""


async def check_allocations(
    tx: Transaction, customer: str, show: Shower, budget: Budget | None = None, *, field: str = "path"
) -> None:
    """Refuse what leaves more allocated of a budget than it has, or a part of nothing.

    Args:
        tx: in which something was changed.
        customer: whose.
        show: writes amounts.
        budget: the only one that was set; None: something else was done, as a budget removed, or a node moved.
        field: of the request, which is then at fault.

    Raises:
        Rejected: `allocation_exceeded`; the transaction must not be committed.
    """
    rows = await tx.fetch(
        "SELECT * FROM budgets WHERE customer = ? AND guardrail = 0 AND each_child = ''"
        " AND (? = '' OR currency = ? AND cadence = ?) ORDER BY depth, sequence",
        (customer, *(("", "", "") if budget is None else ("one", budget.currency, budget.cadence.value))),
    )
    found = overdrawn([Placed(budget_of(row), parse_path(row["path"].partition("/")[2])) for row in rows])
    if found is not None:
        raise Rejected("allocation_exceeded", _why(found, customer, show, budget, field))


def _why(found: Overdrawn, customer: str, show: Shower, budget: Budget | None, field: str) -> dict[str, str]:
    child, parent = found.child, found.parent
    name = "/".join([customer, *map(str, child.path)])
    if parent is None:
        per = child.budget.cadence.value
        what = f"{name} has no budget above it per {per} that counts the same calls and could be divided"
        return {"kind": what} if budget is not None else {field: f"then {what}"}
    whole = show.money(parent.budget.limit_atoms, parent.budget.currency)
    above = "/".join([customer, *map(str, parent.path)])
    allocated = show.money(found.allocated_atoms, parent.budget.currency)
    if budget is None:
        return {field: f"then {allocated.text} of the {whole.text} of {above} were allocated"}
    if budget.budget_id == parent.budget.budget_id:
        return {"limit": f"at least {allocated.text}: so much of it is allocated below {above}"}
    others = show.money(allocated.atoms - budget.limit_atoms, parent.budget.currency)
    left = show.money(max(0, whole.atoms - others.atoms), parent.budget.currency)
    return {"limit": f"at most {left.text}: of the {whole.text} of {above}, {others.text} are allocated to others"}


async def check_guardrail(tx: Transaction, customer: str, show: Shower, guardrail: Budget) -> None:
    """Refuse a guardrail above what others have set for the same, or one too many.

    Raises:
        Rejected: `above_limit`, `too_many_budgets`.
    """
    counted = await tx.fetch(
        "SELECT count(*) AS n FROM budgets WHERE customer = ? AND node = ? AND guardrail = 1",
        (customer, str(guardrail.node or "")),
    )
    if counted[0]["n"] > MAX_GUARDRAILS:
        raise Rejected("too_many_budgets", {"path": f"a node has at most {MAX_GUARDRAILS} guardrails"})
    rows = await _beside(tx, customer, guardrail, guardrail=False)
    for row in rows:
        if guardrail.limit_atoms > row["limit_atoms"]:
            most = show.money(row["limit_atoms"], guardrail.currency)
            raise Rejected(
                "above_limit", {"limit": f"at most {most.text}, which others have set; a guardrail is below"}
            )


async def lowered_guardrails(tx: Transaction, customer: str, budget: Budget) -> list[Budget]:
    """The guardrails that would be above a budget that was set, as low as it: they follow, and never hinder it."""
    found = [budget_of(row) for row in await _beside(tx, customer, budget, guardrail=True)]
    return [
        msgspec.structs.replace(one, limit_atoms=budget.limit_atoms, version=one.version + 1)
        for one in found
        if one.limit_atoms > budget.limit_atoms
    ]


async def _beside(tx: Transaction, customer: str, budget: Budget, *, guardrail: bool) -> list[Row]:
    """Budgets of the same node, calls and periods, of the one sort or the other: at most one of each."""
    match = msgspec.json.encode(budget.match, order="sorted").decode()
    rows = await tx.fetch(
        "SELECT * FROM budgets WHERE customer = ? AND node = ? AND match = ? AND each_child = ?"
        " AND cadence = ? AND currency = ? AND guardrail = ? AND window_ms = ?",
        (
            *(customer, str(budget.node or ""), match, budget.each.value),
            *(budget.cadence.value, budget.currency, int(guardrail), budget.window_ms),
        ),
    )
    return list(rows)
