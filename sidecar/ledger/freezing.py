"""Freezing: no call of a customer, a node or a user runs until it is thawed (L35).

It acts here at once: who is frozen is refused, and what only their calls are counted on is lent from no
more and asked back. A sidecar that decides by an older standing may go on until it hears of the change,
at the latest until its leases end. What runs already runs to its end, and is booked.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.overdrafts import owning_id
from sidecar.core.governance.tenancy import Node
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import load_paths
from sidecar.ledger.sql import fetch_in

THE_CUSTOMER = ""
"""How the customer itself stands among the nodes of `frozen`."""


async def freeze(journal: Journal, node: Node | None, *, actor: str, reason: str) -> None:
    """Freeze a node, a user or (None) the customer; what is frozen stays so, with its first reason."""
    name = str(node or THE_CUSTOMER)
    if name in await _frozen_among(journal, [name]):
        return
    journal.post("frozen", actor=actor, facts={"node": name, "reason": reason}, policy=True)
    await journal.tx.execute(
        "INSERT INTO frozen (customer, node, frozen_at_ms, actor, reason) VALUES (?, ?, ?, ?, ?)",
        (journal.customer, name, journal.now_ms, actor, reason),
    )
    await _count(journal, +1)


async def unfreeze(journal: Journal, node: Node | None, *, actor: str, reason: str) -> None:
    """Let its calls run again, unless something above it is frozen too; what is not frozen stays so."""
    name = str(node or THE_CUSTOMER)
    if name not in await _frozen_among(journal, [name]):
        return
    journal.post("unfrozen", actor=actor, facts={"node": name, "reason": reason}, policy=True)
    await journal.tx.execute("DELETE FROM frozen WHERE customer = ? AND node = ?", (journal.customer, name))
    await _count(journal, -1)


async def outermost_frozen(journal: Journal, nodes: Iterable[Node]) -> str | None:
    """The first that is frozen of the customer and of some nodes, as people write it; None: none is.

    Args:
        journal: the customer's.
        nodes: from the outermost inwards, a user last.
    """
    names = [THE_CUSTOMER, *map(str, nodes)]
    found = await _frozen_among(journal, names)
    first = next((name for name in names if name in found), None)
    if first is None:
        return None
    return f"{journal.customer}/{first}" if first else journal.customer


class Frozen(msgspec.Struct, frozen=True):
    """Which budgets are of something frozen; all of them, and the grants too, where the customer is."""

    customer: bool = False
    budget_ids: frozenset[str] = frozenset()

    def holds(self, budget: Budget | None) -> bool:
        """Whether only calls that may not run count on a budget, or (None) on a grant."""
        return self.customer or (budget is not None and owning_id(budget.budget_id) in self.budget_ids)


NOTHING_FROZEN = Frozen()


async def frozen_of(journal: Journal, budgets: Iterable[Budget]) -> Frozen:
    """Which of some budgets are of something frozen, or of a node below it."""
    if not journal.frozen_nodes:
        return NOTHING_FROZEN
    owners = {budget.budget_id: budget.node for budget in budgets if budget.node is not None}
    paths = await load_paths(journal.tx, journal.customer, set(owners.values()))
    above = {node: paths.get(node, (node,)) for node in owners.values()}
    names = {str(node) for path in above.values() for node in path}
    found = await _frozen_among(journal, [THE_CUSTOMER, *sorted(names)])
    held = {budget_id for budget_id, node in owners.items() if not found.isdisjoint(map(str, above[node]))}
    return Frozen(THE_CUSTOMER in found, frozenset(held))


async def _frozen_among(journal: Journal, names: list[str]) -> set[str]:
    if not journal.frozen_nodes:
        return set()
    sql = "SELECT node FROM frozen WHERE customer = ? AND node IN ({})"
    return {row["node"] for row in await fetch_in(journal.tx, sql, (journal.customer,), names)}


async def _count(journal: Journal, change: int) -> None:
    journal.frozen_nodes += change
    await journal.tx.execute(
        "UPDATE customers SET frozen_nodes = ? WHERE customer = ?", (journal.frozen_nodes, journal.customer)
    )
