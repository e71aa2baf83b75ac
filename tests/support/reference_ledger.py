"""The ledger's rules once more, slowly and plainly: what the real one must agree with.

Nothing here is stored that can be computed: what a budget has used is the sum over all calls
ever booked, what is lent is the sum over all leases. Only where credit *went* (which grant
paid) is kept, because that depends on the order of events.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from sidecar.contract.messages import UsageEvent, lease_account
from sidecar.core.credits.burn_order import burn_key
from sidecar.core.credits.grants import Category, Grant
from sidecar.core.governance.budgets import Budget, applies, budget_account
from sidecar.core.governance.periods import UTC_ONLY, Zones, period_at
from sidecar.core.governance.tenancy import Node, Subject


@dataclass
class LentOut:
    """A lease: two totals and what was charged to it."""

    granted: int = 0
    returned: int = 0
    posted: int = 0
    closed: bool = False

    @property
    def raw(self) -> int:
        return self.granted - self.returned - self.posted

    @property
    def escrow(self) -> int:
        return max(0, self.raw)


@dataclass
class Lot:
    """A grant and where its credit went."""

    grant: Grant
    consumed: int = 0
    expired: int = 0
    revoked: int = 0
    voided: bool = False


@dataclass
class Call:
    """A booked call."""

    event: UsageEvent
    subject: Subject
    occurred_at_ms: int


@dataclass
class ReferenceLedger:
    """One customer. `required`: its calls are paid from grants."""

    required: bool
    now_ms: int
    lots: dict[str, Lot] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    leases: dict[str, LentOut] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    tree: dict[Node, tuple[Node, ...]] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    debt: int = 0
    zones: Zones = UTC_ONLY

    def placed(self, subject: Subject) -> Subject:
        """A subject that names its innermost node, on the whole path of that, where it stands now (L30)."""
        path = self.tree[subject.path[-1]] if subject.path else ()
        return msgspec.structs.replace(subject, path=path)

    def move(self, node: Node, target: tuple[Node, ...]) -> bool:
        """Put a node and all below it elsewhere; False, and nothing is moved: it would be no tree of paths."""
        old, new = self.tree[node], (*target, node)
        moved = {one: (*new, *path[len(old) :]) for one, path in self.tree.items() if path[: len(old)] == old}
        if new != old and (node in target or any(len({n.kind for n in path}) < len(path) for path in moved.values())):
            return False
        self.tree |= moved
        return True

    def is_frozen(self, placed: Subject) -> bool:
        """Whether anything on a path is frozen, the customer and the user too (L35)."""
        return not self.frozen.isdisjoint(["", f"user:{placed.user}", *map(str, placed.path)])

    def only_frozen(self, budget: Budget | None) -> bool:
        """Whether no call that counts on a budget, or (None) on a grant, may run."""
        path = () if budget is None or budget.node is None else self.tree.get(budget.node, (budget.node,))
        return not self.frozen.isdisjoint(["", *map(str, path)])

    def void(self, lot: Lot) -> None:
        """L15: what is free is revoked; if it had expired before, it had expired."""
        if not lot.voided:
            self._expire(lot)
            lot.voided = True
            lot.revoked += self.available(lot)

    def escrow(self, account: str) -> int:
        """What is with sidecars of an account."""
        return sum(lease.escrow for name, lease in self.leases.items() if lease_account(name) == account)

    def available(self, lot: Lot) -> int:
        """What nobody holds of a grant."""
        account = f"grant:{lot.grant.grant_id}"
        return lot.grant.issued_atoms - lot.consumed - lot.expired - lot.revoked - self.escrow(account)

    def live(self) -> list[Lot]:
        """The grants that pay now, in burn order."""
        lots = [lot for lot in self.lots.values() if lot.grant.is_live(self.now_ms) and not lot.voided]
        return sorted(lots, key=lambda lot: burn_key(lot.grant))

    def covering(self, subject: Subject, model: str) -> list[Lot]:
        """Those of them whose scope covers a call."""
        return [lot for lot in self.live() if lot.grant.covers(model=model, feature=subject.feature)]

    def used(self, budget: Budget, account: str) -> int:
        """L31: the charges of every call that counts on the account, its lease's or its time's."""
        total = 0
        for call in self.calls.values():
            admission = call.event.admission
            leased = [one for one in map(lease_account, admission.budget_leases) if f":{budget.budget_id}:" in one]
            if leased:
                counts = leased[0] == account
            else:
                counts = self._applies(budget, call) and account == budget_account(
                    budget.budget_id,
                    budget.child_of(call.subject),
                    period_at(budget.calendar(self.zones), call.occurred_at_ms),
                )
            total += (call.event.charge_atoms or 0) if counts else 0
        return total

    def unlent(self, budget: Budget, subject: Subject) -> int:
        """What could still be lent of a budget, for a subject, now."""
        account = self.account(budget, subject)
        return budget.limit_atoms - self.used(budget, account) - self.escrow(account)

    def account(self, budget: Budget, subject: Subject) -> str:
        """The account on which a subject's calls count now."""
        return budget_account(
            budget.budget_id, budget.child_of(subject), period_at(budget.calendar(self.zones), self.now_ms)
        )

    def tick(self) -> None:
        """What follows from time and balances alone: expiry (L13), revocation (L15), repayment (L17)."""
        for lot in self.lots.values():
            if lot.voided:
                lot.revoked += self.available(lot)
            self._expire(lot)
        for lot in self.live():
            if lot.grant.category is Category.PAID:
                repaid = min(self.debt, self.available(lot))
                lot.consumed += repaid
                self.debt -= repaid

    def book(self, event: UsageEvent, subject: Subject, occurred_at_ms: int) -> None:
        """L29: once. Who pays: the leases, then what is free in burn order, then debt."""
        if event.admission.request_id in self.calls:
            return
        self.calls[event.admission.request_id] = Call(event, subject, occurred_at_ms)
        owed = event.charge_atoms or 0
        for name in event.admission.budget_leases:
            self.leases[name].posted += owed
        for name, atoms in event.paid:
            lease, leg = self.leases[name], min(atoms, owed)
            paid = min(leg, lease.escrow)
            lease.posted += leg
            self.lots[lease_account(name).removeprefix("grant:")].consumed += paid
            owed -= paid
        if self.required:
            for lot in self.covering(subject, event.admission.model):
                taken = min(owed, self.available(lot))
                lot.consumed += taken
                owed -= taken
            self.debt += owed

    def report(self, name: str, returned: int, *, closed: bool) -> None:
        """L42: totals merge by maximum."""
        lease = self.leases[name]
        lease.returned = max(lease.returned, returned)
        lease.closed = lease.closed or closed

    def _expire(self, lot: Lot) -> None:
        if lot.grant.expires_at_ms is not None and lot.grant.expires_at_ms <= self.now_ms and not lot.voided:
            lot.expired += self.available(lot)

    def _applies(self, budget: Budget, call: Call) -> bool:
        admission = call.event.admission
        return applies(budget, call.subject, model=admission.model, provider=admission.provider)
