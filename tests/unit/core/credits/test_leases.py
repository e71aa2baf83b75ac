"""The arithmetic of a lease, and how much to lend."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.leases import escrow, lease_size, spendable

atoms = st.integers(0, 10**6)


@given(atoms, atoms, st.integers(0, 10**6), st.integers(1, 9))
def test_size_never_exceeds_what_remains_and_covers_the_waiter(
    at_least: int, demand: int, remaining: int, holders: int
) -> None:
    """L39, L44: 0 only where the waiting request itself does not fit."""
    size = lease_size(at_least=at_least, demand=demand, remaining=remaining, live_holders=holders)
    assert size <= remaining
    assert size >= at_least or size == 0
    if at_least <= remaining:
        assert size <= max(at_least, remaining // 4, 0)
        assert size <= max(at_least, demand)


def test_size_shrinks_towards_the_limit() -> None:
    """L44: far away it follows demand; near the end it is the single request."""
    sizes = [
        lease_size(at_least=10, demand=1000, remaining=left, live_holders=1) for left in (100_000, 2000, 100, 12, 9)
    ]
    assert sizes == [1000, 500, 25, 10, 0]


@given(atoms, atoms, atoms, st.integers(0, 10**6))
def test_what_the_holder_may_spend_is_in_escrow(granted: int, returned: int, spent: int, held: int) -> None:
    """L42: as long as no more is posted than is spent, the ledger keeps at least what may still be spent."""
    for posted in (0, spent // 2, spent):
        assert spendable(granted, returned, spent, held) <= escrow(granted, returned, posted)
