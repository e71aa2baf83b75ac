"""A customer's grants within one transaction: what may pay now, what has expired, what is owed."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.core.credits.burn_order import burn_key, cover
from sidecar.core.credits.entries import Bucket, Moves
from sidecar.core.credits.grants import Category, Grant
from sidecar.core.governance.budgets import grant_account
from sidecar.ledger.journal import Journal
from sidecar.ledger.policies import grant_of
from sidecar.ledger.sql import fetch_in

ACTOR = "ledger"
"""Who posts what nobody asked for: an expiry, a repayment, a threshold."""

MAX_LIVE_GRANTS = 256
"""Grants of a customer that have anything left and have not expired. One more is not issued."""


def debt_account(currency: str) -> str:
    """What a customer used beyond all credit it had: `debt:usd`."""
    return f"debt:{currency}"


class Purse:
    """The grants that can still pay, with their balances in the journal."""

    def __init__(self, journal: Journal, grants: Iterable[Grant]) -> None:
        self._journal = journal
        self._grants = {grant_account(grant.grant_id): grant for grant in sorted(grants, key=burn_key)}
        self._ended: dict[str, Grant] = {}
        self._voided: set[str] = set()

    @classmethod
    async def open(cls, journal: Journal) -> Purse:
        """Read the grants and post the expiries that are due.

        Whatever touches a grant comes through here first, so that an expiry stands before the
        next entry that touches its grant (L3). Of exhausted grants only as many are read as
        there is room for: they can pay nothing, but a denial names them.
        """
        rows = await journal.tx.fetch(
            "SELECT g.*, (a.available + a.leased > 0) AS funded, a.account, a.source, a.available, a.held, a.leased,"
            " a.consumed, a.expired, a.revoked, a.unaccounted, a.alerted_percent, a.wanted_until_ms"
            " FROM grants AS g JOIN accounts AS a"
            " ON a.customer = g.customer AND a.account = 'grant:' || g.grant_id"
            " WHERE g.customer = ? AND g.ended = 0 ORDER BY funded DESC, g.sequence DESC LIMIT ?",
            (journal.customer, MAX_LIVE_GRANTS),
        )
        purse = cls(journal, map(grant_of, rows))
        for row in rows:
            journal.take_account(row)
        await purse._expire()
        return purse

    def add(self, grant: Grant) -> None:
        """Take in a grant that this transaction issued."""
        grants = [*self._grants.values(), grant]
        self._grants = {grant_account(one.grant_id): one for one in sorted(grants, key=burn_key)}

    @property
    def funded(self) -> int:
        """How many grants have anything left, now or later."""
        return sum(self.available(grant) > 0 for grant in self._grants.values())

    @property
    def live(self) -> tuple[Grant, ...]:
        """The grants that pay now (L10), in burn order."""
        return tuple(grant for grant in self._grants.values() if grant.is_live(self._journal.now_ms))

    def covering(self, currency: str, *, model: str, feature: str) -> tuple[Grant, ...]:
        """The live grants of a currency whose scope covers a call, in burn order (L12)."""
        return tuple(g for g in self.live if g.currency == currency and g.covers(model=model, feature=feature))

    def next_change_ms(self) -> int | None:
        """The next instant at which a grant begins or stops to pay; None if there is none."""
        now_ms = self._journal.now_ms
        instants = [at for g in self._grants.values() for at in (g.effective_at_ms, g.expires_at_ms)]
        return min((at for at in instants if at is not None and at > now_ms), default=None)

    def available(self, grant: Grant) -> int:
        """Atoms of a grant that nobody holds."""
        return self._journal.balance(grant_account(grant.grant_id), grant.currency).available

    async def load(self, accounts: Iterable[str]) -> None:
        """Read the grants of accounts also where they have ended."""
        missing = [one.removeprefix("grant:") for one in accounts if one.startswith("grant:") and not self.find(one)]
        sql = "SELECT * FROM grants WHERE customer = ? AND grant_id IN ({})"
        for row in await fetch_in(self._journal.tx, sql, (self._journal.customer,), missing):
            account = grant_account(row["grant_id"])
            self._ended[account] = grant_of(row)
            if row["voided"]:
                self._voided.add(account)

    def find(self, account: str) -> Grant | None:
        """The grant of an account, if it was read."""
        return self._grants.get(account) or self._ended.get(account)

    def is_voided(self, account: str) -> bool:
        """Whether an account that was read is of a grant that was voided (L15)."""
        return account in self._voided

    def home(self, account: str) -> Bucket:
        """Where goes what comes back to an account that was read, of a grant or of a budget (L13, L15)."""
        if account in self._voided:
            return Bucket.REVOKED
        grant = self.find(account)
        ended = grant is not None and grant.expires_at_ms is not None and grant.expires_at_ms <= self._journal.now_ms
        return Bucket.EXPIRED if ended else Bucket.AVAILABLE

    def take_excess(self, moves: Moves, atoms: int, currency: str, *, model: str, feature: str) -> int:
        """Find what a charge exceeded its hold by: from free credit in burn order, else as debt (L17).

        The debt's account must have been loaded. Gives the debt made, in atoms.
        """
        free = {
            grant.grant_id: self.available(grant) for grant in self.covering(currency, model=model, feature=feature)
        }
        covering = [g for g in self.live if g.grant_id in free]
        coverage = cover(atoms, covering, free, at_ms=self._journal.now_ms)
        for grant_id, taken in coverage.draws:
            moves.move(grant_account(grant_id), currency, Bucket.AVAILABLE, Bucket.CONSUMED, taken)
        moves.move(debt_account(currency), currency, Bucket.SOURCE, Bucket.CONSUMED, coverage.shortfall)
        return coverage.shortfall

    async def debt(self, currency: str) -> int:
        """What the customer owes, in atoms."""
        await self._journal.load_accounts([debt_account(currency)])
        return self._journal.balance(debt_account(currency), currency).consumed

    async def repay(self, currency: str) -> None:
        """Repay debt from whatever paid credit is free (L17): a new grant's, or what came back from a lease.

        Debt is the customer's and has no scope, so neither has its repayment; what was given
        away repays nothing.
        """
        debt = await self.debt(currency)
        if not debt:
            return
        paid = [g for g in self.live if g.category is Category.PAID and g.currency == currency]
        free = {grant.grant_id: self.available(grant) for grant in paid}
        draws = cover(debt, paid, free, at_ms=self._journal.now_ms).draws
        if draws:
            moves = Moves()
            for grant_id, taken in draws:
                moves.move(grant_account(grant_id), currency, Bucket.AVAILABLE, Bucket.CONSUMED, taken)
                moves.move(debt_account(currency), currency, Bucket.CONSUMED, Bucket.SOURCE, taken)
            self._journal.post("debt_repaid", actor=ACTOR, moves=moves)

    async def _expire(self) -> None:
        """Post what expired since somebody last looked, as of the instant it did (L3, L13)."""
        now_ms = self._journal.now_ms
        due = [g for g in self._grants.values() if g.expires_at_ms is not None and g.expires_at_ms <= now_ms]
        for grant in due:
            account = grant_account(grant.grant_id)
            self._ended[account] = self._grants.pop(account)
            left = self.available(grant)
            if left:
                moves = Moves()
                moves.move(account, grant.currency, Bucket.AVAILABLE, Bucket.EXPIRED, left)
                self._journal.post(
                    "grant_expired",
                    actor=ACTOR,
                    moves=moves,
                    facts={"grant_id": grant.grant_id},
                    key=grant.grant_id,
                    occurred_at_ms=grant.expires_at_ms,
                )
        if due:
            await self._journal.tx.execute_many(
                "UPDATE grants SET ended = 1 WHERE customer = ? AND grant_id = ?",
                [(self._journal.customer, grant.grant_id) for grant in due],
            )
