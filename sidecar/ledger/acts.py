"""What people do to the ledger: customers, nodes, grants, budgets. Each act is an entry with its actor."""

from __future__ import annotations

import msgspec

from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.credits.grants import Category, Grant
from sidecar.core.governance.budgets import Budget, Each, Kind, grant_account
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.local_time import local_at, zone_called
from sidecar.core.governance.standing import Wallet
from sidecar.core.governance.tenancy import Node, format_path
from sidecar.core.pricing.rate_cards import RateBook
from sidecar.errors import Conflict, Rejected
from sidecar.ledger import backfill, budget_kinds, forms, timezones, virtual_keys
from sidecar.ledger.administration import Act, NewBudget, NewGrant, NewKey
from sidecar.ledger.budget_accounts import BudgetAccounts
from sidecar.ledger.conditions import UNCONDITIONAL, Condition
from sidecar.ledger.doing import Done, do, known, place
from sidecar.ledger.idempotency import Asked
from sidecar.ledger.journal import Journal
from sidecar.ledger.options import LedgerOptions
from sidecar.ledger.policies import Path, budget_of, load_paths
from sidecar.ledger.purse import MAX_LIVE_GRANTS, Purse
from sidecar.ledger.showing import Shower, customer_view, whole_path
from sidecar.ledger.views import BudgetView, CustomerView, GrantView, KeyView, NodeView
from sidecar.ports import Ids, Transaction

MAX_BUDGETS = 10_000
"""Budgets of one customer."""


class Acts:
    """The acts, each within one transaction on its customer's book."""

    def __init__(self, ids: Ids, rates: RateBook, options: LedgerOptions) -> None:
        self._ids = ids
        self._rates = rates
        self._options = options
        self._show = Shower(rates)

    async def add_customer(self, tx: Transaction, wall_ms: int, customer: str, wallet: str, act: Act) -> Done:
        """Make a customer, or give back the one that is there."""
        kind = forms.customer(customer, wallet or Wallet.REQUIRED.value)

        async def effect(journal: Journal | None) -> CustomerView:
            if journal is None:
                journal = await Journal.begin(tx, customer, kind, wall_ms)
                journal.act = act
                journal.post("customer_added", actor=act.actor, facts={"wallet": kind.value}, policy=True)
                await journal.write()
            elif wallet and journal.wallet is not kind:
                raise Conflict(f"customer {customer!r} exists, with wallet {journal.wallet.value!r}")
            return _customer(journal)

        asked = Asked(customer, "add_customer", act, {"wallet": wallet})
        return await do(tx, wall_ms, asked, effect, CustomerView)

    async def set_timezone(self, tx: Transaction, wall_ms: int, customer: str, timezone: str, act: Act) -> Done:
        """Let periods that are yet to begin follow another time zone's calendar (L37); without a budget, all."""
        forms.timezone(customer, timezone)

        async def effect(journal: Journal | None) -> CustomerView:
            journal = known(journal, customer)
            told = await tx.fetch("SELECT 1 AS one FROM budgets WHERE customer = ? LIMIT 1", (customer,))
            zones = timezones.changed(journal.zones, timezone, journal.now_ms) if told else ((0, timezone),)
            if zones != journal.zones:
                journal.post("timezone_set", actor=act.actor, facts={"timezone": timezone}, policy=True)
                await tx.execute(
                    "UPDATE customers SET timezones = ? WHERE customer = ?", (timezones.write(zones), customer)
                )
                journal.zones = zones
                await journal.write()
            return _customer(journal)

        asked = Asked(customer, "set_timezone", act, {"timezone": timezone})
        return await do(tx, wall_ms, asked, effect, CustomerView)

    async def add_nodes(self, tx: Transaction, wall_ms: int, path: str, act: Act) -> Done:
        """Make the nodes of a path that are not there yet."""
        customer, nodes = forms.path(path)

        async def effect(journal: Journal | None) -> list[NodeView]:
            journal = known(journal, customer)
            paths = await load_paths(tx, customer, nodes)
            new: list[Path] = []
            for depth, node in enumerate(nodes, start=1):
                if node not in paths:
                    new.append(nodes[:depth])
                elif paths[node] != nodes[:depth]:
                    there = whole_path(customer, format_path(paths[node]))
                    raise Conflict(f"node {str(node)!r} exists, at {there!r}")
            if new:
                await tx.execute_many(
                    "INSERT INTO nodes (customer, kind, id, path, created_at_ms) VALUES (?, ?, ?, ?, ?)",
                    [(customer, one[-1].kind, one[-1].id, format_path(one), journal.now_ms) for one in new],
                )
                facts: dict[str, object] = {"paths": [format_path(one) for one in new]}
                journal.post("nodes_added", actor=act.actor, facts=facts, policy=True)
                await journal.write()
            named = set(nodes)
            return [view for view in await self._show.nodes(tx, customer) if Node(view.kind, view.id) in named]

        asked = Asked(customer, "add_nodes", act, {"path": path})
        return await do(tx, wall_ms, asked, effect, list[NodeView])

    async def add_grant(self, tx: Transaction, wall_ms: int, form: NewGrant, act: Act) -> Done:
        """Issue a grant; debt is repaid from it at once (L17)."""
        atoms = forms.grant(form, self._rates.currencies)

        async def effect(journal: Journal | None) -> GrantView:
            journal = known(journal, form.customer)
            effective_at_ms = journal.now_ms if form.effective_at_ms is None else form.effective_at_ms
            if form.expires_at_ms is not None and form.expires_at_ms <= max(effective_at_ms, journal.now_ms):
                raise Rejected("invalid_field", {"expires_at_ms": "an instant after now and after effective_at_ms"})
            purse = await Purse.open(journal)
            if purse.funded >= MAX_LIVE_GRANTS:
                raise Rejected("too_many_grants", {"customer": f"at most {MAX_LIVE_GRANTS} unspent grants at a time"})
            grant = Grant(
                self._ids.new("grant"),
                form.currency,
                atoms,
                effective_at_ms,
                journal.head_sequence + 1,
                expires_at_ms=form.expires_at_ms,
                category=Category(form.category),
                priority=form.priority,
                models=form.models,
                features=form.features,
            )
            moves = Moves()
            account = grant_account(grant.grant_id)
            await journal.load_accounts([account])
            moves.move(account, grant.currency, Bucket.SOURCE, Bucket.AVAILABLE, atoms)
            journal.post(
                "grant_issued",
                actor=act.actor,
                moves=moves,
                facts=msgspec.to_builtins(grant),
                key=grant.grant_id,
                policy=True,
            )
            await _insert_grant(tx, journal.customer, grant)
            purse.add(grant)
            await purse.repay(grant.currency)
            await journal.write()
            return (await self._show.grants(tx, journal.customer, journal.now_ms, grant.grant_id))[0]

        asked = Asked(form.customer, "add_grant", act, msgspec.structs.asdict(form))
        return await do(tx, wall_ms, asked, effect, GrantView)

    async def set_budget(
        self, tx: Transaction, wall_ms: int, form: NewBudget, act: Act, condition: Condition = UNCONDITIONAL
    ) -> Done:
        """Set a budget, or change limit, hardness, clamping and kind of the one that is there."""
        customer, named, limit_atoms, outage = forms.budget(form, self._rates.currencies)

        async def effect(journal: Journal | None) -> BudgetView:
            journal = known(journal, customer)
            whole = await place(tx, customer, named)
            node = whole[-1] if whole else None
            match = msgspec.json.encode(form.match, order="sorted").decode()
            rows = await tx.fetch(
                "SELECT * FROM budgets WHERE customer = ? AND node = ? AND match = ? AND each_child = ?"
                " AND cadence = ? AND currency = ? AND guardrail = ? AND window_ms = ?",
                (
                    *(customer, str(node or ""), match, form.each, form.per, form.currency),
                    *(int(form.guardrail), form.window_s * 1000),
                ),
            )
            if rows:
                budget = budget_of(rows[0])
                if form.anchor not in ("", budget.anchor):
                    there = f"{budget.anchor!r}" if budget.anchor else "the calendar's own beginning"
                    raise Conflict(f"this budget's periods are counted from {there}, and were told so; say no other")
                on_outage, grace_atoms = outage or forms.outage_kept(form, budget)
                edited = msgspec.structs.replace(
                    budget,
                    limit_atoms=limit_atoms,
                    hard=form.hard,
                    clamp=form.clamp,
                    kind=Kind(form.kind or budget.kind),
                    on_outage=on_outage,
                    grace_atoms=grace_atoms,
                )
                condition.check("this budget", budget.version, changes=edited != budget)
                if edited != budget:
                    budget = msgspec.structs.replace(edited, version=budget.version + 1)
                    await _edit_budget(journal, budget, act.actor)
            else:
                condition.check("this budget", None, changes=False)
                on_outage, grace_atoms = outage or forms.NO_GRACE
                budget = Budget(
                    self._ids.new("bud"),
                    form.currency,
                    limit_atoms,
                    Cadence(form.per),
                    node=node,
                    match=form.match,
                    each=Each(form.each),
                    hard=form.hard,
                    thresholds_percent=self._options.thresholds_percent,
                    clamp=form.clamp,
                    anchor=form.anchor or _first_anchor(journal, Cadence(form.per)),
                    kind=Kind(form.kind or Kind.CAP),
                    guardrail=form.guardrail,
                    window_ms=form.window_s * 1000,
                    on_outage=on_outage,
                    grace_atoms=grace_atoms,
                )
                await _new_budget(journal, budget, whole, act.actor)
            if form.guardrail:
                await budget_kinds.check_guardrail(tx, customer, self._show, budget)
            else:
                await budget_kinds.check_allocations(tx, customer, self._show, budget)
                for guardrail in await budget_kinds.lowered_guardrails(tx, customer, budget):
                    await _edit_budget(journal, guardrail, act.actor)
            await journal.write()
            return (await self._show.budgets(tx, customer, journal.now_ms, journal.zones, budget.budget_id))[0]

        asked = Asked(customer, "set_budget", act, msgspec.structs.asdict(form))
        return await do(tx, wall_ms, asked, effect, BudgetView)

    async def add_key(self, tx: Transaction, wall_ms: int, form: NewKey, act: Act) -> Done:
        """Take a virtual key; the nodes that it names must exist."""
        subject = forms.key(form)

        async def effect(journal: Journal | None) -> KeyView:
            journal = known(journal, subject.customer)
            await place(tx, subject.customer, subject.path)
            view = await virtual_keys.create(journal, form, subject, key_id=self._ids.new("key"), actor=act.actor)
            await journal.write()
            return view

        asked = Asked(subject.customer, "add_key", act, msgspec.structs.asdict(form))
        return await do(tx, wall_ms, asked, effect, KeyView)

    async def revoke_key(self, tx: Transaction, wall_ms: int, customer: str, key_id: str, act: Act) -> Done:
        """Revoke a virtual key; twice is once."""

        async def effect(journal: Journal | None) -> KeyView:
            journal = known(journal, customer)
            view = await virtual_keys.revoke(journal, key_id, actor=act.actor)
            await journal.write()
            return view

        return await do(tx, wall_ms, Asked(customer, "revoke_key", act, {"key_id": key_id}), effect, KeyView)


def _customer(journal: Journal) -> CustomerView:
    return customer_view(
        journal.customer, journal.wallet.value, journal.created_at_ms, journal.head_sequence, journal.zones
    )


def _first_anchor(journal: Journal, per: Cadence) -> str:
    """Of an anniversary: the local day on which the customer was added."""
    if per is not Cadence.ANNIVERSARY:
        return ""
    return local_at(journal.created_at_ms, zone_called(journal.zones[-1][1])).date().isoformat()


async def _insert_grant(tx: Transaction, customer: str, grant: Grant) -> None:
    await tx.execute(
        "INSERT INTO grants (customer, grant_id, currency, issued_atoms, effective_at_ms, expires_at_ms, category,"
        " priority, models, features, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            customer,
            grant.grant_id,
            grant.currency,
            grant.issued_atoms,
            grant.effective_at_ms,
            grant.expires_at_ms,
            grant.category.value,
            grant.priority,
            msgspec.json.encode(grant.models).decode(),
            msgspec.json.encode(grant.features).decode(),
            grant.sequence,
        ),
    )


async def _new_budget(journal: Journal, budget: Budget, whole: Path, actor: str) -> None:
    counted = await journal.tx.fetch("SELECT count(*) AS n FROM budgets WHERE customer = ?", (journal.customer,))
    if counted[0]["n"] >= MAX_BUDGETS:
        raise Rejected("too_many_budgets", {"path": f"a customer has at most {MAX_BUDGETS} budgets"})
    sequence = journal.post(
        "budget_set", actor=actor, facts=msgspec.to_builtins(budget), key=f"{budget.budget_id}@1", policy=True
    )
    await journal.tx.execute(
        "INSERT INTO budgets (customer, budget_id, node, depth, path, match, each_child, currency, cadence,"
        " limit_atoms, hard, on_outage, thresholds, version, sequence, clamp, anchor, kind, guardrail, window_ms,"
        " grace_atoms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            journal.customer,
            budget.budget_id,
            str(budget.node or ""),
            len(whole),
            whole_path(journal.customer, format_path(whole)),
            msgspec.json.encode(budget.match, order="sorted").decode(),
            budget.each.value,
            budget.currency,
            budget.cadence.value,
            budget.limit_atoms,
            int(budget.hard),
            budget.on_outage.value,
            msgspec.json.encode(budget.thresholds_percent).decode(),
            budget.version,
            sequence,
            int(budget.clamp),
            budget.anchor,
            budget.kind.value,
            int(budget.guardrail),
            budget.window_ms,
            budget.grace_atoms,
        ),
    )
    await backfill.count_period(journal, budget)


async def _edit_budget(journal: Journal, budget: Budget, actor: str) -> None:
    """Change limit, hardness, clamping, kind; accounts follow when next touched, their alerts at once (L53)."""
    journal.post(
        "budget_set",
        actor=actor,
        facts=msgspec.to_builtins(budget),
        key=f"{budget.budget_id}@{budget.version}",
        policy=True,
    )
    await journal.tx.execute(
        "UPDATE budgets SET limit_atoms = ?, hard = ?, clamp = ?, kind = ?, on_outage = ?, grace_atoms = ?, version = ?"
        " WHERE customer = ? AND budget_id = ?",
        (
            budget.limit_atoms,
            int(budget.hard),
            int(budget.clamp),
            budget.kind.value,
            budget.on_outage.value,
            budget.grace_atoms,
            budget.version,
            journal.customer,
            budget.budget_id,
        ),
    )
    await BudgetAccounts(journal, [budget]).follow_edit(budget)
