"""Which changes a sidecar has heard of, however it heard: pushed by the ledger, or told by an answer (L35)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.contract.messages import Change, SyncReply

MAX_CUSTOMERS: Final = 16_384
"""Customers whose revision is remembered; the one heard of longest ago is forgotten first."""


class HeardChanges:
    """The revisions heard of, and those who want to know of a new one."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[Change], None]] = {}
        self._seen: dict[str, int] = {}
        self._history = ""

    @property
    def seen(self) -> tuple[Change, ...]:
        """Every customer with the revision last heard of, for `ChangesRequest.seen`."""
        return tuple(Change(customer, revision) for customer, revision in self._seen.items())

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Hear of changes until the function given back is called."""
        token = object()
        self._listeners[token] = listener

        def stop() -> None:
            self._listeners.pop(token, None)

        return stop

    def pushed(self, change: Change) -> None:
        """The ledger says that a customer is at a revision: any other than the one heard of is a change.

        Or it asks something back, whatever was heard of. Or it says which history the book has.
        """
        if change.recall:
            self._tell(change)
            return
        if change.history:
            is_other = self._history not in ("", change.history)
            self.of_history(change.history)
            if is_other:
                self._tell(change)
            return
        before = self._seen.get(change.customer)
        self._remember(change.customer, change.revision)
        if before != change.revision:
            self._tell(change)

    def told(self, customer: str, revision: int) -> None:
        """An answer tells a customer's revision: a newer one than was heard of is a change that was missed."""
        before = self._seen.get(customer)
        self._remember(customer, revision if before is None else max(before, revision))
        if before is not None and revision > before:
            self._tell(Change(customer, revision))

    def synced(self, reply: SyncReply) -> None:
        """The answer to a sync."""
        self.of_history(reply.history_id)
        for part in reply.parts:
            if part.revision:
                self.told(part.customer, part.revision)

    def of_history(self, history_id: str) -> None:
        """Another book counts its revisions from its own start."""
        if history_id and history_id != self._history:
            self._history = history_id
            self._seen.clear()

    def _remember(self, customer: str, revision: int) -> None:
        self._seen.pop(customer, None)
        self._seen[customer] = revision
        if len(self._seen) > MAX_CUSTOMERS:
            del self._seen[next(iter(self._seen))]

    def _tell(self, change: Change) -> None:
        for listener in list(self._listeners.values()):
            listener(change)
