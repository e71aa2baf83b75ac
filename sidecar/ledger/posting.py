"""Putting together and applying what settled calls move.

It is what `entries.Moves` and `entries.post` do, for moves that come many to an entry: each is
applied before the next is thought of, and the entry says their sum. Here a balance is changed where
it stands instead of in a copy, and of it only what was moved is looked at. That the legs of an
account sum to zero follows from how they are made: each move leaves one bucket and enters another of
the same account. The journal checks each whole balance by `entries.check` once, before it is written.
"""

from __future__ import annotations

from collections.abc import Container, MutableMapping
from typing import Final

from sidecar.core.credits.entries import MAX_BUCKET, Balance, Bucket, Moves, PostingError

SOURCE: Final = Bucket.SOURCE.value
AVAILABLE: Final = Bucket.AVAILABLE.value
LEASED: Final = Bucket.LEASED.value
CONSUMED: Final = Bucket.CONSUMED.value

Legs = list[tuple[str, str, str, int]]
"""Account, bucket, currency, atoms; a bucket of an account stands there once."""


class CallMoves(Moves):
    """The moves of one call, or of several."""

    def consume(self, account: str, currency: str, leased: int, available: int) -> None:
        """Move atoms (zero or more) to `consumed`: some that were lent, some that were free.

        Raises:
            PostingError: fewer than none of either.
        """
        if leased < 0 or available < 0:
            raise PostingError(f"{account}: a charge of {leased} and {available} atoms")
        atoms, into = self._atoms, (account, CONSUMED, currency)
        if leased:
            out = (account, LEASED, currency)
            atoms[out] = atoms.get(out, 0) - leased
            atoms[into] = atoms.get(into, 0) + leased
        if available:
            out = (account, AVAILABLE, currency)
            atoms[out] = atoms.get(out, 0) - available
            atoms[into] = atoms.get(into, 0) + available

    def add(self, legs: Legs) -> None:
        """Take in what others have moved."""
        for account, bucket, currency, n in legs:
            self._atoms[account, bucket, currency] = self._atoms.get((account, bucket, currency), 0) + n

    def rows(self) -> Legs:
        """The legs, as `legs` gives them, without a type of their own."""
        return [(account, bucket, currency, n) for (account, bucket, currency), n in self._atoms.items() if n]


def post_legs(balances: MutableMapping[str, Balance], absent: Container[str], legs: Legs) -> None:
    """Apply an entry's legs to the balances, in place.

    Args:
        balances: of the accounts that were read and exist; each could be posted as it is.
        absent: names of those that were read and do not exist yet.
        legs: as `CallMoves.rows` gives them.

    Raises:
        PostingError: as `entries.post`, or an account was not read. The balances are then as they were.
    """
    done = 0
    opened: list[str] = []
    try:
        for account, bucket, currency, atoms in legs:
            balance = balances.get(account)
            if balance is None:
                if account not in absent:
                    raise PostingError(f"{account}: used before it was read")
                balance = balances[account] = Balance(currency)
                opened.append(account)
            if balance.currency != currency:
                raise PostingError(f"{account} is in {balance.currency}, not {currency}")
            after = getattr(balance, bucket) + atoms
            setattr(balance, bucket, after)
            done += 1
            if not -MAX_BUCKET <= after <= MAX_BUCKET:
                raise PostingError(f"{account}: larger than a 64-bit number")
            if after > 0 if bucket == SOURCE else after < 0 and _is_floored(account, bucket):
                raise PostingError(f"{account}: {balance} cannot be")
    except PostingError:
        for account, bucket, _, atoms in legs[:done]:
            setattr(balances[account], bucket, getattr(balances[account], bucket) - atoms)
        for account in opened:
            del balances[account]
        raise


def _is_floored(account: str, bucket: str) -> bool:
    """Whether a bucket may not fall below zero: all but what is free of a budget, which can be overrun."""
    return bucket != AVAILABLE or not account.startswith("budget:")
