"""Reading a customer's tree, budgets and grants out of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from sidecar.core.credits.grants import Category, Grant
from sidecar.core.governance.budgets import Budget, Each, Kind, OnOutage
from sidecar.core.governance.decisions import Reason
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.tenancy import Node, Subject, format_path, parse_path
from sidecar.ledger.sql import fetch_in
from sidecar.ports import Row, Transaction

Path = tuple[Node, ...]

MAX_REMEMBERED = 8192
"""Rows of a kind whose reading is remembered."""


class Refusal(msgspec.Struct, frozen=True):
    """Why the ledger has no standing for a subject, and the sentence for a person."""

    reason: Reason
    detail: str


async def load_paths(tx: Transaction, customer: str, nodes: Iterable[Node]) -> dict[Node, Path]:
    """The canonical path of each node that exists: every ancestor, then itself."""
    sql = "SELECT kind, id, path FROM nodes WHERE customer = ? AND (kind, id) IN (VALUES {})"
    rows = await fetch_in(tx, sql, (customer,), [(node.kind, node.id) for node in nodes])
    return {Node(row["kind"], row["id"]): _known_path(row["path"]) for row in rows}


def locate(subject: Subject, paths: Mapping[Node, Path]) -> Path | Refusal:
    """The subject's canonical path, filled in with the ancestors it left out.

    A path names its nodes from the outermost inwards and may leave some out; one that names
    nodes which are not above one another contradicts the tree. A user that was placed in the
    tree and comes without a path has the path of its place.

    Args:
        subject: who asks.
        paths: canonical paths of the nodes it names, as `load_paths` gives them; also its user's.
    """
    for node in subject.path:
        if node not in paths:
            adds = f"`spend nodes add {subject.customer}/{node}` adds it"
            return Refusal(Reason.CUSTOMER_UNKNOWN, f"customer {subject.customer!r} has no node {str(node)!r}: {adds}")
    if not subject.path:
        placed = paths.get(Node("user", subject.user), ())
        return placed[:-1]
    canonical = paths[subject.path[-1]]
    remaining = iter(canonical)
    if not all(node in remaining for node in subject.path):
        return Refusal(
            Reason.SUBJECT_CONFLICT,
            f"path {format_path(subject.path)!r} contradicts the tree, where it is {format_path(canonical)!r}",
        )
    return canonical


def nodes_named(subject: Subject) -> tuple[Node, ...]:
    """Every node that `locate` needs the path of."""
    return (*subject.path, Node("user", subject.user)) if subject.user else subject.path


async def load_budgets(tx: Transaction, customer: str, nodes: Iterable[Node]) -> tuple[Budget, ...]:
    """The budgets of the customer itself and of the nodes (users too), outermost first."""
    sql = "SELECT * FROM budgets WHERE customer = ? AND node IN ({})"
    rows = await fetch_in(tx, sql, (customer,), ["", *map(str, nodes)])
    return tuple(budget_of(row) for row in sorted(rows, key=lambda row: (row["depth"], row["sequence"])))


def budget_of(row: Row) -> Budget:
    """The budget in a row of `budgets`."""
    return _budget(tuple([row[column] for column in _BUDGET_COLUMNS]))


def grant_of(row: Row) -> Grant:
    """The grant in a row of `grants`."""
    return _grant(tuple([row[column] for column in _GRANT_COLUMNS]))


_BUDGET_COLUMNS = (
    *("budget_id", "currency", "limit_atoms", "cadence", "node", "match", "each_child", "hard", "on_outage"),
    *("thresholds", "version", "clamp", "anchor", "kind", "guardrail", "window_ms", "grace_atoms"),
)
_GRANT_COLUMNS = (
    *("grant_id", "currency", "issued_atoms", "effective_at_ms", "sequence", "expires_at_ms", "category", "priority"),
    *("models", "features"),
)

# The same rows come with every batch. What is remembered is a function of the columns and nothing
# else: an edited budget is another one.


@lru_cache(maxsize=MAX_REMEMBERED)
def _budget(columns: tuple[Any, ...]) -> Budget:
    name, currency, limit_atoms, cadence, node, match, each, hard, on_outage, *rest = columns
    thresholds, version, clamp, anchor, budget_kind, guardrail, window_ms, grace_atoms = rest
    kind, _, node_id = node.partition(":")
    return Budget(
        budget_id=name,
        currency=currency,
        limit_atoms=limit_atoms,
        cadence=Cadence(cadence),
        node=Node(kind, node_id) if kind else None,
        match=msgspec.json.decode(match, type=dict[str, str]),
        each=Each(each),
        hard=bool(hard),
        on_outage=OnOutage(on_outage),
        thresholds_percent=msgspec.json.decode(thresholds, type=tuple[int, ...]),
        version=version,
        clamp=bool(clamp),
        anchor=anchor,
        kind=Kind(budget_kind),
        guardrail=bool(guardrail),
        window_ms=window_ms,
        grace_atoms=grace_atoms,
    )


@lru_cache(maxsize=MAX_REMEMBERED)
def _grant(columns: tuple[Any, ...]) -> Grant:
    name, currency, issued, effective_at_ms, sequence, expires_at_ms, category, priority, models, features = columns
    return Grant(
        grant_id=name,
        currency=currency,
        issued_atoms=issued,
        effective_at_ms=effective_at_ms,
        sequence=sequence,
        expires_at_ms=expires_at_ms,
        category=Category(category),
        priority=priority,
        models=msgspec.json.decode(models, type=tuple[str, ...]),
        features=msgspec.json.decode(features, type=tuple[str, ...]),
    )


_known_path = lru_cache(maxsize=MAX_REMEMBERED)(parse_path)
