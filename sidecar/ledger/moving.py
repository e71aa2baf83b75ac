"""Moving a node, with all below it, to another place in its customer's tree (L35).

Only what is asked from now on goes by the new place. A call keeps the path by which it was admitted, with
its accounts and leases (L21): that path is in its record, and a budget has used what the paths of its
calls say (L31), wherever their nodes stand by now. So a move touches no account and no entry.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.governance.tenancy import format_path, parse_path
from sidecar.errors import Rejected
from sidecar.ledger.budget_kinds import check_allocations
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import Path
from sidecar.ledger.showing import Shower, whole_path
from sidecar.ports import Row, Transaction

MAX_MOVED: Final = 10_000
"""Nodes that one act moves at most, and budgets: it is one transaction."""

_NODES: Final = (
    "SELECT kind, id, path FROM nodes WHERE customer = ? AND (path = ? OR (path >= ? AND path < ?))"
    " ORDER BY path LIMIT ?"
)
_BUDGETS: Final = (
    "SELECT budget_id, path FROM budgets WHERE customer = ? AND (path = ? OR (path >= ? AND path < ?))"
    " ORDER BY path LIMIT ?"
)
_TOKENS: Final = (
    "SELECT name, path FROM api_tokens WHERE customer = ? AND (path = ? OR (path >= ? AND path < ?))"
    " ORDER BY path LIMIT ?"
)


async def move(journal: Journal, show: Shower, old: Path, target: Path, *, actor: str, reason: str) -> Path:
    """Put the last node of a path below another (or, where that is empty, below the customer); twice is once.

    Args:
        journal: the customer's.
        show: writes amounts.
        old: the whole path of the node.
        target: the whole path of what it is to stand below.
        actor: who moves it.
        reason: why.

    Returns:
        Its whole path now.

    Raises:
        Rejected: it would stand below itself, too deep, or below a node of its own kind; too much moves; or what
            is allocated to it would be a part of nothing there, or of more than there is (L32).
    """
    node, new = old[-1], (*target, old[-1])
    if new == old:
        return new
    if node in target:
        raise Rejected("invalid_path", {"to": f"a place that is not below {node} itself"})
    tx, customer = journal.tx, journal.customer
    rows = await _below(tx, _NODES, customer, format_path(old))
    moved = [(row["kind"], row["id"], _moved(parse_path(row["path"]), old, new)) for row in rows]
    await tx.execute_many(
        "UPDATE nodes SET path = ? WHERE customer = ? AND kind = ? AND id = ?",
        [(format_path(path), customer, kind, name) for kind, name, path in moved],
    )
    await _move_budgets(journal, old, new)
    await check_allocations(tx, customer, show, field="to")
    await _move_tokens(journal, old, new)
    facts: dict[str, object] = {
        "node": str(node),
        "from": format_path(old),
        "to": format_path(new),
        "nodes": len(moved),
        "reason": reason,
    }
    journal.post("node_moved", actor=actor, facts=facts, policy=True)
    return new


async def _move_budgets(journal: Journal, old: Path, new: Path) -> None:
    """Show the budgets of what moved, and of users named below it, where they now stand; they are the same budgets."""
    tx, customer = journal.tx, journal.customer
    rows = await _below(tx, _BUDGETS, customer, whole_path(customer, format_path(old)))
    paths = [(row["budget_id"], _moved(parse_path(row["path"].partition("/")[2]), old, new)) for row in rows]
    if not paths:
        return
    await tx.execute_many(
        "UPDATE budgets SET path = ?, depth = ? WHERE customer = ? AND budget_id = ?",
        [(whole_path(customer, format_path(path)), len(path), customer, budget_id) for budget_id, path in paths],
    )


async def _move_tokens(journal: Journal, old: Path, new: Path) -> None:
    """Let the API's tokens of what moved be below what it is below now, and nobody else's to see or revoke."""
    tx, customer = journal.tx, journal.customer
    rows = await _below(tx, _TOKENS, customer, whole_path(customer, format_path(old)))
    paths = [(row["name"], _moved(parse_path(row["path"].partition("/")[2]), old, new)) for row in rows]
    if paths:
        await tx.execute_many(
            "UPDATE api_tokens SET path = ? WHERE customer = ? AND name = ?",
            [(whole_path(customer, format_path(path)), customer, name) for name, path in paths],
        )


async def _below(tx: Transaction, sql: str, customer: str, path: str) -> list[Row]:
    """The rows at a path and below it, by one of the queries above; `0` follows `/` in the order of texts."""
    rows = await tx.fetch(sql, (customer, path, f"{path}/", f"{path}0", MAX_MOVED + 1))
    if len(rows) > MAX_MOVED:
        raise Rejected("too_much_moves", {"path": f"a node with at most {MAX_MOVED} nodes and budgets below it"})
    return list(rows)


def _moved(path: Path, old: Path, new: Path) -> Path:
    """Where a path that begins with `old` goes.

    Raises:
        Rejected: no path can be so.
    """
    there = (*new, *path[len(old) :])
    try:
        return parse_path(format_path(there))
    except ValueError as problem:
        raise Rejected("invalid_path", {"to": f"a place where what is below fits: {problem}"}) from None
