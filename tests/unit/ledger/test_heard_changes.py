"""Which changes are heard of, and told on once."""

from __future__ import annotations

from sidecar.contract.messages import Change, PartReply, SyncReply
from sidecar.ledger.heard_changes import HeardChanges


def listening() -> tuple[HeardChanges, list[Change]]:
    changes = HeardChanges()
    told: list[Change] = []
    changes.subscribe(told.append)
    return changes, told


def test_what_was_pushed_is_told_once() -> None:
    """L35: the same revision again, pushed or in an answer, is no change."""
    changes, told = listening()
    for _ in range(2):
        changes.pushed(Change("acme", 3))
    changes.told("acme", 3)
    assert told == [Change("acme", 3)]
    assert changes.seen == (Change("acme", 3),)


def test_a_change_that_was_missed_shows_itself_in_an_answer() -> None:
    """F-40: the first revision that is heard of is none; a newer one is; an answer that was overtaken is none."""
    changes, told = listening()
    for revision in (3, 5, 4):
        changes.synced(SyncReply((PartReply("acme", revision=revision),), "history_1"))
    assert told == [Change("acme", 5)]


def test_another_book_counts_from_its_own_start() -> None:
    """L50a: a lower revision of another history is where it begins, and what follows is a change."""
    changes, told = listening()
    changes.synced(SyncReply((PartReply("acme", revision=9),), "history_1"))
    changes.synced(SyncReply((PartReply("acme", revision=2),), "history_2"))
    changes.synced(SyncReply((PartReply("acme", revision=3),), "history_2"))
    assert told == [Change("acme", 3)]


def test_who_has_left_is_told_nothing() -> None:
    """The function given back ends it; doing so twice is once."""
    changes, told = listening()
    stop = changes.subscribe(lambda change: told.append(Change("twice", change.revision)))
    stop()
    stop()
    changes.pushed(Change("acme", 1))
    assert told == [Change("acme", 1)]


def test_another_history_is_told_once_whoever_says_so_first() -> None:
    """L50a: the first that is heard of is none; pushed and then answered, it is told when it was pushed."""
    changes, told = listening()
    changes.pushed(Change("", 0, history="history_1"))
    changes.pushed(Change("acme", 7))
    for _ in range(2):
        changes.pushed(Change("", 0, history="history_2"))
    changes.synced(SyncReply((PartReply("acme", revision=2),), "history_2"))
    changes.synced(SyncReply((PartReply("acme", revision=3),), "history_2"))
    assert told == [Change("acme", 7), Change("", 0, history="history_2"), Change("acme", 3)]
