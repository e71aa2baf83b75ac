"""What asking for spending power can come to."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from sidecar.contract.messages import Holding
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.decisions import Consulted, Reason, Source
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.accounts import Account, Lease


class Plan:
    """Which accounts a request draws on: worked out once per standing, subject, model and provider."""

    __slots__ = ("budgets", "grants", "hard", "limits", "model", "provider", "standing", "subject", "wallet")

    def __init__(
        self,
        standing: Standing,
        subject: Subject,
        *,
        model: str,
        provider: str,
        budgets: tuple[tuple[Budget, Account], ...],
        grants: tuple[Account, ...],
    ) -> None:
        self.standing = standing
        self.subject = subject
        self.model = model
        self.provider = provider
        self.budgets = budgets
        self.hard = tuple(account for budget, account in budgets if budget.hard)
        self.wallet = standing.wallet is Wallet.REQUIRED
        self.grants = grants if self.wallet else ()
        self.limits = self.wallet or bool(self.hard)

    def consulted(self, now: float) -> tuple[Consulted, ...]:
        """Every budget and grant that applies, as it stands."""
        currency, customer = self.standing.currency, self.standing.customer
        found = [self.consulted_budget(budget, account, now) for budget, account in self.budgets]
        found.extend([account.consulted(now, owner=customer, currency=currency) for account in self.grants])
        return tuple(found)

    def consulted_budget(self, budget: Budget, account: Account, now: float) -> Consulted:
        """One of the budgets, as it stands."""
        return account.consulted(
            now,
            owner=budget.owner(self.standing.customer),
            currency=budget.currency,
            limit=budget.limit_atoms,
            cadence=budget.cadence,
            hard=budget.hard,
        )


class Held:
    """Atoms held for one call: whole on each budget's lease, and once over slices of the grants' leases.

    Settle or release it exactly once, through the table that gave it.
    """

    __slots__ = ("atoms", "leases", "parts", "plan", "resolved", "taken_at")

    def __init__(
        self, atoms: int, plan: Plan, leases: list[Lease], parts: list[tuple[Lease, int]], taken_at: float
    ) -> None:
        self.atoms = atoms
        self.plan = plan
        self.leases = leases
        self.parts = parts
        self.taken_at = taken_at
        self.resolved = False

    @property
    def customer(self) -> str:
        """Whose it is."""
        return self.plan.standing.customer

    @property
    def budget_leases(self) -> tuple[str, ...]:
        """Ids for `Admission.budget_leases`."""
        return tuple([lease.lease_id for lease in self.leases])

    @property
    def slices(self) -> tuple[tuple[str, int], ...]:
        """(lease id, atoms) in burn order, for `Admission.slices`."""
        return tuple([(lease.lease_id, atoms) for lease, atoms in self.parts])

    @property
    def lease_age_ms(self) -> int | None:
        """Age of the oldest lease that it stands on; None for one on no lease."""
        heard = [lease.heard_at for lease in self.leases] + [lease.heard_at for lease, _ in self.parts]
        return max(0, round((self.taken_at - min(heard)) * 1000)) if heard else None

    def consulted(self, now: float) -> tuple[Consulted, ...]:
        """Every budget and grant that applied, as it stands; made only when asked for."""
        return self.plan.consulted(now)


class Short:
    """What is leased here does not cover a call, or may not be drawn on before asking (L16). Nothing was taken."""

    __slots__ = ("at", "atoms", "plan")

    def __init__(self, plan: Plan, atoms: int, at: float) -> None:
        self.plan = plan
        self.atoms = atoms
        self.at = at

    @property
    def budgets(self) -> tuple[tuple[Account, int], ...]:
        """The hard budgets' accounts that are short, each with the atoms that it lacks."""
        frees = [(account, account.free(self.at)) for account in self.plan.hard]
        return tuple((account, self.atoms - free) for account, free in frees if free < self.atoms)

    @property
    def lacking_credit(self) -> int:
        """Atoms that the grants' leases together lack; 0 where they could pay, or need not."""
        if not self.plan.wallet:
            return 0
        return max(0, self.atoms - sum(account.free(self.at) for account in self.plan.grants))

    def holdings(self) -> tuple[Holding, ...]:
        """What is left on each live lease that applies, for the ledger."""
        found: list[Holding] = []
        for account in (*self.plan.hard, *self.plan.grants):
            lease = account.live(self.at)
            if lease is not None:
                found.append(Holding(lease.lease_id, lease.left))
        return tuple(found)


class NoLimit(Enum):
    """The customer has no wallet and no hard budget applies: nothing would bound the call (L16a)."""

    NO_LIMIT = "no_limit"


NO_LIMIT: Final = NoLimit.NO_LIMIT


class Covered(msgspec.Struct, frozen=True):
    """It may run. `held` is None where nothing had to be held (a need of 0)."""

    standing: Standing
    standing_age_ms: int
    held: Held | None
    source: Source = Source.LEASE


class Uncovered(msgspec.Struct, frozen=True):
    """It may not run, and why: what a `Denied` is made of.

    `detail` is the ledger's own sentence, empty where there is none. `affordable_atoms` is the
    largest ceiling that would have passed, None where that is not known.
    """

    reason: Reason
    detail: str = ""
    binding: Consulted | None = None
    consulted: tuple[Consulted, ...] = ()
    standing: Standing | None = None
    standing_age_ms: int | None = None
    retry_after_ms: int | None = None
    affordable_atoms: int | None = None
