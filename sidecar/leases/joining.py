"""A hold that grows while its call runs (L22).

A call whose whole bound does not fit may begin with less, where what it uses can be told while it runs. What it needs
more is taken as any hold is, over all accounts or on none (L21), and then joined to the first: the call is settled
once, by one hold. It can be joined only on the same leases, for those stand in the call's admission and are charged
by it: so a hold does not grow past the end of its period, nor after its limits were changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.leases.accounts import Account
from sidecar.leases.verdicts import Held

if TYPE_CHECKING:
    from sidecar.leases.table import LeaseTable


def join(table: LeaseTable, held: Held, more: Held) -> bool:
    """Add a hold to another, which then has both; false if they stand on other budgets' leases, or one is over.

    Where it is false nothing is changed, and `more` is still to be released.

    Args:
        table: that gave both.
        held: the hold that grows.
        more: what it grows by; not to be used any more once it is joined.
    """
    if held.resolved or more.resolved or held is more or len(held.leases) != len(more.leases):
        return False
    if any(one is not other for one, other in zip(held.leases, more.leases, strict=True)):
        return False
    places: dict[Account, int] = {account: place for place, account in enumerate(more.plan.grants)}
    parts = dict(held.parts)
    for lease, atoms in more.parts:
        parts[lease] = parts.get(lease, 0) + atoms
    # A grant that the plan does not know any more was the first to be lent out: it stays in front.
    held.parts = sorted(parts.items(), key=lambda part: places.get(part[0].account, -1))
    held.atoms += more.atoms
    more.resolved = True
    table.open_holds -= 1
    return True
