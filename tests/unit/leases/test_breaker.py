from __future__ import annotations

from sidecar.leases.breaker import JITTER, TRY_S, Breaker, State


def made() -> Breaker:
    return Breaker(failures=3, open_s=1, max_open_s=3)


def test_it_opens_after_some_failures_in_a_row() -> None:
    """A success between them begins the count anew."""
    breaker = made()
    assert [breaker.failed(0, 0), breaker.failed(0, 0)] == [False, False]
    assert not breaker.worked()
    assert [breaker.failed(0, 0), breaker.failed(0, 0), breaker.failed(0, 0)] == [False, False, True]
    assert not breaker.allows(0.99)


def test_one_tries_when_the_pause_is_over() -> None:
    """The others go on without; what works closes it."""
    breaker = made()
    for _ in range(3):
        breaker.failed(0, 0)
    assert [breaker.allows(1), breaker.allows(1), breaker.allows(1.5)] == [True, False, False]
    assert breaker.worked()
    assert breaker.state is State.CLOSED
    assert breaker.allows(1.5)


def test_pauses_grow_to_their_bound() -> None:
    """Twice as long after each try that fails; chance takes off a part, so that a fleet is out of step."""
    breaker, now, pauses = made(), 0.0, []
    for _ in range(3):
        breaker.failed(now, 0)
    for _ in range(4):
        began = now
        while not breaker.allows(now):
            now += 0.25
        pauses.append(now - began)
        breaker.failed(now, 0)
    assert pauses == [1, 2, 3, 3]
    lucky = made()
    for _ in range(3):
        lucky.failed(0, 1)
    assert lucky.allows(1 - JITTER)


def test_a_try_that_is_never_heard_of_does_not_shut_it_for_ever() -> None:
    """Whoever was to try may have gone: another may after a while."""
    breaker = made()
    for _ in range(3):
        breaker.failed(0, 0)
    assert breaker.allows(1)
    assert not breaker.allows(1 + TRY_S / 2)
    assert breaker.allows(1 + TRY_S)
