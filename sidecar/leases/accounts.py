"""What this sidecar knows of one budget's or grant's account, and the lease that it has on it.

Plain objects with plain ints: a decision reads and writes a few of these numbers for every
account that applies, and nothing else stands between a request and its answer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sidecar.contract.messages import AccountReading, lease_account
from sidecar.core.governance.overdrafts import is_overdraft

if TYPE_CHECKING:
    from sidecar.leases.verdicts import Plan

NEVER: Final = math.inf
"""An instant that does not come."""

NO_MARK: Final = 1 << 63
"""A low-water mark that is never crossed: the account has no more, or was asked for more already."""


class Lease:
    """Spending power on one account, moved here. All amounts are atoms, all instants monotonic seconds.

    `granted` and `returned` are totals that only grow (L42). `spent` + `held` + `returned` ≤ `granted`,
    except after a charge above its hold. Nothing is admitted on it from `ends_at` on, nor before
    `starts_at`. `over_at` is when its account's period ends, NEVER for what has none.
    """

    __slots__ = (
        "account",
        "closed",
        "customer",
        "ends_at",
        "granted",
        "has_more",
        "heard_at",
        "held",
        "lease_id",
        "mark",
        "over_at",
        "peak",
        "peak_before",
        "rate",
        "rated_at",
        "rated_spent",
        "recalled",
        "reported",
        "returned",
        "spent",
        "starts_at",
        "told_at",
        "used_at",
    )

    def __init__(self, lease_id: str, customer: str, account: Account) -> None:
        self.lease_id = lease_id
        self.customer = customer
        self.account = account
        self.granted = 0
        self.returned = 0
        self.spent = 0
        self.held = 0
        self.reported = 0
        """Of `returned`, what the ledger has acknowledged."""
        self.starts_at = 0.0
        self.ends_at = -NEVER
        self.over_at = NEVER
        self.heard_at = -NEVER
        """When the last message was sent whose answer told of it; later answers to older ones are passed over."""
        self.told_at = -NEVER
        """When the last report was sent that the ledger has acknowledged."""
        self.used_at = -NEVER
        """When it was last held on, or lent."""
        self.has_more = False
        self.recalled = False
        self.closed = False
        self.mark = NO_MARK
        """Low water: more is asked for once `spent` + `held` exceed it."""
        self.peak = self.peak_before = 0
        """The most that was held at once since the keeper last looked, and between the two times before."""
        self.rate = 0.0
        """Atoms spent a second, between the last two times that the keeper looked."""
        self.rated_at = 0.0
        self.rated_spent = 0

    @property
    def left(self) -> int:
        """What is granted beyond what is used: below zero while a charge exceeded what was lent."""
        return self.granted - self.returned - self.spent - self.held

    @property
    def free(self) -> int:
        """What may still be held on it; never below zero."""
        return max(0, self.granted - self.returned - self.spent - self.held)

    def is_live(self, now: float) -> bool:
        """Whether it may be admitted on."""
        return self.starts_at <= now < self.ends_at

    def set_mark(self) -> None:
        """Put low water at half of what is free now, if there is more to ask for."""
        self.mark = self.granted - self.returned - self.free // 2 if self.has_more else NO_MARK


class Account:
    """One budget's child, or one grant: its lease now, the one for its next period, and the book's last figures.

    `unlent` follows what we borrow and return between two readings. Figures are of the account
    named `name`; before the first reading in a period they are unknown (`read_at` is -NEVER).
    """

    __slots__ = (
        "ahead",
        "ahead_asked_at",
        "child",
        "customer",
        "elsewhere",
        "has_more",
        "id",
        "is_overdraft",
        "kind",
        "lease",
        "limit",
        "name",
        "overdraft",
        "overdrawn",
        "plan",
        "read_at",
        "read_sent_at",
        "resets_at",
        "unlent",
        "used",
    )

    def __init__(self, customer: str, kind: str, account_id: str, child: str) -> None:
        self.customer = customer
        self.kind = kind
        self.id = account_id
        self.child = child
        self.lease: Lease | None = None
        self.ahead: Lease | None = None
        self.ahead_asked_at = -NEVER
        self.is_overdraft = kind == "budget" and is_overdraft(account_id)
        self.overdraft: Account | None = None
        """What may be spent in its place while the ledger is away (L47)."""
        self.plan: Plan | None = None
        """The plan last made that draws on it: a call by which to ask for its next period."""
        self.has_more = True
        """Whether there may be more to lend than we have: so until we are told otherwise (L16)."""
        self.name = ""
        self.limit = self.used = self.elsewhere = self.unlent = 0
        self.overdrawn: int | None = None
        self.resets_at = NEVER
        self.read_sent_at = -NEVER
        self.read_at = -NEVER

    def live(self, now: float) -> Lease | None:
        """The lease that may be admitted on now; the next period's takes over when it begins."""
        lease = self.lease
        if lease is not None and lease.is_live(now):
            return lease
        ahead = self.ahead
        if ahead is None or not ahead.is_live(now):
            return None
        self.lease, self.ahead = ahead, None
        self.read_sent_at = self.read_at = -NEVER  # the figures were of the period that is over
        return ahead

    def read(self, reading: AccountReading, *, sent_at: float, now: float) -> None:
        """Take the book's figures, unless they are older than those we have."""
        if sent_at < self.read_sent_at:
            return
        self.name = reading.account
        self.limit = reading.limit_atoms
        self.used = reading.used_atoms
        self.elsewhere = reading.elsewhere_atoms
        self.unlent = reading.unlent_atoms
        self.overdrawn = reading.overdrawn_atoms
        self.has_more = reading.unlent_atoms > 0
        self.resets_at = NEVER if reading.resets_in_ms is None else sent_at + reading.resets_in_ms / 1000
        self.read_sent_at = sent_at
        self.read_at = now

    @property
    def held(self) -> int:
        """What open calls hold here."""
        return 0 if self.lease is None else self.lease.held

    def free(self, now: float) -> int:
        """What may be held now without asking."""
        lease = self.live(now)
        return 0 if lease is None else lease.free

    def grow(self, atoms: int) -> None:
        """So much more was granted on our lease: of it the book had taken before what it was overdrawn by."""
        made_up = min(self.overdrawn or 0, atoms)
        if made_up:
            self.overdrawn = (self.overdrawn or 0) - made_up
        self.unlent = max(0, self.unlent - (atoms - made_up))

    def unbooked_excess(self) -> int:
        """What is charged above our lease, and not yet taken from the account in the book: it is to be."""
        lease, overdrawn = self.lease, self.overdrawn
        if lease is None or overdrawn is None or lease.left >= 0 or lease_account(lease.lease_id) != self.name:
            return 0  # of the period before the figures of this one know nothing
        return max(0, -lease.left - overdrawn)

    def settled(self) -> int:
        """What is spent for good, here (posted or not) and elsewhere; a figure for people, exact at each reading."""
        free = 0 if self.lease is None else self.lease.free
        lent = self.limit - self.unlent - self.elsewhere
        return max(self.used, lent - free - self.held + self.unbooked_excess())
