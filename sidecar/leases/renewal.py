"""What to tell the ledger of our leases: renew them, ask for more, give back what is idle."""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Final

from sidecar.contract.messages import MAX_LEASES_PER_SYNC, AnyPart, LeaseReport, PartReply, lease_account
from sidecar.leases.accounts import NEVER, Lease
from sidecar.leases.fairness import in_turn
from sidecar.leases.grace import idle_part, is_kept, note_use
from sidecar.leases.options import Courier, KeeperOptions, LeaseNotes
from sidecar.leases.table import LeaseTable
from sidecar.ports import Clock

logger = logging.getLogger("sidecar.leases")


RATE_OVER_S: Final = 1.0
"""What was spent since the keeper last looked is taken to have taken this long at least: a burst is not yet a rate."""


MAX_DECLARATIONS: Final = 5
"""Times that a book may refuse to hear of a customer's leases before the others go on without."""


def demand(lease: Lease, cover_s: float, now: float) -> int:
    """What a lease's account is expected to need until it is next talked about (L44).

    1.25 × the most that open calls held of late, and what is spent in `cover_s` at the present rate:
    the last one measured, or that since then if it is higher. Load that has just begun would
    otherwise be lent a call or two at a time until the first refresh.
    """
    rate = max(lease.rate, (lease.spent - lease.rated_spent) / max(now - lease.rated_at, RATE_OVER_S))
    return max(lease.peak, lease.peak_before) * 5 // 4 + round(rate * cover_s)


class Renewal:
    """Reports on leases, due when the keeper, low water, a recall or a change says so."""

    def __init__(
        self,
        table: LeaseTable,
        clock: Clock,
        notes: LeaseNotes,
        courier: Courier,
        options: KeeperOptions,
        *,
        waiting: Container[str],
    ) -> None:
        """`waiting`: the customers of whom calls wait here, for what was perhaps just lent."""
        self._waiting = waiting
        self._table = table
        self._clock = clock
        self._notes = notes
        self._courier = courier
        self._options = options
        self._due: dict[str, Lease] = {}
        self._undeclared: dict[str, Lease] = {}
        self._refused = 0
        table.on_low = self.hasten

    def hasten(self, lease: Lease) -> None:
        """Report a lease now, not at the next refresh."""
        self._due[lease.lease_id] = lease
        self._courier.wake()

    def refresh(self) -> None:
        """Look at every lease: what is idle, recalled or over goes back, and each is reported."""
        now = self._clock.monotonic()
        note_use(self._table.leases())
        for lease in self._table.leases():
            self._look(lease, now)
            self._due[lease.lease_id] = lease
        if self._due:
            self._courier.wake()

    def give_back(self, customer: str) -> None:
        """Everything that is free of a customer's goes back, now; but for overdrafts, which nobody else lacks."""
        for lease in self._table.leases_of(customer):
            if lease.account.is_overdraft:
                continue
            self._table.give_back(lease, lease.free)
            self._due[lease.lease_id] = lease
        self._courier.wake()

    def recall(self, customer: str, account: str) -> None:
        """Somebody waits for what is idle of an account: it goes back, now (L45)."""
        for lease in self._table.leases_of(customer):
            if lease_account(lease.lease_id) == account and lease.free and not lease.account.is_overdraft:
                self._table.give_back(lease, lease.free)
                lease.recalled = True
                self.hasten(lease)

    def declare(self) -> None:
        """The book has become another: each lease is to be told to it, also those at rest (L50a)."""
        self._undeclared = {lease.lease_id: lease for lease in self._table.all_leases()}
        self._refused = 0

    @property
    def is_declared(self) -> bool:
        """Whether the book has heard of every lease that there was when it became another."""
        return not self._undeclared

    def close_all(self) -> None:
        """Close every lease on which no hold stands; those that one stands on give back what is free."""
        for lease in self._table.leases():
            if lease.held:
                self._table.give_back(lease, lease.free)
            else:
                self._table.close(lease)
            self._due[lease.lease_id] = lease

    def _look(self, lease: Lease, now: float) -> None:
        if lease.closed:
            return
        options, table = self._options, self._table
        elapsed = now - lease.rated_at
        lease.rate = (lease.spent - lease.rated_spent) / elapsed if elapsed > 0 else 0.0
        lease.rated_at, lease.rated_spent = now, lease.spent
        if now >= lease.ends_at:
            table.give_back(lease, lease.free)
            if _may_close(lease):
                table.close(lease)
        elif table.degraded:
            pass  # nobody could be lent it before the ledger answers; here it may be all there is until then (F-01)
        elif lease.account.is_overdraft:
            table.give_back(lease, idle_part(lease, now))
        elif not lease.held and now - max(lease.used_at, lease.starts_at) >= options.idle_after_s:
            table.give_back(lease, lease.free)
        elif lease.recalled:
            table.give_back(lease, max(0, lease.free - max(lease.peak, lease.peak_before)))
        lease.peak, lease.peak_before = lease.held, lease.peak

    def due(self) -> dict[str, list[LeaseReport]]:
        """Reports to send now, by customer: at most MAX_LEASES_PER_SYNC, of each customer in turn; the rest stays due.

        What is sent in vain is due again at the next refresh; what is to be declared, at once.
        """
        now = self._clock.monotonic()
        if self._undeclared:
            self._due.update(self._undeclared)
        reports: dict[str, list[LeaseReport]] = {}
        some = list(self._due.values())
        if len(some) > MAX_LEASES_PER_SYNC:
            some = in_turn(some, lambda lease: lease.customer, MAX_LEASES_PER_SYNC)
        for lease in some:
            del self._due[lease.lease_id]
            reports.setdefault(lease.customer, []).append(self._report(lease, now))
        return reports

    @property
    def has_due(self) -> bool:
        """Whether there is something to report."""
        return bool(self._due)

    def heard(self, part: AnyPart, reply: PartReply, sent_at: float) -> None:
        """Take in the answer to a part that was sent at an instant (monotonic)."""
        if reply.error and part.leases:
            facts = {"customer": part.customer, "problem": reply.error[:512]}
            logger.warning("lease_reports_refused", extra={"facts": facts})
            if not reply.booked:
                self._give_up_declaring(part)
                return
        grown = self._table.merge(part.customer, reply.leases, sent_at=sent_at, now=self._clock.monotonic())
        for lease in grown:
            self._notes.note_lease(lease.customer, lease.lease_id, lease.granted, lease.spent)
        answered = {grant.lease_id for grant in reply.leases}
        for report in part.leases:
            self._undeclared.pop(report.lease_id, None)
            known = self._table.lease(report.lease_id)
            if known is not None:
                refused = bool(reply.error) and report.lease_id not in answered and not report.closed
                self._acknowledge(known, report, sent_at, refused=refused)

    def _give_up_declaring(self, part: AnyPart) -> None:
        """The book takes nothing of a customer's: after some tries what else it takes need not wait for that."""
        if not self._undeclared:
            return
        self._refused += 1
        if self._refused >= MAX_DECLARATIONS:
            for report in part.leases:
                self._undeclared.pop(report.lease_id, None)
            logger.error("leases_not_declared", extra={"facts": {"customer": part.customer}})

    def _acknowledge(self, lease: Lease, report: LeaseReport, sent_at: float, *, refused: bool) -> None:
        if refused:  # the ledger does not know it: nothing may be admitted on it any more
            lease.closed, lease.ends_at = True, -NEVER
        else:
            lease.reported = max(lease.reported, report.returned_atoms)
            lease.told_at = max(lease.told_at, sent_at)
        if lease.closed and not lease.held and (refused or report.closed):
            self._table.drop(lease)
            self._notes.note_ended(lease.lease_id)
        elif not lease.closed and _may_close(lease):
            self._table.close(lease)
            self.hasten(lease)
        elif lease.recalled and lease.free and self._is_idle(lease):
            self._table.give_back(lease, lease.free)
            self.hasten(lease)
        elif lease.account.is_overdraft and is_kept(lease, self._clock.monotonic()):
            pass  # also an empty one waits for its part
        elif self._table.rest(lease):
            self._notes.note_ended(lease.lease_id)

    def _is_idle(self, lease: Lease) -> bool:
        """Whether nobody here holds on a lease, or waits to: what was lent for a call stays until it runs."""
        return not (lease.held or lease.account.is_overdraft or lease.customer in self._waiting)

    def _report(self, lease: Lease, now: float) -> LeaseReport:
        want = 0
        if lease.account.is_overdraft:
            want = int(lease.is_live(now) and not lease.recalled and is_kept(lease, now))  # of its part, all
        elif lease.has_more and not lease.recalled and lease.is_live(now):
            needed, free = demand(lease, self._options.cover_s, now), lease.free
            want = needed - free if free * 2 < needed else 0
        return LeaseReport(lease.lease_id, lease.returned, want, lease.closed, lease.spent, lease.granted)


def _may_close(lease: Lease) -> bool:
    """Whether a lease's period is over and nothing stands on it.

    It must have been reported once more after the end: all that was ever lent on it is known
    then, and the rest can be sworn to.
    """
    return not lease.held and lease.told_at >= lease.over_at
