"""Spending power held here: deciding takes from it, settling gives back to it.

A decision is one synchronous step over all accounts of a request (L40): nothing is awaited, so
nothing can come between the check and the taking, and no lock is needed. Everything here is
plain arithmetic on numbers that the keeper fetched before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from sidecar.contract.messages import AccountReading, LeaseGrant, lease_account
from sidecar.core.credits.holds import Split, split_charge
from sidecar.core.governance.overdrafts import overdraft_of
from sidecar.core.governance.standing import Standing
from sidecar.core.governance.tenancy import Subject
from sidecar.errors import HoldAlreadyResolved
from sidecar.leases.accounts import NEVER, NO_MARK, Account, Lease
from sidecar.leases.grace import whole_on_grace
from sidecar.leases.joining import join
from sidecar.leases.verdicts import NO_LIMIT, Covered, Held, Keeper, Look, NoLimit, Plan, Short, Uncovered

__all__ = [
    "NO_LIMIT",
    "Account",
    "Covered",
    "Held",
    "Keeper",
    "Lease",
    "LeaseTable",
    "Look",
    "NoLimit",
    "Plan",
    "Short",
    "Uncovered",
    "join",
]

MAX_PLANS: Final = 8192
"""Plans remembered; all are forgotten at once when there would be more. A forgotten one is worked out again."""

MAX_LEASES: Final = 65_536
"""Leases known at once, idle ones included, before the keeper stops borrowing for new accounts."""

_NO_CHARGE: Final = Split((), 0)


def _nothing(_customer: str) -> None:
    """What happens when nobody listens."""


class LeaseTable:
    """All leases of one process. Use it from one thread.

    `on_free(customer)` is called when a settlement made spending power free again, `on_low(lease)`
    once when a lease passes low water; both must not raise.
    """

    def __init__(self) -> None:
        self.on_free: Callable[[str], None] = _nothing
        self.on_low: Callable[[Lease], None] | None = None
        self.open_holds = 0
        self.degraded = b""
        """Why calls are decided by what is held here alone, as answers say it; empty while the ledger answers."""
        self._active: dict[str, Lease] = {}
        self._resting: dict[str, Lease] = {}
        self._accounts: dict[tuple[str, str, str, str], Account] = {}
        self._plans: dict[tuple[Subject, str, str], Plan] = {}

    # deciding

    def take(
        self,
        standing: Standing,
        subject: Subject,
        *,
        model: str,
        provider: str,
        atoms: int,
        now: float,
        ask_first: bool = True,
        grace: bool = False,
    ) -> Held | Short | NoLimit:
        """Hold `atoms` on every account that applies, or on none (L21, L40).

        Every hard budget bears them whole; where the customer's wallet is required, the grants
        that cover the call bear them together, in burn order. Only live leases count.

        Args:
            standing: the subject's, still fresh enough for the caller.
            subject: who asks, as the application named it; the standing's path stands in for its own.
            model: as the request names it, for scopes and matches.
            provider: likewise.
            atoms: the call's ceiling; 0 or more.
            now: monotonic seconds.
            ask_first: L16: an earlier grant that may have more to lend must be asked for it before
                a later one is drawn on. False where there is nobody to ask: the ledger is away.
            grace: the ledger is away: where a budget's lease falls short, its overdraft's bears the call (L47).

        Raises:
            ValueError: negative atoms.
        """
        if atoms < 0:
            raise ValueError(f"a hold cannot be negative: {atoms}")
        plan = self._plans.get((subject, model, provider))
        if plan is None or plan.standing is not standing:
            plan = self._make_plan(standing, subject, model, provider)
        if not plan.limits:
            return NO_LIMIT
        leases = _whole(plan.hard, atoms, now)
        if leases is None and grace:
            leases = whole_on_grace(plan.hard, atoms, now)
        if leases is None:
            return Short(plan, atoms, now)
        parts = _slices(plan.grants, atoms, now, ask_first) if plan.wallet else []
        if parts is None:
            return Short(plan, atoms, now)
        for lease in leases:
            self._hold(lease, atoms, now)
        for lease, part in parts:
            self._hold(lease, part, now)
        self.open_holds += 1
        return Held(atoms, plan, leases, parts, now)

    def plan(self, standing: Standing, subject: Subject, *, model: str, provider: str) -> Plan:
        """The accounts that apply to a call, without deciding about it: for whoever asks how they stand."""
        plan = self._plans.get((subject, model, provider))
        if plan is None or plan.standing is not standing:
            plan = self._make_plan(standing, subject, model, provider)
        return plan

    def settle(self, held: Held, charge_atoms: int | None) -> Split:
        """Charge a hold and free the rest of it (L23). Exactly once.

        Args:
            held: as `take` gave it.
            charge_atoms: what the call cost; None where its model has no price: nothing is charged.

        Returns:
            The legs that the grants' leases pay, for `UsageEvent.paid`, and the excess that none
            of them could. Each budget's lease bears the whole charge.

        Raises:
            HoldAlreadyResolved: it was settled or released before; nothing was changed.
            ValueError: a negative charge; nothing was changed.
        """
        charge = charge_atoms or 0
        if charge < 0:
            raise ValueError(f"a charge cannot be negative: {charge}")
        if held.resolved:
            raise HoldAlreadyResolved("the hold was settled or released before")
        held.resolved = True
        self.open_holds -= 1
        atoms = held.atoms
        for lease in held.leases:
            lease.held -= atoms
            lease.spent += charge
        split = _NO_CHARGE
        parts = held.parts
        if parts:
            for lease, part in parts:
                lease.held -= part
            if charge:
                split = _pay(parts, charge)
        if charge < atoms:
            self.on_free(held.plan.standing.customer)
        return split

    def release(self, held: Held) -> None:
        """Free a hold whose work did not happen.

        Raises:
            HoldAlreadyResolved: as `settle`.
        """
        self.settle(held, 0)

    # hearing from the ledger

    def merge(
        self,
        customer: str,
        grants: Iterable[LeaseGrant],
        readings: Iterable[AccountReading] = (),
        *,
        sent_at: float,
        now: float,
        ahead: bool = False,
    ) -> list[Lease]:
        """Take in what the ledger says of leases and accounts; losing, repeating or reordering it is harmless (L42).

        Args:
            customer: whose they are.
            grants: leases as the ledger holds them.
            readings: accounts as the book has them.
            sent_at: when the message that they answer was sent (monotonic): a lease's life counts from it.
            now: when the answer was heard.
            ahead: they are of periods yet to begin: the readings are not of the accounts as they stand now.

        Returns:
            The leases whose granted total grew: they must be noted in the spool before anybody waits again.
        """
        by_account = {reading.account: reading for reading in readings}
        grown: list[Lease] = []
        for grant in grants:
            lease = self._merge_lease(customer, grant, by_account.get(lease_account(grant.lease_id)), sent_at, now)
            if lease is not None:
                grown.append(lease)
        if not ahead:
            for reading in by_account.values():
                account = self._account(customer, reading.kind, reading.id, reading.child)
                account.read(reading, sent_at=sent_at, now=now)
        return grown

    def give_back(self, lease: Lease, atoms: int) -> None:
        """Return some of what is free on a lease; it can be lent to others once the ledger hears of it.

        Raises:
            ValueError: more than is free, or a negative amount: nothing that is held or spent goes back.
        """
        if not 0 <= atoms <= lease.free:
            raise ValueError(f"{atoms} atoms cannot go back, {lease.free} are free")
        lease.returned += atoms
        lease.mark = NO_MARK
        lease.has_more = False  # for the keeper: who gives back does not ask for more in the same breath
        if atoms and lease.account.lease is lease:
            lease.account.unlent += atoms
            lease.account.has_more = True

    def close(self, lease: Lease) -> None:
        """Never admit on a lease again: its last return is granted − spent.

        Raises:
            ValueError: a hold stands on it.
        """
        if lease.held:
            raise ValueError("a lease with an open hold cannot be closed")
        self.give_back(lease, lease.free)
        lease.closed = True
        lease.ends_at = -NEVER

    # looking around

    def lease(self, lease_id: str) -> Lease | None:
        """A lease by its id."""
        return self._active.get(lease_id) or self._resting.get(lease_id)

    def leases(self) -> list[Lease]:
        """All leases but those at rest."""
        return list(self._active.values())

    def all_leases(self) -> list[Lease]:
        """All leases, also those at rest."""
        return [*self._active.values(), *self._resting.values()]

    def leases_of(self, customer: str) -> list[Lease]:
        """A customer's, of those."""
        return [lease for lease in self._active.values() if lease.customer == customer]

    def __len__(self) -> int:
        return len(self._active) + len(self._resting)

    # forgetting

    def rest(self, lease: Lease) -> bool:
        """Put a lease aside that has nothing free, held or unreported; True if it now rests. A new grant wakes it."""
        if lease.held or lease.free or lease.reported != lease.returned:
            return False
        if self._active.pop(lease.lease_id, None) is None:
            return False
        self._resting[lease.lease_id] = lease
        return True

    def forget(self, *, keep: int, unused_since: float) -> None:
        """Drop the leases longest at rest until `keep` remain in all, but none used after `unused_since`.

        Everything charged before that instant must have been booked by the ledger: what it
        then says of a forgotten lease is where we begin again.
        """
        for lease in list(self._resting.values())[: max(0, len(self) - keep)]:
            if lease.used_at <= unused_since:
                self.drop(lease)

    def drop(self, lease: Lease) -> None:
        """Know a lease no more: it was closed, or is at rest."""
        self._active.pop(lease.lease_id, None)
        self._resting.pop(lease.lease_id, None)
        account = lease.account
        if account.lease is lease:
            account.lease = None
        if account.ahead is lease:
            account.ahead = None

    # inside

    def _hold(self, lease: Lease, atoms: int, now: float) -> None:
        held = lease.held = lease.held + atoms
        lease.used_at = now
        if held > lease.peak:  # noqa: PLR1730 - max() takes three times as long, eight times a request
            lease.peak = held
        if lease.spent + held > lease.mark:
            self._low(lease)

    def _low(self, lease: Lease) -> None:
        lease.mark = NO_MARK
        if self.on_low is not None:
            self.on_low(lease)

    def _account(self, customer: str, kind: str, account_id: str, child: str) -> Account:
        key = (customer, kind, account_id, child)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(customer, kind, account_id, child)
        return account

    def _make_plan(self, standing: Standing, subject: Subject, model: str, provider: str) -> Plan:
        """Work out which accounts apply, by the ledger's own functions."""
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
            self._accounts = {key: account for key, account in self._accounts.items() if account.lease or account.ahead}
        placed = msgspec.structs.replace(subject, path=standing.path)
        customer, currency = standing.customer, standing.currency
        budgets = tuple(
            (budget, self._account(customer, "budget", budget.budget_id, budget.child_of(placed)))
            for budget in standing.budgets_for(placed, model=model, provider=provider)
            if budget.currency == currency
        )
        grants = tuple(
            self._account(customer, "grant", grant.grant_id, "")
            for grant in standing.grants_for(placed, model=model)
            if grant.currency == currency
        )
        plan = self._plans[subject, model, provider] = Plan(
            standing, subject, placed=placed, model=model, provider=provider, budgets=budgets, grants=grants
        )
        for budget, account in budgets:
            if budget.hard:
                account.plan = plan
                overdraft = overdraft_of(budget)
                account.overdraft = (
                    None if overdraft is None else self._account(customer, "budget", overdraft.budget_id, "")
                )
        return plan

    def _merge_lease(
        self, customer: str, grant: LeaseGrant, reading: AccountReading | None, sent_at: float, now: float
    ) -> Lease | None:
        """Take in one lease; gives it back if it grew."""
        lease = self.lease(grant.lease_id)
        grown = False
        if lease is None:
            if reading is None:
                return None  # nothing says how much of it is spent: it is heard of again when it is asked for
            account = self._account(customer, reading.kind, reading.id, reading.child)
            lease = Lease(grant.lease_id, customer, account)
            lease.granted = grant.granted_atoms
            lease.returned = lease.reported = grant.returned_atoms
            lease.spent = max(0, grant.granted_atoms - grant.returned_atoms - reading.escrow_atoms)
            self._active[lease.lease_id] = lease
            lease.used_at = lease.rated_at = sent_at
            lease.rated_spent = lease.spent
            grown = True
        elif grant.granted_atoms > lease.granted:
            lease.account.grow(grant.granted_atoms - lease.granted)
            lease.granted = grant.granted_atoms
            lease.used_at = max(lease.used_at, sent_at)
            grown = True
            if self._resting.pop(lease.lease_id, None) is not None:
                self._active[lease.lease_id] = lease
        if sent_at >= lease.heard_at and not lease.closed:
            lease.heard_at = sent_at
            # From when it was heard: a life is never too long by the message's way, nor may it begin too soon by it.
            lease.starts_at = now + grant.starts_in_ms / 1000 if grant.starts_in_ms else 0.0
            lease.ends_at = sent_at + grant.pays_for_ms / 1000
            if reading is not None and reading.resets_in_ms is not None:
                lease.over_at = sent_at + reading.resets_in_ms / 1000
            lease.has_more = grant.has_more
            lease.recalled = grant.recall
            lease.set_mark()
            self._place(lease)
        return lease if grown else None

    def _place(self, lease: Lease) -> None:
        """Let the account know its lease: the one that began last is the current one."""
        account = lease.account
        current = account.lease
        if lease is current:
            account.has_more = lease.has_more
        elif lease.starts_at > lease.heard_at:
            account.ahead = lease
        elif current is None or lease.ends_at >= current.ends_at:
            account.lease = lease
            account.has_more = lease.has_more
            if account.ahead is lease:
                account.ahead = None


def _whole(accounts: tuple[Account, ...], atoms: int, now: float) -> list[Lease] | None:
    """The budgets' leases that would each bear all the atoms; None if one cannot."""
    leases: list[Lease] = []
    for account in accounts:
        lease = account.lease
        if lease is None or now >= lease.ends_at:
            lease = account.live(now)
            if lease is None:
                return None
        if lease.granted - lease.returned - lease.spent - lease.held < atoms:
            return None
        leases.append(lease)
    return leases


def _slices(grants: tuple[Account, ...], atoms: int, now: float, ask_first: bool) -> list[tuple[Lease, int]] | None:
    """Which grants' leases would bear the atoms, in burn order (L12); None if they cannot, or must be asked first."""
    parts: list[tuple[Lease, int]] = []
    owed = atoms
    for account in grants:
        if not owed:
            break
        lease = account.lease
        if lease is None or now >= lease.ends_at:
            lease = account.live(now)
        free = 0 if lease is None else lease.granted - lease.returned - lease.spent - lease.held
        if free < owed and ask_first and account.has_more:
            return None
        if lease is not None and free > 0:
            part = free if free < owed else owed
            parts.append((lease, part))
            owed -= part
    return None if owed else parts


def _pay(parts: list[tuple[Lease, int]], charge: int) -> Split:
    """Let the slices pay a charge, and what they cannot from what else is free on their leases (L17)."""
    first, part = parts[0]
    if charge <= part:
        first.spent += charge
        return Split(((first.lease_id, charge),), 0)
    by_id = {lease.lease_id: lease for lease, _ in parts}
    split = split_charge(
        charge,
        [(lease.lease_id, atoms) for lease, atoms in parts],
        {lease.lease_id: lease.free - atoms for lease, atoms in parts},  # the slices are free again: not beside them
    )
    for name, paid in split.legs:
        by_id[name].spent += paid
    return split
