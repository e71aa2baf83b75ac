"""A lease is two totals that only grow (L42).

`granted` is written by the ledger, `returned` by the holder; each merges what it hears of the
other's by maximum. The holder may spend while spent + held + returned ≤ granted as it knows
it. The ledger's escrow is granted − returned − posted. Losing, repeating or reordering their
messages therefore changes nothing, and no clock and no counting of tries is needed for it:
only for who may *still* admit.
"""

from __future__ import annotations


def escrow(granted: int, returned: int, posted: int) -> int:
    """What the ledger must keep aside for a lease; never below zero.

    A charge above its hold can post more than was granted. The excess was taken from what is
    free elsewhere, so that nothing remains to be kept aside.
    """
    return max(0, granted - returned - posted)


def spendable(granted: int, returned: int, spent: int, held: int) -> int:
    """What the holder may still hold on a lease; never below zero."""
    return max(0, granted - returned - spent - held)


def overdraft_share(*, overdraft: int, held_here: int, remaining: int, live_holders: int) -> int:
    """How much more of an overdraft to lend: up to an equal part for each holder (L47).

    Nobody knows beforehand where an outage will find the demand.

    Args:
        overdraft: all of it, in atoms.
        held_here: what the holder has of it already, unspent.
        remaining: what is neither spent nor lent.
        live_holders: sidecars holding a lease on it, this one included.
    """
    return max(0, min(remaining, overdraft // max(1, live_holders) - held_here))


def lease_size(*, at_least: int, demand: int, remaining: int, live_holders: int) -> int:
    """How much to lend (L44): min(25 % of what remains, demand, remaining ÷ (2 × holders)).

    Never less than the request that waits, never more than what remains; 0 where even that
    request does not fit. Far from the limit it follows demand, near it it shrinks to the
    single request.

    Args:
        at_least: atoms the waiting request lacks.
        demand: atoms the holder expects to need until it next talks.
        remaining: atoms neither spent nor lent.
        live_holders: sidecars holding a lease on the account, this one included.
    """
    if at_least > remaining:
        return 0
    sized = min(remaining // 4, demand, remaining // (2 * max(1, live_holders)))
    return min(remaining, max(at_least, sized))
