"""What others hold of an account is asked back at once, but not by each call of a crowd (L45)."""

from __future__ import annotations

from sidecar.ledger.recalls import MAX_REMEMBERED, PAUSE_MS, Recalls


def test_an_account_is_asked_back_once_in_a_while() -> None:
    """Each for itself, and each customer's."""
    recalls = Recalls()
    assert recalls.due("acme", ["a", "b"], 1000) == ["a", "b"]
    assert recalls.due("acme", ["a", "c"], 1000 + PAUSE_MS - 1) == ["c"]
    assert recalls.due("other", ["a"], 1000 + PAUSE_MS - 1) == ["a"]
    assert recalls.due("acme", ["a"], 1000 + PAUSE_MS) == ["a"]


def test_memory_is_bounded() -> None:
    """Forgetting costs a message more."""
    recalls = Recalls()
    for number in range(3 * MAX_REMEMBERED):
        assert recalls.due("acme", [f"a{number}"], number)
    assert len(recalls._asked_at_ms) <= MAX_REMEMBERED
