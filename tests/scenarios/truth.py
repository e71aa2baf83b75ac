"""What really happened: the calls that reached the provider, and what each of them cost there."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecar.contract.messages import Admission, UsageEvent, lease_account

if TYPE_CHECKING:
    from tests.scenarios.pods import Life


@dataclass
class Made:
    """One call that the provider was asked for. `actual` is what it cost, None while it runs."""

    admission: Admission
    life: Life
    began_s: float
    actual: int | None = None
    event: UsageEvent | None = None
    """Its settlement, once its sidecar has recorded it."""
    recorded_s: float = math.inf
    may_be_lost: bool = False
    """Its records may have been lost with a disk: then its lease has to cover it."""
    may_be_guessed: bool = False
    """Its settlement may have been lost, or its admission read by another: then its whole hold may be booked."""

    @property
    def request_id(self) -> str:
        return self.admission.request_id

    @property
    def overrun(self) -> int:
        """By how much it cost more than was held for it."""
        return max(0, (self.actual or 0) - self.admission.held_atoms)

    @property
    def accounts(self) -> list[str]:
        """The budgets' accounts that it counts on."""
        return [lease_account(lease) for lease in self.admission.budget_leases]


@dataclass
class Truth:
    """All of them. `committed` and `overrun` are sums by account, `wallet:CUSTOMER` for what grants pay."""

    made: dict[str, Made] = field(default_factory=dict)
    committed: Counter[str] = field(default_factory=Counter)
    overrun: Counter[str] = field(default_factory=Counter)
    given_up: dict[str, list[Made]] = field(default_factory=dict)
    """Calls by account of which neither the book nor a disk knows any more, and a person has said that it is so."""

    def give_up(self, made: Made) -> None:
        """Nobody will ever know of a call."""
        for account in _bearing(made):
            known = self.given_up.setdefault(account, [])
            if made not in known:
                known.append(made)

    def forgotten(self, account: str) -> int:
        """What such calls have cost, or may yet."""
        return sum(
            max(made.actual or 0, made.admission.held_atoms if made.actual is None else 0)
            for made in self.given_up.get(account, ())
        )

    def begin(self, admission: Admission, life: Life, now_s: float) -> Made:
        """The provider hears of a call."""
        made = self.made[admission.request_id] = Made(admission, life, now_s)
        for account in _bearing(made):
            self.committed[account] += admission.held_atoms
        return made

    def end(self, made: Made, actual: int) -> None:
        """The provider is done with it, whoever is still there to hear of that."""
        made.actual = actual
        for account in _bearing(made):
            self.committed[account] += actual - made.admission.held_atoms
            self.overrun[account] += made.overrun


def wallet_of(customer: str) -> str:
    """Under what the grants of a customer together are counted."""
    return f"wallet:{customer}"


def _bearing(made: Made) -> list[str]:
    return made.accounts + ([wallet_of(made.admission.subject.customer)] if made.admission.slices else [])
