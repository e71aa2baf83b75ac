"""Spending from overdrafts, which were lent beforehand, while the ledger is away (L47).

An overdraft's lease is another lease of the same kind. It is for later: what is idle of it stays, as long as calls
of its budget are made here, and goes back when others come who want their part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.leases.accounts import Account, Lease

KEPT_FOR_S: Final = 3600.0
"""An overdraft's lease stays so long after the last call that could have used it."""


def whole_on_grace(accounts: Iterable[Account], atoms: int, now: float) -> list[Lease] | None:
    """The budgets' leases, or their overdrafts', that would each bear all the atoms; None if for a budget none can."""
    leases: list[Lease] = []
    for account in accounts:
        lease = _bearing(account, atoms, now)
        if lease is None and account.overdraft is not None:
            lease = _bearing(account.overdraft, atoms, now)
        if lease is None:
            return None
        leases.append(lease)
    return leases


def note_use(leases: Iterable[Lease]) -> None:
    """Let overdrafts know when calls were last made that could have used them."""
    for lease in leases:
        overdraft = lease.account.overdraft
        if overdraft is not None and overdraft.lease is not None:
            overdraft.lease.used_at = max(overdraft.lease.used_at, lease.used_at)


def is_kept(lease: Lease, now: float) -> bool:
    """Whether an overdraft's lease is still wanted here, also an empty one: its part may grow."""
    return bool(lease.held) or now - max(lease.used_at, lease.starts_at) < KEPT_FOR_S


def idle_part(lease: Lease, now: float) -> int:
    """How much of an overdraft's lease goes back now: half where others want their part, all where nobody calls."""
    if is_kept(lease, now):
        return (lease.free + 1) // 2 if lease.recalled else 0
    return lease.free


def _bearing(account: Account, atoms: int, now: float) -> Lease | None:
    lease = account.live(now)
    return lease if lease is not None and lease.free >= atoms else None
