"""What can be read of the book: pages of it, one call's story, a customer's balance."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.core.credits.entries import read_body
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import NotFound, Rejected
from sidecar.ledger.journal import balance_of
from sidecar.ledger.showing import Shower, entry_view, totals, whole_path
from sidecar.ledger.usage_facts import read_usage
from sidecar.ledger.views import (
    BalanceView,
    BudgetView,
    CustomerView,
    EntryView,
    ExplainView,
    GrantView,
    NodeView,
    UsageView,
)
from sidecar.ports import Row, Transaction

MAX_PAGE = 1000
"""Rows of a page at most; asking for more gives this many."""


class Reader:
    """Reads within one snapshot; every method takes it as `tx`."""

    def __init__(self, rates: RateBook, currency: str) -> None:
        self._show = Shower(rates)
        self._currency = currency

    async def customers(self, tx: Transaction, after: str, limit: int) -> tuple[list[CustomerView], str]:
        """Customers by name."""
        size = page_size(limit)
        rows = await tx.fetch("SELECT * FROM customers WHERE customer > ? ORDER BY customer LIMIT ?", (after, size + 1))
        views = [self._show.customer(row) for row in rows[:size]]
        return views, views[-1].customer if len(rows) > size else ""

    async def nodes(self, tx: Transaction, customer: str) -> list[NodeView]:
        """The tree, parents before children."""
        await customer_row(tx, customer)
        return await self._show.nodes(tx, customer)

    async def grants(self, tx: Transaction, customer: str, wall_ms: int) -> list[GrantView]:
        """All grants in burn order, ended ones last."""
        return await self._show.grants(tx, customer, now_of(await customer_row(tx, customer), wall_ms))

    async def budgets(self, tx: Transaction, customer: str, wall_ms: int) -> list[BudgetView]:
        """All budgets, outermost node first."""
        return await self._show.budgets(tx, customer, now_of(await customer_row(tx, customer), wall_ms))

    async def balance(self, tx: Transaction, customer: str, wall_ms: int) -> BalanceView:
        """What a customer has, and what it has used with or without credit."""
        row = await customer_row(tx, customer)
        now_ms = now_of(row, wall_ms)
        grants = await self._show.grants(tx, customer, now_ms)
        rows = await tx.fetch(
            "SELECT * FROM accounts WHERE customer = ?"
            " AND (account >= 'counted:' AND account < 'counted;' OR account >= 'debt:' AND account < 'debt;')",
            (customer,),
        )
        beside = {one["account"]: balance_of(one) for one in rows}
        codes = {self._currency, *(grant.issued.currency for grant in grants), *(b.currency for b in beside.values())}
        sums = {code: totals(code, grants, beside.values()) for code in sorted(codes)}
        owed = {code: balance.consumed for code in sums if (balance := beside.get(f"debt:{code}")) is not None}
        return BalanceView(
            customer=customer,
            wallet=row["wallet"],
            available=tuple(self._show.money(sums[code][0], code) for code in sums),
            leased=tuple(self._show.money(sums[code][1], code) for code in sums),
            consumed=tuple(self._show.money(sums[code][2], code) for code in sums),
            debt=tuple(self._show.money(owed.get(code, 0), code) for code in sums),
            grants=tuple(grants),
            budgets=tuple(await self._show.budgets(tx, customer, now_ms)),
        )

    async def usage(
        self, tx: Transaction, customer: str, since_ms: int, after: str, limit: int
    ) -> tuple[list[UsageView], str]:
        """Settled calls recorded since an instant, in the order booked; the cursor is this method's own."""
        size = page_size(limit)
        rows = await usage_rows(tx, customer, since_ms, _cursor(after), size + 1)
        views = [self._show.usage(read_usage(row["body"])) for row in rows[:size]]
        if len(rows) <= size:
            return views, ""
        last = views[-1]
        return views, f"{last.recorded_at_ms}:{last.sequence}:{last.customer}"

    async def explain(self, tx: Transaction, request_id: str) -> ExplainView:
        """One settled call: what decided it, and what it cost."""
        rows = await tx.fetch(
            "SELECT body, hash FROM entries WHERE entry_key = ? AND kind = 'usage' LIMIT 1", (request_id,)
        )
        if not rows:
            raise NotFound("request", request_id)
        body = read_usage(rows[0]["body"])
        facts = body.facts
        subject = {
            "customer": body.customer,
            "path": whole_path(body.customer, facts.path),
            "user": facts.user,
            "agent": facts.agent,
            "session": facts.session,
            "feature": facts.feature,
            "product": facts.product,
        }
        ceiling, charge = facts.decision.ceiling_atoms, facts.charge_atoms
        return ExplainView(
            request_id=request_id,
            outcome="settled",
            customer=body.customer,
            subject={name: value for name, value in subject.items() if value},
            provider=facts.provider,
            model=facts.model,
            ceiling=None if ceiling is None else self._show.money(ceiling, facts.currency),
            held=self._show.money(facts.held_atoms, facts.currency),
            charge=None if charge is None else self._show.money(charge, facts.currency),
            decision=facts.decision.told(),
            usage=facts.usage,
            flags=facts.flags,
            entry=entry_view(read_body(rows[0]["body"]), rows[0]["hash"]),
        )

    async def entries(
        self, tx: Transaction, customer: str, after: int, kind: str, limit: int
    ) -> tuple[list[EntryView], int]:
        """The journal after a sequence number; `kind` `` for every kind."""
        await customer_row(tx, customer)
        size = page_size(limit)
        rows = await tx.fetch(
            "SELECT body, hash FROM entries WHERE customer = ? AND sequence > ? AND (? = '' OR kind = ?)"
            " ORDER BY sequence LIMIT ?",
            (customer, after, kind, kind, size + 1),
        )
        views = [entry_view(read_body(row["body"]), row["hash"]) for row in rows[:size]]
        return views, views[-1].sequence if len(rows) > size else 0


async def customer_row(tx: Transaction, customer: str) -> Row:
    """The row of a customer.

    Raises:
        NotFound: there is none.
    """
    rows = await tx.fetch("SELECT * FROM customers WHERE customer = ?", (customer,))
    if not rows:
        raise NotFound("customer", customer)
    return rows[0]


def now_of(row: Row, wall_ms: int) -> int:
    """The customer's time, which does not go back (L38)."""
    now_ms: int = max(wall_ms, row["last_recorded_at_ms"])
    return now_ms


def page_size(limit: int) -> int:
    """How many rows a page has."""
    return min(max(1, limit), MAX_PAGE)


async def first_since(tx: Transaction, customer: str, since_ms: int) -> int:
    """The first sequence number recorded at or after an instant; one past the last if there is none.

    Found by halving: a customer's entries are recorded in the order of their numbers, at
    instants that never go back.
    """
    low, high = 1, (await customer_row(tx, customer))["head_sequence"] + 1
    while low < high:
        middle = (low + high) // 2
        rows = await tx.fetch(
            "SELECT recorded_at_ms FROM entries WHERE customer = ? AND sequence = ?", (customer, middle)
        )
        if rows and rows[0]["recorded_at_ms"] >= since_ms:
            high = middle
        else:
            low = middle + 1
    return low


async def usage_rows(
    tx: Transaction, customer: str, since_ms: int, after: tuple[int, int, str], limit: int
) -> Sequence[Row]:
    """Bodies of settled calls recorded since an instant, in the order booked.

    Args:
        tx: the snapshot.
        customer: whose; of all customers where it is empty.
        since_ms: Unix milliseconds.
        after: where the page before ended: instant, sequence, customer.
        limit: rows at most.

    Raises:
        NotFound: there is no such customer.
    """
    at_ms, sequence, name = after
    if customer:
        await customer_row(tx, customer)
        first = max(sequence + 1, await first_since(tx, customer, since_ms))
        return await tx.fetch(
            "SELECT body FROM entries WHERE customer = ? AND sequence >= ? AND kind = 'usage'"
            " ORDER BY sequence LIMIT ?",
            (customer, first, limit),
        )
    return await tx.fetch(
        "SELECT body FROM entries WHERE kind = 'usage' AND recorded_at_ms >= ?"
        " AND (recorded_at_ms, customer, sequence) > (?, ?, ?)"
        " ORDER BY recorded_at_ms, customer, sequence LIMIT ?",
        (max(since_ms, at_ms), at_ms, name, sequence, limit),
    )


def _cursor(text: str) -> tuple[int, int, str]:
    """Where a page of usage ended: instant, sequence, customer; the beginning for ``."""
    if not text:
        return -1, 0, ""
    at_ms, _, rest = text.partition(":")
    sequence, _, customer = rest.partition(":")
    if not (at_ms.isascii() and at_ms.isdigit() and sequence.isascii() and sequence.isdigit()):
        raise Rejected("invalid_cursor", {"after": "a cursor that an earlier page gave"})
    return min(int(at_ms[:19]), 2**62), min(int(sequence[:19]), 2**62), customer
