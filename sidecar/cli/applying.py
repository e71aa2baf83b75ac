"""Which of a customer's budgets a call would meet, and what they leave it: for `spend budgets list PATH --for …`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sidecar.cli.answers import page_rows
from sidecar.cli.failures import Failed
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.matching import match_words
from sidecar.cli.tables import show_money
from sidecar.core.credits.scopes import fits
from sidecar.ledger.views import BudgetView, NodeView


def place_of(client: LedgerClient, path: str) -> frozenset[str]:
    """The nodes that a call from PATH passes, as kind:id: those named, and all above them.

    Raises:
        Failed: the tree has no such node.
    """
    customer, *named = path.split("/")
    page = client.get(f"/v1/customers/{segment(customer)}/nodes")
    above = {row.path.rpartition("/")[2]: row.path.split("/")[1:] for row in page_rows(page, NodeView)}
    found = set(named)
    for node in named:
        if node not in above and not node.startswith("user:"):
            raise Failed(f"{customer!r} has no node {node[:64]!r}.", f"Those there are: spend nodes list {customer}")
        found.update(above.get(node, ()))
    return frozenset(found)


def is_met(budget: BudgetView, place: frozenset[str] | None, of: Mapping[str, str]) -> bool:
    """Whether a call from a place (None: from anywhere), of which some dimensions are known, can count on a budget."""
    node = _node(budget)
    return (not node or place is None or node in place) and all(
        fits(pattern, of[dimension]) for dimension, pattern in budget.match.items() if dimension in of
    )


def verdicts(budgets: Sequence[BudgetView], place: frozenset[str] | None, of: Mapping[str, str]) -> Iterator[str]:
    """What the hard budgets among them say in a sentence each: what is left now, and what one child may use at most.

    Only budgets that every such call counts on are taken: those of a node, or that match on what is not said, may
    apply or not.
    """
    sure = [one for one in budgets if one.hard and set(one.match) <= set(of) and (place or not _node(one))]
    for currency in sorted({budget.limit.currency for budget in sure}):
        same = [budget for budget in sure if budget.limit.currency == currency]
        shared = [(child.remaining if child else b.limit, b) for b in same if not b.each
                  for child in (b.children[0] if b.children else None,)]  # fmt: skip
        if shared:
            left, budget = min(shared, key=lambda one: one[0].atoms)
            yield f"Left now: {show_money(left)}, by the budget of {_words(budget)}."
        for each in sorted({budget.each for budget in same if budget.each}):
            budget = min((b for b in same if b.each == each), key=lambda one: one.limit.atoms)
            yield f"One {each} at most: {show_money(budget.limit)}, by the budget of {_words(budget)}."


def _node(budget: BudgetView) -> str:
    return budget.path.partition("/")[2].rpartition("/")[2]


def _words(budget: BudgetView) -> str:
    match = match_words(budget.match)
    period = "in its lifetime" if budget.per == "lifetime" else f"per {budget.per}"
    return " ".join(filter(None, (budget.path, f"for {match}" if match else "", period)))
