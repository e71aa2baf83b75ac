"""What asking for spending power can come to."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, Protocol

import msgspec

from sidecar.contract.messages import Holding
from sidecar.core.governance.budgets import Budget
from sidecar.core.governance.decisions import Asked, Consulted, Reason, Source, consulted_of
from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.accounts import NEVER, Account, Lease


class Look(NamedTuple):
    """How every account that applies to a call stood at an instant: `figures` as `Decision` has them.

    `remaining` is what the tightest hard budget still has, or the grants together if that is less;
    None where nothing is known.
    """

    figures: tuple[int | None, ...]
    remaining: int | None


class Plan:
    """Which accounts a request draws on: worked out once per standing, subject, model and provider.

    `budgets` and `grants` are in the order in which `asked` tells of them, one after the other.
    `placed` is the subject on its canonical path, every ancestor named (L31).
    """

    __slots__ = (
        "_watched",
        "asked",
        "budgets",
        "grants",
        "hard",
        "limits",
        "model",
        "placed",
        "provider",
        "standing",
        "subject",
        "wallet",
    )

    def __init__(
        self,
        standing: Standing,
        subject: Subject,
        *,
        placed: Subject,
        model: str,
        provider: str,
        budgets: tuple[tuple[Budget, Account], ...],
        grants: tuple[Account, ...],
    ) -> None:
        self.standing = standing
        self.subject = subject
        self.placed = placed
        self.model = model
        self.provider = provider
        self.budgets = budgets
        self.hard = tuple(account for budget, account in budgets if budget.hard)
        self.wallet = standing.wallet is Wallet.REQUIRED
        self.grants = grants if self.wallet else ()
        # What a member set for itself bounds it, and yet is no limit that its customer must have (L16a, L36).
        self.limits = self.wallet or any(budget.hard and not budget.guardrail for budget, _ in budgets)
        self.asked = (
            *(_asked_budget(budget, account, standing.customer) for budget, account in budgets),
            *(Asked(account.kind, account.id, standing.customer, standing.currency) for account in self.grants),
        )
        # Account, limit (None: a grant's, as last read), whether it refuses.
        self._watched: tuple[tuple[Account, int | None, bool], ...] = (
            *((account, budget.limit_atoms, budget.hard) for budget, account in budgets),
            *((account, None, True) for account in self.grants),
        )

    def consulted(self, now: float) -> tuple[Consulted, ...]:
        """Every budget and grant that applies, as it stands; without figures where none was read in this period."""
        return consulted_of(self.asked, self.look(now).figures)

    def look(self, now: float) -> Look:
        """How every account that applies stands, made in one go: it runs once for every call."""
        figures: list[int | None] = []
        least: int | None = None
        credit = -1
        heard_at = resets_at = NEVER  # of the account before: many have these in common
        same_age_ms = 0
        same_reset_ms: int | None = None
        for account, limit, hard in self._watched:
            known = account.limit if limit is None else limit
            if account.read_at == -NEVER:
                figures += (known, None, None, None, None, None, None)
                continue
            lease, elsewhere, used = account.lease, account.elsewhere, account.used
            # All that is not lent, not free, not held and not elsewhere is spent, booked or not.
            settled = account.limit - account.unlent - elsewhere
            if lease is None:
                held, age_ms = 0, None
            else:
                held = lease.held
                settled -= held
                free = lease.granted - lease.returned - lease.spent - held
                settled += -free if free >= 0 else account.unbooked_excess()
                if lease.heard_at != heard_at:
                    heard_at = lease.heard_at
                    same_age_ms = max(0, int((now - heard_at) * 1000))
                age_ms = same_age_ms
            if settled > used:  # noqa: PLR1730 - max() takes three times as long, eight times a request
                used = settled
            left = known - used - held - elsewhere
            if left < 0:  # noqa: PLR1730 - as above
                left = 0
            if limit is None:
                credit = left if credit < 0 else credit + left
            elif hard and (least is None or left < least):
                least = left
            if account.resets_at != resets_at:
                resets_at = account.resets_at
                same_reset_ms = None if resets_at == NEVER else max(0, int((resets_at - now) * 1000))
            figures += (known, used, held, elsewhere, left, same_reset_ms, age_ms)
        if credit >= 0 and (least is None or credit < least):
            least = credit
        return Look(tuple(figures), least)


def _asked_budget(budget: Budget, account: Account, customer: str) -> Asked:
    return Asked(
        account.kind, account.id, budget.owner(customer), budget.currency, account.child, budget.cadence, budget.hard
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
        oldest = NEVER
        for lease in self.leases:
            if lease.heard_at < oldest:  # noqa: PLR1730 - min() takes three times as long, eight times a request
                oldest = lease.heard_at
        for lease, _ in self.parts:
            if lease.heard_at < oldest:  # noqa: PLR1730 - as above
                oldest = lease.heard_at
        return None if oldest == NEVER else max(0, round((self.taken_at - oldest) * 1000))

    def look(self) -> Look:
        """How every budget and grant that applied stands, this hold included. Ask before anybody else gets a turn."""
        return self.plan.look(self.taken_at)


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

    `detail` is the ledger's own sentence, empty where there is none, and `owner` of whom it speaks.
    `affordable_atoms` is the largest ceiling that would have passed, None where that is not known.
    """

    reason: Reason
    detail: str = ""
    binding: Consulted | None = None
    consulted: tuple[Consulted, ...] = ()
    standing: Standing | None = None
    standing_age_ms: int | None = None
    retry_after_ms: int | None = None
    affordable_atoms: int | None = None
    owner: str = ""


class Keeper(Protocol):
    """What is needed of the lease keeper."""

    def standing(self, subject: Subject) -> Covered | None:
        """The standing to decide by now, without holding anything; None: ask `cover`."""
        ...

    async def cover(
        self,
        subject: Subject,
        *,
        model: str,
        provider: str,
        need_atoms: int,
        currency: str,
        since: float | None = None,
    ) -> Covered | Uncovered:
        """Get spending power for a call and hold it; a need of 0 asks for the standing alone.

        `since` (monotonic): when it was first asked for, so that it does not wait for open calls anew.
        """
        ...
