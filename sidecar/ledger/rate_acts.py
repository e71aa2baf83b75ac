"""What people do to rate limits, and how the ledger finds those that apply to a subject."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from sidecar.core.credits.entries import read_body
from sidecar.core.governance.budgets import Each
from sidecar.core.governance.rate_limits import Counts, RateLimit
from sidecar.core.governance.tenancy import Node
from sidecar.errors import NotFound, Rejected
from sidecar.ledger import rate_forms
from sidecar.ledger.administration import Act, NewRateLimit, RateLimitRemoval
from sidecar.ledger.doing import Done, do, known, place
from sidecar.ledger.idempotency import Asked
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import load_paths
from sidecar.ledger.showing import whole_path
from sidecar.ledger.sql import fetch_in
from sidecar.ledger.views import RateLimitView
from sidecar.ports import Ids, Row, Transaction

MAX_RATE_LIMITS: Final = 1000
"""Of one customer."""

REMOVED: Final = "rate_limit_removed"
"""The kind of the entry that ends one; its key is the rate limit's id."""


async def set_rate_limit(tx: Transaction, wall_ms: int, form: NewRateLimit, act: Act, ids: Ids) -> Done:
    """Set a rate limit, or change how much the one that is there allows."""
    customer, named = rate_forms.rate_limit(form)

    async def effect(journal: Journal | None) -> RateLimitView:
        journal = known(journal, customer)
        whole = await place(tx, customer, named)
        node = whole[-1] if whole else None
        match = msgspec.json.encode(form.match, order="sorted").decode()
        rows = await tx.fetch(
            "SELECT * FROM rate_limits WHERE customer = ? AND node = ? AND match = ? AND each_child = ?"
            " AND counts = ? AND window_ms = ?",
            (customer, str(node or ""), match, form.each, form.counts, form.window_s * 1000),
        )
        if rows:
            limit = await _edit(journal, limit_of(rows[0]), form.limit, act.actor)
        else:
            limit = RateLimit(
                ids.new("rate"),
                Counts(form.counts),
                form.limit,
                node=node,
                match=form.match,
                each=Each(form.each),
                window_ms=form.window_s * 1000,
            )
            await _insert(journal, limit, match, act.actor)
        await journal.write()
        return (await shown(tx, customer, limit.limit_id))[0]

    return await do(
        tx, wall_ms, Asked(customer, "set_rate_limit", act, msgspec.structs.asdict(form)), effect, RateLimitView
    )


async def remove_rate_limit(tx: Transaction, wall_ms: int, form: RateLimitRemoval, act: Act) -> Done:
    """Limit by it no more; twice is once. Gives it as it stood."""
    rate_forms.removal(form)

    async def effect(journal: Journal | None) -> RateLimitView:
        journal = known(journal, form.customer)
        found = await shown(tx, form.customer, form.limit_id) if form.limit_id else []
        if not found:
            rows = await tx.fetch(
                "SELECT body FROM entries WHERE entry_key = ? AND kind = ? AND customer = ?",
                (form.limit_id, REMOVED, form.customer),
            )
            if not rows:
                raise NotFound("rate limit", form.limit_id)
            return msgspec.convert(read_body(rows[0]["body"]).facts["rate_limit"], RateLimitView)
        facts: dict[str, object] = {"rate_limit": msgspec.to_builtins(found[0]), "reason": form.reason}
        journal.post("rate_limit_removed", actor=act.actor, facts=facts, key=form.limit_id, policy=True)
        await tx.execute("DELETE FROM rate_limits WHERE customer = ? AND limit_id = ?", (form.customer, form.limit_id))
        await _count(journal, -1)
        await journal.write()
        return found[0]

    asked = Asked(form.customer, "remove_rate_limit", act, msgspec.structs.asdict(form))
    return await do(tx, wall_ms, asked, effect, RateLimitView)


async def shown(tx: Transaction, customer: str, limit_id: str = "") -> list[RateLimitView]:
    """All rate limits of a customer (or one), in the order in which they were set."""
    rows = await tx.fetch(
        "SELECT * FROM rate_limits WHERE customer = ? AND (? = '' OR limit_id = ?) ORDER BY sequence",
        (customer, limit_id, limit_id),
    )
    limits = [limit_of(row) for row in rows]
    paths = await load_paths(tx, customer, {limit.node for limit in limits if limit.node is not None})
    views: list[RateLimitView] = []
    for limit in limits:
        path = "" if limit.node is None else "/".join(map(str, paths.get(limit.node, (limit.node,))))
        views.append(
            RateLimitView(
                customer=customer,
                limit_id=limit.limit_id,
                path=whole_path(customer, path),
                counts=limit.counts.value,
                limit=limit.limit,
                window_s=limit.window_ms // 1000,
                match=limit.match,
                each=limit.each.value,
                version=limit.version,
            )
        )
    return views


async def load_rate_limits(journal: Journal, nodes: Iterable[Node]) -> tuple[RateLimit, ...]:
    """Those of the customer itself and of some nodes (users too), in the order in which they were set."""
    if not journal.rate_limits:
        return ()
    sql = "SELECT * FROM rate_limits WHERE customer = ? AND node IN ({})"
    rows = await fetch_in(journal.tx, sql, (journal.customer,), ["", *map(str, nodes)])
    return tuple(limit_of(row) for row in sorted(rows, key=lambda row: row["sequence"]))


def limit_of(row: Row) -> RateLimit:
    """The rate limit in a row of `rate_limits`."""
    kind, _, node_id = row["node"].partition(":")
    return RateLimit(
        row["limit_id"],
        Counts(row["counts"]),
        row["most"],
        node=Node(kind, node_id) if kind else None,
        match=msgspec.json.decode(row["match"], type=dict[str, str]),
        each=Each(row["each_child"]),
        window_ms=row["window_ms"],
        version=row["version"],
    )


async def _insert(journal: Journal, limit: RateLimit, match: str, actor: str) -> None:
    if journal.rate_limits >= MAX_RATE_LIMITS:
        raise Rejected("too_many_rate_limits", {"path": f"a customer has at most {MAX_RATE_LIMITS} rate limits"})
    sequence = journal.post(
        "rate_limit_set", actor=actor, facts=msgspec.to_builtins(limit), key=f"{limit.limit_id}@1", policy=True
    )
    await journal.tx.execute(
        "INSERT INTO rate_limits (customer, limit_id, node, match, each_child, counts, window_ms, most, version,"
        " sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(journal.customer, limit.limit_id, str(limit.node or ""), match, limit.each.value, limit.counts.value),
            *(limit.window_ms, limit.limit, limit.version, sequence),
        ),
    )
    await _count(journal, +1)


async def _edit(journal: Journal, limit: RateLimit, most: int, actor: str) -> RateLimit:
    if limit.limit == most:
        return limit
    edited = msgspec.structs.replace(limit, limit=most, version=limit.version + 1)
    key = f"{edited.limit_id}@{edited.version}"
    journal.post("rate_limit_set", actor=actor, facts=msgspec.to_builtins(edited), key=key, policy=True)
    await journal.tx.execute(
        "UPDATE rate_limits SET most = ?, version = ? WHERE customer = ? AND limit_id = ?",
        (edited.limit, edited.version, journal.customer, edited.limit_id),
    )
    return edited


async def _count(journal: Journal, change: int) -> None:
    journal.rate_limits += change
    await journal.tx.execute(
        "UPDATE customers SET rate_limits = ? WHERE customer = ?", (journal.rate_limits, journal.customer)
    )
