"""Nothing is borrowed from a ledger that has not heard yet what was spent before."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.contract.messages import (
    AnySync,
    Change,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
)
from sidecar.errors import LedgerUnavailable
from sidecar.ports import Ledger


class LendingGate:
    """A ledger as the keeper sees it: shut until this start is known there, and while the book is brought up to date.

    Args:
        ledger: the ledger itself.
        is_replaying: whether the book was replaced or put back and lacks calls that are kept here (L50a).
    """

    def __init__(self, ledger: Ledger, is_replaying: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._is_replaying = is_replaying
        self._is_open = False

    def open(self) -> None:
        """This start is known to the ledger."""
        self._is_open = True

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger does."""
        return await self._ledger.register(request)

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """As the ledger does, once the gate is open.

        Raises:
            LedgerUnavailable: it is shut.
        """
        if not self._is_open:
            raise LedgerUnavailable("the ledger has not answered since this start")
        if self._is_replaying():
            raise LedgerUnavailable("the ledger lacks calls that are on their way to it")
        return await self._ledger.resolve(request)

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """As the ledger does: it lends nothing."""
        return await self._ledger.resolve_key(request)

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger does."""
        return await self._ledger.sync(request)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """As the ledger does."""
        return self._ledger.subscribe(listener)
