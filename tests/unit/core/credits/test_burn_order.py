"""Which grants pay, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credits.burn_order import burn_key, cover
from sidecar.core.credits.grants import Category, Grant


def grant(grant_id: str, **fields: object) -> Grant:
    """A live grant that never expires, but for the fields given."""
    base: dict[str, object] = {"currency": "usd", "issued_atoms": 100, "effective_at_ms": 0, "sequence": 1}
    return Grant(grant_id=grant_id, **(base | fields))  # type: ignore[arg-type]


grants = st.lists(
    st.builds(
        Grant,
        grant_id=st.uuids().map(str),
        currency=st.just("usd"),
        issued_atoms=st.just(0),
        effective_at_ms=st.integers(0, 5),
        sequence=st.integers(1, 10_000),
        expires_at_ms=st.none() | st.integers(1, 12),
        category=st.sampled_from(Category),
        priority=st.integers(-1, 1),
    ),
    max_size=6,
    unique_by=lambda g: g.sequence,
)


def test_order_is_priority_then_expiry_then_promotional_then_effective_then_sequence() -> None:
    """L11: each rule decides only what those before it left a tie; never-expiring comes last."""
    expected = [
        grant("urgent", priority=-1),
        grant("ends soon", expires_at_ms=50),
        grant("ends later", expires_at_ms=60, category=Category.PROMOTIONAL),
        grant("given", category=Category.PROMOTIONAL, sequence=9),
        grant("early", effective_at_ms=0, sequence=5),
        grant("late", effective_at_ms=3, sequence=2),
        grant("later still", effective_at_ms=3, sequence=4),
        grant("last resort", priority=1, expires_at_ms=10),
    ]
    shuffled = [expected[index] for index in (3, 7, 0, 5, 1, 6, 2, 4)]
    assert sorted(shuffled, key=burn_key) == expected


def test_a_grant_expiring_just_now_is_dead() -> None:
    """L10: validity is [effective, expires): the first instant pays, the last does not."""
    lot = grant("g", effective_at_ms=10, expires_at_ms=20)
    assert [cover(1, [lot], {"g": 5}, at_ms=at).shortfall for at in (9, 10, 19, 20)] == [1, 0, 0, 1]


@given(grants, st.data(), st.integers(0, 300), st.integers(0, 12))
def test_cover_equals_sort_and_walk(lots: list[Grant], data: st.DataObject, owed: int, at_ms: int) -> None:
    """L12: exactly what a reference that pays one atom at a time from the first live grant gives."""
    available = {lot.grant_id: data.draw(st.integers(0, 80)) for lot in lots}
    result = cover(owed, lots, available, at_ms=at_ms)

    left, paid, unpaid = dict(available), dict.fromkeys(available, 0), 0
    ordered = [lot.grant_id for lot in sorted(lots, key=burn_key) if lot.is_live(at_ms)]
    for _ in range(owed):
        payer = next((g for g in ordered if left[g]), None)
        if payer is None:
            unpaid += 1
        else:
            left[payer] -= 1
            paid[payer] += 1

    assert dict(result.draws) == {g: atoms for g, atoms in paid.items() if atoms}
    assert result.shortfall == unpaid
    assert [g for g, _ in result.draws] == [g for g in ordered if paid[g]]


def test_a_negative_charge_is_refused() -> None:
    """L18 is about refunds; this is not how to make one."""
    with pytest.raises(ValueError, match="negative"):
        cover(-1, [], {}, at_ms=0)


def test_scope_covers_models_and_features() -> None:
    """L12: only a grant whose scope covers the call takes part."""
    lot = grant("g", models=("gpt-4o*", "o3"), features=("chat",))
    assert lot.covers(model="gpt-4o-mini", feature="chat")
    assert not lot.covers(model="gpt-4.1", feature="chat")
    assert not lot.covers(model="o3", feature="")
    assert grant("all").covers(model="anything", feature="")
