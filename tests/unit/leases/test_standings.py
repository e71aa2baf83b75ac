"""Standings and changes: which of two is newer."""

from __future__ import annotations

from sidecar.core.governance.standing import Standing, Wallet
from sidecar.core.governance.tenancy import Subject
from sidecar.leases.standings import Known, StandingCache


def known(revision: int, asked_at: float, customer: str = "acme", user: str = "") -> Known:
    """A standing, asked for at an instant."""
    standing = Standing(customer, (), user, Wallet.NONE, "usd", (), (), "default@1", revision, 60_000)
    return Known(standing, Subject(customer, user=user), "m", "p", asked_at)


def test_a_standing_from_before_a_change_is_not_taken() -> None:
    """L35: its question was under way when the change was heard of."""
    cache = StandingCache()
    cache.change("acme", 8, 10.0)
    assert not cache.put(known(7, 9.9))
    assert cache.get(Subject("acme")) is None
    assert cache.put(known(8, 9.9))


def test_a_book_put_back_is_believed_again() -> None:
    """L50a: its revisions are lower; what was asked for after the change is as new as the book is."""
    cache = StandingCache()
    cache.change("acme", 8, 10.0)
    assert cache.put(known(3, 10.1))


def test_the_revision_gone_by_is_never_ahead_of_what_is_kept() -> None:
    """L35: told with each report. A newer standing of one subject says nothing of the others; a change does."""
    cache = StandingCache()
    assert cache.revision("acme") == 0
    cache.put(known(5, 1.0))
    assert cache.revision("acme") == 5
    cache.put(known(7, 2.0))
    assert cache.revision("acme") == 5
    cache.change("acme", 7, 3.0)
    assert cache.revision("acme") == 7
    cache.change("acme", 6, 4.0)
    assert (cache.revision("acme"), cache.revision("other")) == (7, 0)


def test_a_customer_with_ever_new_users_takes_no_other_customers_place() -> None:
    """S-35: it makes room for itself; the others' standings stay, and a newcomer's comes in."""
    cache = StandingCache(max_standings=10)
    for name in ("globex", "initech"):
        cache.put(known(1, 0.0, name, "ada"))
    for number in range(1000):
        cache.put(known(1, 1.0 + number, "acme", f"user-{number}"))
    assert len(cache) == 10
    assert all(cache.get(Subject(name, user="ada")) for name in ("globex", "initech"))
    assert cache.get(Subject("acme", user="user-999"))
    assert cache.get(Subject("acme", user="user-991")) is None
    cache.put(known(1, 2000.0, "umbrella", "bob"))
    assert cache.get(Subject("umbrella", user="bob"))
    assert len(cache) == 10
    cache.change("acme", 2, 3000.0)
    assert cache.get(Subject("acme", user="user-999")) is None
    assert len(cache) <= 3


def test_more_customers_than_places() -> None:
    """Each has one then, and the one that was asked for longest ago goes."""
    cache = StandingCache(max_standings=4)
    for number in range(9):
        cache.put(known(1, float(number), f"customer-{number}"))
    assert [number for number in range(9) if cache.get(Subject(f"customer-{number}"))] == [5, 6, 7, 8]
