"""Doing one act on a customer's book: once for each key, and whether it changed a policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from sidecar.core.governance.tenancy import Subject
from sidecar.errors import NotFound, Rejected
from sidecar.ledger import forms
from sidecar.ledger.idempotency import Asked, once
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import Path, Refusal, load_paths, locate
from sidecar.ports import Transaction

T = TypeVar("T")


class Done(msgspec.Struct, frozen=True):
    """An act's answer, and the customer's revision if the act changed it."""

    answer: Any
    revision: int | None


async def do(
    tx: Transaction,
    wall_ms: int,
    asked: Asked,
    effect: Callable[[Journal | None], Awaitable[T]],
    answer_type: Any,
) -> Done:
    """Run an act on the customer's journal, once per key, and say whether a policy changed."""
    forms.act(asked.act)
    journal = await Journal.open(tx, asked.customer, wall_ms)
    if journal is not None:
        journal.act = asked.act
    before = None if journal is None else journal.revision
    answer, ran = await once(tx, asked, lambda: effect(journal), answer_type=answer_type, wall_ms=wall_ms)
    if not ran:
        return Done(answer, None)
    rows = await tx.fetch("SELECT revision FROM customers WHERE customer = ?", (asked.customer,))
    after: int = rows[0]["revision"]
    return Done(answer, None if after == before else after)


def known(journal: Journal | None, customer: str) -> Journal:
    """The journal of a customer that must exist.

    Raises:
        NotFound: it does not.
    """
    if journal is None:
        raise NotFound("customer", customer)
    return journal


async def place(tx: Transaction, customer: str, named: Path) -> Path:
    """The whole path of a node as people name it; a user need not have been seen before.

    Raises:
        NotFound: a node of the path.
        Rejected: the path contradicts the tree.
    """
    user = named[-1:] if named and named[-1].kind == "user" else ()
    above = named[: len(named) - len(user)]
    paths = await load_paths(tx, customer, above)
    for node in above:
        if node not in paths:
            raise NotFound("node", f"{customer}/{node}")
    found = locate(Subject(customer, above), paths)
    if isinstance(found, Refusal):
        raise Rejected("invalid_path", {"path": found.detail})
    return (*found, *user)
