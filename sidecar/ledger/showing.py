"""Rows of the book as the views that people and the API see.

What is shown is true at an instant: a grant that has expired shows nothing available, whether
or not its expiry was written yet (L3, L10).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.core.credits.burn_order import NEVER_MS, burn_key
from sidecar.core.credits.entries import Balance, Entry
from sidecar.core.governance.budgets import Budget, budget_account
from sidecar.core.governance.limits import Cadence, Period
from sidecar.core.governance.overdrafts import overdraft_of
from sidecar.core.governance.periods import Zones, period_at
from sidecar.core.governance.tenancy import Node, format_path
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import Rejected
from sidecar.ledger.journal import balance_of
from sidecar.ledger.parts import PAID_OUT, WHOLE, Part
from sidecar.ledger.policies import budget_of, grant_of
from sidecar.ledger.timezones import zones_of
from sidecar.ledger.usage_facts import UsageBody, UsageFacts
from sidecar.ledger.views import (
    BudgetChildView,
    BudgetView,
    CustomerView,
    EntryView,
    FrozenView,
    GrantView,
    Leg,
    Money,
    NodeView,
    UsageView,
    money,
)
from sidecar.ledger.windows import child_of, running_windows, window_of
from sidecar.ports import Row, Transaction

MAX_CHILDREN_SHOWN = 100
MAX_FROZEN_SHOWN = 1000

ALWAYS_SHOWN = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
"""Counters that a usage shows also where the provider did not say them: null is not zero (L5)."""


class Shower:
    """Makes views; knows how the currencies are written."""

    def __init__(self, rates: RateBook) -> None:
        self._currencies = rates.currencies

    def money(self, atoms: int, code: str) -> Money:
        """An amount for showing; one in a currency that the catalog has dropped is shown in atoms."""
        return money(atoms, self._currencies.get(code) or Currency(code, 0))

    def customer(self, row: Row) -> CustomerView:
        """The customer in a row of `customers`."""
        return customer_view(row["customer"], row["wallet"], row["created_at_ms"], row["head_sequence"], zones_of(row))

    async def nodes(
        self, tx: Transaction, customer: str, *, below: tuple[Node, ...] = (), part: Part = WHOLE
    ) -> list[NodeView]:
        """The tree, or a node and all below it, parents before children: a parent's path begins its child's."""
        root = format_path(below)
        rows = await tx.fetch(
            "SELECT n.kind, n.id, n.path, n.created_at_ms, f.node FROM nodes AS n LEFT JOIN frozen AS f"
            " ON f.customer = n.customer AND f.node = n.kind || ':' || n.id WHERE n.customer = ?"
            " AND (? = '' OR n.path = ? OR (n.path >= ? AND n.path < ?)) AND n.path > ? ORDER BY n.path LIMIT ?",
            (customer, root, root, f"{root}/", f"{root}0", part.after.partition("/")[2], part.limit),  # `0` follows `/`
        )
        return [
            NodeView(
                customer,
                f"{customer}/{row['path']}",
                row["kind"],
                row["id"],
                row["created_at_ms"],
                frozen=row["node"] is not None,
            )
            for row in rows
        ]

    async def frozen(self, tx: Transaction, customer: str, node: str) -> FrozenView:
        """Whether a node (`kind:id`, or `` for the customer itself) is frozen, by itself."""
        rows = await tx.fetch("SELECT * FROM frozen WHERE customer = ? AND node = ?", (customer, node))
        return _frozen(rows[0]) if rows else FrozenView(customer, whole_path(customer, node), frozen=False)

    async def all_frozen(self, tx: Transaction, customer: str) -> list[FrozenView]:
        """All that is frozen by itself, the customer first; at most MAX_FROZEN_SHOWN."""
        rows = await tx.fetch(
            "SELECT * FROM frozen WHERE customer = ? ORDER BY node LIMIT ?", (customer, MAX_FROZEN_SHOWN)
        )
        return list(map(_frozen, rows))

    async def grants(
        self, tx: Transaction, customer: str, now_ms: int, grant_id: str = "", *, part: Part = WHOLE
    ) -> list[GrantView]:
        """All grants (or one, or some) in burn order; those that can pay no more, last.

        `part.after` is what `grant_place` says of a grant.

        Raises:
            Rejected: the grant behind which to go on is not there.
        """
        rows = await tx.fetch(
            "SELECT * FROM (SELECT g.*, a.source, a.available, a.held, a.leased, a.consumed, a.expired, a.revoked,"
            " a.unaccounted, CASE WHEN a.held + a.leased = 0 AND (a.available = 0 OR g.expires_at_ms <= ?) THEN 1"
            " ELSE 0 END AS paid_out, COALESCE(g.expires_at_ms, ?) AS ends_at_ms,"
            " CASE g.category WHEN 'promotional' THEN 0 ELSE 1 END AS paid_for FROM grants AS g"
            " JOIN accounts AS a ON a.customer = g.customer AND a.account = 'grant:' || g.grant_id"
            " WHERE g.customer = ? AND (? = '' OR g.grant_id = ?)) AS lots"
            " WHERE (paid_out, priority, ends_at_ms, paid_for, effective_at_ms, sequence) > (?, ?, ?, ?, ?, ?)"
            " ORDER BY paid_out, priority, ends_at_ms, paid_for, effective_at_ms, sequence LIMIT ?",
            (now_ms, NEVER_MS, customer, grant_id, grant_id, *await self._behind(tx, customer, part.after), part.limit),
        )
        voided = {row["grant_id"] for row in rows if row["voided"]}
        grants = [(grant_of(row), at_instant(balance_of(row), row["expires_at_ms"], now_ms)) for row in rows]
        return [
            GrantView(
                customer=customer,
                grant_id=grant.grant_id,
                category=grant.category.value,
                priority=grant.priority,
                issued=self.money(grant.issued_atoms, grant.currency),
                available=self.money(balance.available, grant.currency),
                held=self.money(balance.held, grant.currency),
                leased=self.money(balance.leased, grant.currency),
                consumed=self.money(balance.consumed, grant.currency),
                expired=self.money(balance.expired, grant.currency),
                revoked=self.money(balance.revoked, grant.currency),
                unaccounted=self.money(balance.unaccounted, grant.currency),
                effective_at_ms=grant.effective_at_ms,
                expires_at_ms=grant.expires_at_ms,
                models=grant.models,
                features=grant.features,
                live=grant.is_live(now_ms) and grant.grant_id not in voided,
                voided=grant.grant_id in voided,
            )
            for grant, balance in grants
        ]

    async def _behind(self, tx: Transaction, customer: str, place: str) -> tuple[int, ...]:
        """What a grant is sorted by, of the one at a place; of `` what comes before all."""
        if not place:
            return (-1, 0, 0, 0, 0, 0)
        state, _, grant_id = place.partition(":")
        rows = await tx.fetch("SELECT * FROM grants WHERE customer = ? AND grant_id = ?", (customer, grant_id))
        if not rows:
            raise Rejected("invalid_cursor", {"cursor": "the list has changed; begin it again"})
        priority, ends_at_ms, *others = burn_key(grant_of(rows[0]))
        return (int(state == PAID_OUT), priority, ends_at_ms, *map(int, others))

    async def budgets(
        self, tx: Transaction, customer: str, now_ms: int, zones: Zones, budget_id: str = "", *, part: Part = WHOLE
    ) -> list[BudgetView]:
        """All budgets (or one, or some), outermost node first, with their accounts in the current period.

        Raises:
            Rejected: the budget behind which to go on is not there any more.
        """
        place = (-1, 0)
        if part.after:
            sql = "SELECT depth, sequence FROM budgets WHERE customer = ? AND budget_id = ?"
            before = await tx.fetch(sql, (customer, part.after))
            if not before:
                raise Rejected("invalid_cursor", {"cursor": "the list has changed; begin it again"})
            place = (before[0]["depth"], before[0]["sequence"])
        rows = await tx.fetch(
            "SELECT * FROM budgets WHERE customer = ? AND (? = '' OR budget_id = ?) AND (depth, sequence) > (?, ?)"
            " ORDER BY depth, sequence LIMIT ?",
            (customer, budget_id, budget_id, *place, part.limit),
        )
        budgets = [(budget_of(row), row["path"]) for row in rows]
        return [
            msgspec.structs.replace(
                self._budget(customer, budget, path, await self._accounts(tx, customer, budget, now_ms, zones)),
                **await self._overdraft(tx, customer, budget, now_ms, zones),
            )
            for budget, path in budgets
        ]

    async def _overdraft(
        self, tx: Transaction, customer: str, budget: Budget, now_ms: int, zones: Zones
    ) -> dict[str, Money]:
        """A budget's overdraft in this period, as `BudgetView` has it; nothing where there is none (L47)."""
        overdraft = overdraft_of(budget)
        if overdraft is None:
            return {}
        account = budget_account(overdraft.budget_id, "", period_at(budget.calendar(zones), now_ms))
        sql = "SELECT consumed, leased FROM accounts WHERE customer = ? AND account = ?"
        rows = await tx.fetch(sql, (customer, account))
        used, leased = (rows[0]["consumed"], rows[0]["leased"]) if rows else (0, 0)
        atoms = {
            "grace": overdraft.limit_atoms,
            "grace_used": used,
            "grace_leased": leased,
            "grace_remaining": max(0, overdraft.limit_atoms - used - leased),
        }
        return {name: self.money(amount, budget.currency) for name, amount in atoms.items()}

    async def _accounts(
        self, tx: Transaction, customer: str, budget: Budget, now_ms: int, zones: Zones
    ) -> list[tuple[str, Period, Row]]:
        """Those of periods that run, each with its child: MAX_CHILDREN_SHOWN, and one more if there is."""
        if budget.cadence is Cadence.WINDOW:
            rows = await tx.fetch(
                "SELECT * FROM accounts WHERE customer = ? AND account >= ? AND account < ?"
                " AND substr(account, length(account) - 12) > ? ORDER BY account LIMIT ?",
                (customer, *running_windows(budget, now_ms), MAX_CHILDREN_SHOWN + 1),
            )
            return [(child_of(row["account"]), window_of(row["account"], budget), row) for row in rows]
        period = period_at(budget.calendar(zones), now_ms)
        prefix = budget_account(budget.budget_id, "", period)
        rows = await tx.fetch(
            "SELECT * FROM accounts WHERE customer = ? AND account >= ? AND account < ? ORDER BY account LIMIT ?",
            (customer, prefix, prefix[:-1] + ";", MAX_CHILDREN_SHOWN + 1),  # `;` follows `:`
        )
        return [(row["account"].removeprefix(prefix), period, row) for row in rows]

    def _budget(
        self, customer: str, budget: Budget, path: str, accounts: Sequence[tuple[str, Period, Row]]
    ) -> BudgetView:
        children = tuple(
            BudgetChildView(
                child=child,
                used=self.money(row["consumed"], budget.currency),
                leased=self.money(row["leased"], budget.currency),
                remaining=self.money(
                    max(0, budget.limit_atoms - row["consumed"] - row["leased"] - row["unaccounted"]), budget.currency
                ),
                period=period.key,
                starts_at_ms=period.starts_at_ms,
                resets_at_ms=period.ends_at_ms,
            )
            for child, period, row in accounts[:MAX_CHILDREN_SHOWN]
        )
        return BudgetView(
            customer=customer,
            budget_id=budget.budget_id,
            path=path,
            limit=self.money(budget.limit_atoms, budget.currency),
            per=budget.cadence.value,
            match=budget.match,
            each=budget.each.value,
            hard=budget.hard,
            version=budget.version,
            children=children,
            more_children=len(accounts) > MAX_CHILDREN_SHOWN,
            clamp=budget.clamp,
            anchor=budget.anchor,
            kind=budget.kind.value,
            guardrail=budget.guardrail,
            window_s=budget.window_ms // 1000,
            on_outage=budget.on_outage.value,
        )

    def usage(self, body: UsageBody) -> UsageView:
        """A settled call."""
        facts = body.facts
        return UsageView(
            request_id=facts.request_id,
            sequence=body.sequence,
            recorded_at_ms=body.recorded_at_ms,
            occurred_at_ms=body.occurred_at_ms,
            customer=body.customer,
            path=whole_path(body.customer, facts.path),
            user=facts.user,
            agent=facts.agent,
            session=facts.session,
            feature=facts.feature,
            product=facts.product,
            provider=facts.provider,
            protocol=facts.protocol,
            model=facts.model,
            state=facts.state,
            status=facts.status,
            ending=facts.ending,
            usage=counters(facts),
            charge=None if facts.charge_atoms is None else self.money(facts.charge_atoms, facts.currency),
            flags=facts.flags,
        )


def customer_view(customer: str, wallet: str, created_at_ms: int, entries: int, zones: Zones) -> CustomerView:
    """A customer, with the time zone that was set last."""
    since_ms, timezone = zones[-1]
    return CustomerView(customer, wallet, created_at_ms, entries, timezone, since_ms)


def _frozen(row: Row) -> FrozenView:
    customer = row["customer"]
    return FrozenView(
        customer,
        whole_path(customer, row["node"]),
        frozen=True,
        frozen_at_ms=row["frozen_at_ms"],
        actor=row["actor"],
        reason=row["reason"],
    )


def at_instant(balance: Balance, expires_at_ms: int | None, now_ms: int) -> Balance:
    """A grant's balance as it is at an instant, although its expiry may not be written yet."""
    if expires_at_ms is None or now_ms < expires_at_ms:
        return balance
    return msgspec.structs.replace(balance, available=0, expired=balance.expired + balance.available)


def whole_path(customer: str, path: str) -> str:
    """A path as people write it, with its customer."""
    return f"{customer}/{path}" if path else customer


def counters(facts: UsageFacts) -> dict[str, object]:
    """A usage's token counters over all its lines, and its units."""
    total = facts.usage.total()
    said = {name: getattr(total, name) for name in total.__struct_fields__}
    shown: dict[str, object] = {n: value for n, value in said.items() if value is not None or n in ALWAYS_SHOWN}
    shown["units"] = dict(facts.usage.units)
    return shown


def entry_view(entry: Entry, digest: str) -> EntryView:
    """One line of the journal, with its hash."""
    return EntryView(
        entry.customer,
        entry.sequence,
        entry.kind,
        entry.key,
        entry.actor,
        entry.recorded_at_ms,
        entry.occurred_at_ms,
        tuple(Leg(leg.account, leg.bucket, leg.currency, leg.atoms) for leg in entry.legs),
        entry.facts,
        digest,
    )


def totals(currency: str, grants: Sequence[GrantView], others: Iterable[Balance]) -> tuple[int, int, int]:
    """Available, leased and consumed of a currency over grants and the accounts beside them."""
    mine = [grant for grant in grants if grant.issued.currency == currency]
    beside = sum(balance.consumed for balance in others if balance.currency == currency)
    return (
        sum(grant.available.atoms for grant in mine if grant.live),
        sum(grant.leased.atoms for grant in mine),
        sum(grant.consumed.atoms for grant in mine) + beside,
    )
