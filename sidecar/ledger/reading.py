"""What can be read of the book: pages of it, one call's story, a customer's balance."""

from __future__ import annotations

from sidecar.core.credits.entries import read_body
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import NotFound
from sidecar.ledger import rate_acts
from sidecar.ledger.journal import balance_of
from sidecar.ledger.parts import WHOLE, Part
from sidecar.ledger.showing import Shower, entry_view, totals, whole_path
from sidecar.ledger.timezones import zones_of
from sidecar.ledger.usage_reading import FoundCall, calls_since, find_call, read_cursor
from sidecar.ledger.views import (
    BalanceView,
    BudgetView,
    CustomerView,
    EntryView,
    ExplainView,
    FrozenView,
    GrantView,
    Leg,
    NodeView,
    RateLimitView,
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
        rows = await tx.fetch(
            "SELECT * FROM customers WHERE customer > ? AND substr(customer, 1, 1) <> '_' ORDER BY customer LIMIT ?",
            (after, size + 1),
        )
        views = [self._show.customer(row) for row in rows[:size]]
        return views, views[-1].customer if len(rows) > size else ""

    async def customer(self, tx: Transaction, customer: str) -> CustomerView:
        """One customer."""
        return self._show.customer(await customer_row(tx, customer))

    async def nodes(self, tx: Transaction, customer: str, part: Part = WHOLE) -> list[NodeView]:
        """The tree, parents before children."""
        await customer_row(tx, customer)
        return await self._show.nodes(tx, customer, part=part)

    async def frozen(self, tx: Transaction, customer: str) -> list[FrozenView]:
        """All that is frozen by itself."""
        await customer_row(tx, customer)
        return await self._show.all_frozen(tx, customer)

    async def grants(self, tx: Transaction, customer: str, wall_ms: int, part: Part = WHOLE) -> list[GrantView]:
        """All grants in burn order, ended ones last."""
        return await self._show.grants(tx, customer, now_of(await customer_row(tx, customer), wall_ms), part=part)

    async def rate_limits(self, tx: Transaction, customer: str) -> list[RateLimitView]:
        """All rate limits, in the order in which they were set."""
        await customer_row(tx, customer)
        return await rate_acts.shown(tx, customer)

    async def budgets(self, tx: Transaction, customer: str, wall_ms: int, part: Part = WHOLE) -> list[BudgetView]:
        """All budgets, outermost node first."""
        row = await customer_row(tx, customer)
        return await self._show.budgets(tx, customer, now_of(row, wall_ms), zones_of(row), part=part)

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
            budgets=tuple(await self._show.budgets(tx, customer, now_ms, zones_of(row))),
        )

    async def usage(
        self, tx: Transaction, customer: str, since_ms: int, after: str, limit: int
    ) -> tuple[list[UsageView], str]:
        """Settled calls recorded since an instant, in the order booked; the cursor is this method's own."""
        size = page_size(limit)
        calls = await calls_since(tx, customer, since_ms, read_cursor(after), size + 1)
        views = [self._show.usage(call.read()) for call in calls[:size]]
        return views, calls[size - 1].cursor if len(calls) > size else ""

    async def explain(
        self, tx: Transaction, request_id: str, customer: str = "", *, evenly: bool = False
    ) -> ExplainView:
        """One settled call, of a customer or (``) of any: what decided it, and what it cost.

        `evenly`: where there is none, another call of the customer is read in its place and thrown away, so that
        an asker to whom a call is not shown cannot tell by the time whether it is there (S-34).

        Raises:
            NotFound: no call that was settled has this id.
        """
        found = await find_call(tx, request_id, customer, evenly=evenly)
        if found is None:
            raise NotFound("request", request_id)
        call, row, is_it = found
        view = self._explained(request_id, call, row)
        if not is_it:
            raise NotFound("request", request_id)
        return view

    def _explained(self, request_id: str, call: FoundCall, row: Row) -> ExplainView:
        body = call.read()
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
            legs=tuple(Leg(*leg) for leg in call.legs()),
            entry=entry_view(read_body(row["body"]), row["hash"]),
            protocol=facts.protocol,
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
