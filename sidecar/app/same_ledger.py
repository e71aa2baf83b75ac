"""A ledger that passes everything on to another; who does something otherwise writes that over it."""

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
from sidecar.ports import Ledger


class SameLedger:
    """`ports.Ledger` over another one, as it is."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """As the ledger does."""
        return await self._ledger.register(request)

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """As the ledger does."""
        return await self._ledger.resolve(request)

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """As the ledger does."""
        return await self._ledger.resolve_key(request)

    async def sync(self, request: AnySync) -> SyncReply:
        """As the ledger does."""
        return await self._ledger.sync(request)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """As the ledger does."""
        return self._ledger.subscribe(listener)
