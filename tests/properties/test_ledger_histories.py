"""Random histories of a customer and its sidecars, against the rules written down plainly.

Grants and budgets come, change and end, nodes move, freeze and thaw, sidecars borrow, spend, overrun,
return, die and report late, twice and out of order, while the clock passes over expiries and ends of
periods. Every answer is held against the reference at once; every CHECK_EVERY steps and at the end, the
ledger must agree with it on every atom, and its book with itself. The same histories run on every engine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.contract.messages import (
    CustomerPart,
    Holding,
    LeaseGrant,
    LeaseReport,
    RegisterRequest,
    ResolveReply,
    ResolveRequest,
    SyncRequest,
    UsageEvent,
    lease_account,
)
from sidecar.core.credits.grants import Grant
from sidecar.core.credits.holds import split_charge
from sidecar.core.credits.leases import spendable
from sidecar.core.governance.budgets import Budget, Each, applies
from sidecar.core.governance.limits import Cadence
from sidecar.core.governance.tenancy import Node, Subject, format_path, parse_path
from sidecar.errors import Rejected
from sidecar.ledger.administration import Act, BudgetRemoval, GrantVoid, NewBudget, NewGrant, NodeAct, NodeMove
from sidecar.ledger.views import BudgetView
from tests.support.engines import POSTGRES, SQLITE, STUMBLING, book_on
from tests.support.ledger import PROVIDER, Desk, usd
from tests.support.reference_ledger import LentOut, Lot, ReferenceLedger

T = TypeVar("T")
CHECK_EVERY = 20
TREE = ("department:a/team:b", "department:c", "region:d")
DEPARTMENT, TEAM = parse_path("department:a"), parse_path("team:b")
SUBJECTS = [Subject("acme", TEAM, user="ada"), Subject("acme", DEPARTMENT, user="bob"), Subject("acme", agent="x-1")]
"""As they name themselves: by their innermost node."""
OWNERS = ["acme", "acme", "acme/department:a", "acme/department:c", "acme/team:b", "acme/user:ada"]
MODELS = ["gpt-4o", "claude"]
atoms = st.integers(1, 120)
limits = st.one_of(st.integers(0, 300), st.integers(100, 2000))


@dataclass
class Holder:
    """A sidecar as the ledger sees it: what it was granted, and what it did with it."""

    name: str
    run: int = 1
    granted: dict[str, int] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    open: list[UsageEvent] = field(default_factory=list)
    outbox: list[UsageEvent] = field(default_factory=list)
    reports: list[LeaseReport] = field(default_factory=list)

    @property
    def incarnation(self) -> str:
        return f"{self.name}-{self.run}"

    def free(self, lease: str) -> int:
        """What it may still hold on a lease."""
        return 0 if lease in self.closed else spendable(*self.totals(lease))

    def left(self, lease: str) -> int:
        """The same, below zero where it charged more than it was lent."""
        granted, *used = self.totals(lease)
        return granted - sum(used)

    def totals(self, lease: str) -> list[int]:
        return [one.get(lease, 0) for one in (self.granted, self.returned, self.spent, self.held)]

    def move_held(self, leases: list[tuple[str, int]], sign: int) -> None:
        for lease, part in leases:
            self.held[lease] = self.held.get(lease, 0) + sign * part


class Histories(RuleBasedStateMachine):
    """The machine; each rule is something that happens in the world."""

    engine = SQLITE

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.desk = Desk(self.do(self.stack.enter_async_context(book_on(self.engine, self.folder))))
        self.steps = 0
        self.holders = [Holder("s1"), Holder("s2")]
        self.requests = 0

    def teardown(self) -> None:
        try:
            if self.steps:
                self.check()
        finally:
            self.do(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.folder)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(required=st.booleans(), limit=st.integers(100, 500), amounts=st.lists(st.integers(50, 300), max_size=3))
    def begin(self, required: bool, limit: int, amounts: list[int]) -> None:
        self.model = ReferenceLedger(required, self.desk.clock.wall_ms())
        service = self.desk.service
        self.do(service.add_customer("acme", "required" if required else "none", self.desk.act()))
        for path in map(parse_path, TREE):
            self.do(service.add_nodes(f"acme/{format_path(path)}", self.desk.act()))
            self.model.tree |= {node: path[: depth + 1] for depth, node in enumerate(path)}
        for holder in self.holders:
            self.do(service.register(RegisterRequest(holder.name, holder.incarnation)))
        self.budget("acme", limit, "day", "", {}, True)
        for owner in ("acme/department:a", "acme/region:d"):
            self.budget(owner, limit, "lifetime", "", {}, False)
        for amount in amounts:
            self.grant(amount, 30, None, 0, "paid", ())

    @rule(
        amount=st.integers(20, 400),
        lasts_h=st.sampled_from([None, 1, 30]),
        begins_h=st.sampled_from([None, 2]),
        priority=st.integers(0, 1),
        category=st.sampled_from(["paid", "promotional"]),
        models=st.sampled_from([(), ("gpt*",), ("claude",)]),
    )
    def grant(
        self,
        amount: int,
        lasts_h: int | None,
        begins_h: int | None,
        priority: int,
        category: str,
        models: tuple[str, ...],
    ) -> None:
        """Credit is issued; asked for twice with one key, it is issued once (L27)."""
        now = self.desk.clock.wall_ms()
        form = NewGrant(
            "acme",
            usd(amount),
            category=category,
            priority=priority,
            effective_at_ms=None if begins_h is None else now + begins_h * 3_600_000,
            expires_at_ms=None if lasts_h is None else now + (lasts_h + (begins_h or 0)) * 3_600_000,
            models=models,
        )
        act = Act("ada", f"grant-{now}-{len(self.model.lots)}")
        first, again = (self.do(self.desk.service.add_grant(form, act)) for _ in range(2))
        assert first == again
        self.model.tick()
        (issued,) = (
            entry.facts
            for entry in self.do(self.desk.service.entries("acme", after=0, kind="grant_issued", limit=1000))[0]
            if entry.key == first.grant_id
        )
        self.model.lots[first.grant_id] = Lot(msgspec.convert(issued, Grant))
        self.model.tick()

    @rule(
        path=st.sampled_from(
            ["acme", "acme", "acme/department:a", "acme/department:c", "acme/team:b", "acme/user:ada"]
        ),
        limit=limits,
        per=st.sampled_from(["day", "day", "hour", "week", "month", "lifetime"]),
        each=st.sampled_from(["", "", "user"]),
        match=st.sampled_from([{}, {}, {}, {"model": "gpt*"}, {"agent": "x-*", "model": "*-*"}]),
        hard=st.booleans(),
    )
    def budget(self, path: str, limit: int, per: str, each: str, match: dict[str, str], hard: bool) -> None:
        """A budget is set while its period runs (L31), or changed."""
        form = NewBudget(path, usd(limit), per, match=match, each=each, hard=hard)
        view = self.do(self.desk.service.set_budget(form, self.desk.act()))
        *_, last = path.split("/")
        kind, _, name = last.partition(":")
        self.model.budgets[view.budget_id] = Budget(
            view.budget_id,
            "usd",
            limit,
            Cadence(per),
            node=Node(kind, name) if name else None,
            match=match,
            each=Each(each),
            hard=hard,
        )

    @rule(data=st.data(), times=st.integers(1, 2), grants=st.booleans())
    def end(self, data: st.DataObject, times: int, grants: bool) -> None:
        """L15: a grant is voided; or a budget removed. With leases of it out or not, and twice is once."""
        names = sorted(self.model.lots if grants else self.model.budgets)
        if len(names) <= (not grants):  # one budget stays: without any nothing would be lent
            return
        name = data.draw(st.sampled_from(names))
        for _ in range(times):
            if grants:
                self.do(self.desk.service.void_grant(GrantVoid("acme", name, "a test"), self.desk.act()))
            else:
                self.do(self.desk.service.remove_budget(BudgetRemoval("acme", name, "a test"), self.desk.act()))
        if grants:
            self.model.void(self.model.lots[name])
        else:
            del self.model.budgets[name]

    @rule(zone=st.sampled_from(["UTC", "Asia/Kolkata", "America/Los_Angeles"]))
    def change_clocks(self, zone: str) -> None:
        """The customer's time zone is changed, which acts from each budget's next period on (L37)."""
        view = self.do(self.desk.service.set_timezone("acme", zone, self.desk.act()))
        if self.model.zones[-1][1] != zone:
            self.model.zones = (*self.model.zones, (view.timezone_set_at_ms, zone))

    @rule(
        node=st.sampled_from([*TEAM, *DEPARTMENT]),
        to=st.sampled_from(["", "department:a", "department:c", "region:d", "team:b"]),
        ends=st.booleans(),
    )
    def move(self, node: Node, to: str, ends: bool) -> None:
        """L35: a node is put elsewhere, calls of it being open and leases out; where it cannot stand it is refused.

        The open calls end right after it, or whenever they do.
        """
        target = self.model.tree[parse_path(to)[0]] if to else ()
        form = NodeMove(f"acme/{node}", f"acme/{to}".rstrip("/"), "a test")
        if self.model.move(node, target):
            self.do(self.desk.service.move_node(form, self.desk.act()))
        else:
            with pytest.raises(Rejected):
                self.do(self.desk.service.move_node(form, self.desk.act()))
        shown = {Node(view.kind, view.id): view.path for view in self.do(self.desk.service.nodes("acme"))}
        assert shown == {node: f"acme/{format_path(path)}" for node, path in self.model.tree.items()}
        for holder in self.holders if ends else []:
            while holder.open:
                self.finish(holder, holder.open.pop(), 100)
            self.sync(holder, holder.outbox[-4:], [])

    @rule(
        name=st.sampled_from(["", "department:a", "department:c", "team:b", "user:ada"]),
        frozen=st.booleans(),
        talks=st.booleans(),
    )
    def freeze(self, name: str, frozen: bool, talks: bool) -> None:
        """L35: something is frozen; or all is thawed, or too few calls would ever run. Twice is once.

        Some sidecars talk right after it, and have not heard of it yet.
        """
        for one in [name] if frozen else [name, *self.model.frozen]:
            form = NodeAct(f"acme/{one}".rstrip("/"), "a test")
            act = self.desk.service.freeze if frozen else self.desk.service.unfreeze
            assert self.do(act(form, self.desk.act())).frozen is frozen
        self.model.frozen = {*self.model.frozen, name} if frozen else set()
        for holder in self.holders if talks else []:
            self.sync(holder, [], self.wishes(holder))

    @rule(crowd=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(SUBJECTS), st.sampled_from(MODELS), atoms,
                               st.integers(0, 600)), min_size=1, max_size=4))  # fmt: skip
    def calls(self, crowd: list[tuple[int, Subject, str, int, int]]) -> None:
        """Some calls come."""
        for who, subject, model, need, demand in crowd:
            self.call(who, subject, model, need, demand)

    def call(self, who: int, subject: Subject, model: str, need: int, demand: int) -> None:
        """A call comes to a sidecar, which borrows what it lacks and, if it gets it, admits."""
        holder = self.holders[who]
        holdings = tuple(
            Holding(one, holder.left(one)) for one in holder.granted if one.startswith(holder.incarnation + "/")
        )
        request = ResolveRequest(
            holder.name, holder.incarnation, subject, model, PROVIDER, need, "usd", demand, holdings
        )
        subject = self.model.placed(subject)
        if self.model.is_frozen(subject):
            reply = self.do(self.desk.service.resolve(request))
            assert (reply.refusal, reply.leases, reply.standing) == ("node_frozen", (), None)
            return
        self.model.tick()
        hard = [
            b for b in self.model.budgets.values() if b.hard and applies(b, subject, model=model, provider=PROVIDER)
        ]
        short = self.is_short(holder, subject, model, need, hard)
        reply = self.do(self.desk.service.resolve(request))
        if self.model.required and self.model.debt:
            assert reply.refusal == "debt_limit_reached"
            return
        grown = [lease for lease in reply.leases if lease.granted_atoms > holder.granted.get(lease.lease_id, 0)]
        self.check_loans(holder, reply, model)
        assert not (short and grown), "all or none"
        assert reply.standing is not None
        assert reply.standing.path == subject.path
        if short or (self.model.required and not self.model.covering(subject, model)):
            return
        if any(lease.lease_id in holder.closed for lease in reply.leases):
            return  # lent before the ledger heard of the close: `take` has given it back
        budgets = [f"{holder.incarnation}/{self.model.account(b, subject)}" for b in hard]
        assert all(holder.free(one) >= need for one in budgets), "what was lent covers the need (L44)"
        slices = self.slices(holder, subject, model, need)
        assert sum(part for _, part in slices) == (need if self.model.required else 0)
        self.admit(holder, subject, model, need, tuple(budgets), slices)

    def is_short(self, holder: Holder, subject: Subject, model: str, need: int, hard: list[Budget]) -> bool:
        """Whether some account has less left than the need lacks (L39), or a lease of it was closed."""
        for one in hard:
            lease = f"{holder.incarnation}/{self.model.account(one, subject)}"
            raw = self.model.leases.get(lease, LentOut()).raw
            left = min(holder.left(lease), raw) + max(0, -raw)
            if left < need and (self.is_closed(lease) or self.model.unlent(one, subject) < need - left):
                return True
        reach = 0
        for lot in self.model.covering(subject, model):
            lease = f"{holder.incarnation}/grant:{lot.grant.grant_id}"
            reach += holder.free(lease) + (0 if self.is_closed(lease) else self.model.available(lot))
        return self.model.required and reach < need

    def is_closed(self, lease: str) -> bool:
        """Whether the ledger has heard that a lease is closed."""
        return self.model.leases.get(lease, LentOut()).closed

    def check_loans(self, holder: Holder, reply: ResolveReply, model: str) -> None:
        """L39: within the limit. L16: an earlier grant is lent to its end before the next."""
        grew = [lease for lease in reply.leases if lease.granted_atoms > holder.granted.get(lease.lease_id, 0)]
        self.take(holder, reply.leases)
        for lease in grew:
            account = lease_account(lease.lease_id)
            if account.startswith("budget:"):
                budget = self.model.budgets[account.split(":")[1]]
                assert self.model.used(budget, account) + self.model.escrow(account) <= budget.limit_atoms
            else:
                lot = self.model.lots[account.removeprefix("grant:")]
                assert self.model.available(lot) >= 0
                order = [one for one in self.model.live() if one.grant.covers(model=model, feature="")]
                for earlier in order[: order.index(lot)]:
                    earlier_lease = f"{holder.incarnation}/grant:{earlier.grant.grant_id}"
                    assert self.model.available(earlier) == 0 or self.is_closed(earlier_lease)

    def take(self, holder: Holder, leases: tuple[LeaseGrant, ...]) -> None:
        """Both sides hear of the new totals."""
        for lease in leases:
            holder.granted[lease.lease_id] = lease.granted_atoms
            self.model.leases.setdefault(lease.lease_id, LentOut()).granted = lease.granted_atoms
            if lease.lease_id in holder.closed:
                holder.returned[lease.lease_id] = lease.granted_atoms - holder.spent.get(lease.lease_id, 0)
                holder.reports.append(LeaseReport(lease.lease_id, holder.returned[lease.lease_id], closed=True))

    def slices(self, holder: Holder, subject: Subject, model: str, need: int) -> tuple[tuple[str, int], ...]:
        """How a sidecar holds a need over its grants' leases, in burn order."""
        parts: list[tuple[str, int]] = []
        for lot in self.model.covering(subject, model) if self.model.required else []:
            lease = f"{holder.incarnation}/grant:{lot.grant.grant_id}"
            part = min(need, holder.free(lease))
            need -= part
            if part:
                parts.append((lease, part))
        return tuple(parts)

    def admit(
        self,
        holder: Holder,
        subject: Subject,
        model: str,
        need: int,
        budgets: tuple[str, ...],
        slices: tuple[tuple[str, int], ...],
    ) -> None:
        """The call runs."""
        self.requests += 1
        event = self.desk.event(f"req-{self.requests}", subject, need, leases=budgets, paid=slices, model=model)
        holder.move_held([*((one, need) for one in budgets), *slices], +1)
        holder.open.append(event)

    @precondition(lambda self: any(holder.open for holder in self.holders))
    @rule(data=st.data(), percent=st.integers(0, 130))
    def settle(self, data: st.DataObject, percent: int) -> None:
        """A call ends, at what it really cost: sometimes more than was held."""
        holder = self.holders[data.draw(st.sampled_from([n for n in (0, 1) if self.holders[n].open]))]
        self.finish(holder, holder.open.pop(data.draw(st.integers(0, len(holder.open) - 1))), percent)

    def finish(self, holder: Holder, event: UsageEvent, percent: int) -> None:
        """A call is charged so much of what was held for it."""
        need = event.charge_atoms or 0
        budgets, slices = event.admission.budget_leases, event.paid
        charge = need * percent // 100
        split = split_charge(charge, slices, {lease: holder.free(lease) for lease, _ in slices})
        holder.move_held([*((one, need) for one in budgets), *slices], -1)
        for lease, part in (*((one, charge) for one in budgets), *split.legs):
            holder.spent[lease] = holder.spent.get(lease, 0) + part
        excess = split.excess if slices else 0
        holder.outbox.append(msgspec.structs.replace(event, charge_atoms=charge, paid=split.legs, excess_atoms=excess))

    @precondition(lambda self: any(holder.granted for holder in self.holders))
    @rule(data=st.data(), closes=st.booleans(), want=st.sampled_from([0, 0, 50]))
    def give_back(self, data: st.DataObject, closes: bool, want: int) -> None:
        """A sidecar gives back some of what it does not need; the report may travel for long."""
        holder = self.holders[data.draw(st.sampled_from([n for n in (0, 1) if self.holders[n].granted]))]
        lease = data.draw(st.sampled_from(sorted(holder.granted)))
        if lease in holder.closed:
            return
        closes = closes and not holder.held.get(lease, 0)
        part = holder.free(lease) if closes else data.draw(st.integers(0, holder.free(lease)))
        holder.returned[lease] = holder.returned.get(lease, 0) + part
        if closes:
            holder.closed.add(lease)
        holder.reports.append(LeaseReport(lease, holder.returned[lease], want, closes))

    @rule(data=st.data(), who=st.integers(0, 1), wants=st.booleans())
    def deliver(self, data: st.DataObject, who: int, wants: bool) -> None:
        """Some of what a sidecar ever said arrives, in any order, perhaps again (L29, L42); or it wants more of all."""
        holder = self.holders[who]
        said = [data.draw(st.lists(st.integers(0, 99), max_size=4)) for _ in range(2)]
        events = [holder.outbox[n % len(holder.outbox)] for n in said[0] if holder.outbox]
        reports = [holder.reports[n % len(holder.reports)] for n in said[1] if holder.reports]
        self.sync(holder, events, reports + (self.wishes(holder) if wants else []))

    def wishes(self, holder: Holder) -> list[LeaseReport]:
        """A report on each lease of a sidecar's own, which wants more of it."""
        mine = sorted(one for one in holder.granted if one.startswith(f"{holder.incarnation}/"))
        return [LeaseReport(one, holder.returned.get(one, 0), 50, one in holder.closed) for one in mine]

    def sync(self, holder: Holder, events: list[UsageEvent], reports: list[LeaseReport]) -> None:
        """Events and reports arrive; nothing is lent above a limit, nor of what has ended or is frozen."""
        part = CustomerPart("acme", tuple(events), tuple(reports))
        now_ms = self.desk.clock.wall_ms()
        self.model.tick()
        reply = self.do(self.desk.service.sync(SyncRequest(holder.name, holder.incarnation, now_ms, (part,)))).parts[0]
        assert (reply.error, reply.booked) == ("", True)
        for event in events:
            self.model.book(event, event.admission.subject, event.admission.admitted_at_ms)
        for report in reports:
            self.model.report(report.lease_id, report.returned_atoms, closed=report.closed)
        self.model.tick()
        for lease in reply.leases:
            account = lease_account(lease.lease_id)
            is_grant, budget = account.startswith("grant:"), self.model.budgets.get(account.split(":")[1])
            is_over = budget is None and not is_grant
            is_over = is_over or (is_grant and self.model.lots[account.removeprefix("grant:")].voided)
            if is_over or self.model.only_frozen(budget):
                assert lease.granted_atoms == self.model.leases[lease.lease_id].granted, (
                    "nothing more of what has ended"
                )
                assert lease.pays_for_ms == 0 if is_over else lease.recall
            self.take(holder, (lease,))
            if budget is not None and any(r.want_atoms for r in reports if r.lease_id == lease.lease_id):
                lent = self.model.used(budget, account) + self.model.escrow(account)
                assert lent <= budget.limit_atoms or lease.recall

    @rule(who=st.integers(0, 1), ended=st.booleans())
    def restart(self, who: int, ended: bool) -> None:
        """A process starts anew: its open calls are settled at their holds, its old leases closed (L43, L46)."""
        holder = self.holders[who]
        while holder.open:
            event = holder.open.pop()
            need = event.charge_atoms or 0
            legs = [*((one, need) for one in event.admission.budget_leases), *event.paid]
            holder.move_held(legs, -1)
            for lease, part in legs:
                holder.spent[lease] = holder.spent.get(lease, 0) + part
            holder.outbox.append(event)
        for lease in sorted(set(holder.granted) - holder.closed):
            holder.returned[lease] = holder.returned.get(lease, 0) + holder.free(lease)
            holder.closed.add(lease)
            holder.reports.append(LeaseReport(lease, holder.returned[lease], closed=True))
        if ended:
            self.do(self.desk.service.sync(SyncRequest(holder.name, holder.incarnation, 0, ended=True)))
        holder.run += 1
        self.do(self.desk.service.register(RegisterRequest(holder.name, holder.incarnation)))

    @rule(hours=st.sampled_from([0, 0, 0, 1, 2, 25]), seconds=st.integers(1, 3599))
    def wait(self, hours: int, seconds: int) -> None:
        """Time passes: over the ends of periods (L37) and of grants (L10)."""
        self.desk.clock.advance(hours * 3600 + seconds)
        self.model.now_ms = self.desk.clock.wall_ms()

    @invariant()
    def all_is_well(self) -> None:
        """Now and then: a whole book is read for it."""
        self.steps += 1
        if self.steps % CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """L6, L8, L9: the book agrees with itself; and the ledger with the reference."""
        assert self.do(self.desk.problems()) == ()
        self.compare_all()

    def compare_all(self) -> None:
        """L10 … L13, L17: every grant's parts. L31, L33, L36a, L37: what every child of every budget has used."""
        shown = {view.grant_id: view for view in self.do(self.desk.service.grants("acme"))}
        for grant_id, lot in self.model.lots.items():
            view, late = shown[grant_id], not lot.grant.is_live(self.model.now_ms)
            available = self.model.available(lot)
            expired = lot.expired
            is_over = lot.grant.expires_at_ms is not None and lot.grant.expires_at_ms <= self.model.now_ms
            if late and is_over and not lot.voided:
                available, expired = 0, lot.expired + available
            seen = (
                view.consumed.atoms,
                view.leased.atoms,
                view.available.atoms,
                view.expired.atoms,
                view.revoked.atoms,
            )
            leased = self.model.escrow(f"grant:{grant_id}")
            assert seen == (lot.consumed, leased, available, expired, lot.revoked)
            assert (view.live, view.voided) == (not late and not lot.voided, lot.voided)
        assert self.do(self.desk.service.balance("acme")).debt[0].atoms == self.model.debt
        budgets = self.do(self.desk.service.budgets("acme"))
        assert {view.budget_id for view in budgets} == set(self.model.budgets)
        for budget in budgets:
            self.compare(budget)
        frozen = {view.path.removeprefix("acme").lstrip("/") for view in self.do(self.desk.service.frozen("acme"))}
        assert frozen == self.model.frozen

    def compare(self, view: BudgetView) -> None:
        budget = self.model.budgets[view.budget_id]
        shown = {child.child: (child.used.atoms, child.leased.atoms) for child in view.children}
        for subject in SUBJECTS:
            account = self.model.account(budget, subject)
            expected = (self.model.used(budget, account), self.model.escrow(account))
            assert shown.get(budget.child_of(subject), (0, 0)) == expected


class HistoriesOnPostgres(Histories):
    """The same, with a database for each."""

    engine = POSTGRES


class HistoriesThatStumble(Histories):
    """The same, serializable, where a third of all transactions are tried again."""

    engine = STUMBLING


# `make soak` draws new ones, and many more of them.
MANY = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
LONGEST_S = 6 * 3600 if MANY else 900


def histories(count: int) -> settings:
    """So many of 50 steps each."""
    return settings(max_examples=count, stateful_step_count=50, suppress_health_check=list(HealthCheck))


TestHistories = pytest.mark.timeout(LONGEST_S)(Histories.TestCase)
TestHistories.settings = histories(10_000 if MANY else 300)
TestHistoriesOnPostgres = pytest.mark.timeout(LONGEST_S)(HistoriesOnPostgres.TestCase)
TestHistoriesOnPostgres.settings = histories(10_000 if MANY else 100)
TestHistoriesThatStumble = pytest.mark.timeout(LONGEST_S)(HistoriesThatStumble.TestCase)
TestHistoriesThatStumble.settings = histories(1_000 if MANY else 20)
