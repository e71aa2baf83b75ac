"""Nothing is borrowed from a ledger that has not heard yet what was spent before."""

from __future__ import annotations

from typing import Protocol

import msgspec

from sidecar.app.same_ledger import SameLedger
from sidecar.contract.messages import (
    RegisterReply,
    RegisterRequest,
    ResolveReply,
    ResolveRequest,
)
from sidecar.errors import LedgerUnavailable, StaleIncarnation
from sidecar.ports import Ledger


class Acquaintance(Protocol):
    """Who knows how far the ledger has heard of this start: the shipper."""

    @property
    def claim(self) -> tuple[str, int]:
        """The history of the book that has all that is kept here, `` while it has not; and its answers heard of."""
        ...

    async def register(self) -> RegisterReply:
        """Tell the ledger of this start."""
        ...


class LendingGate(SameLedger):
    """A ledger as the keeper sees it: shut until this start is known there, and while the book is brought up to date.

    Args:
        ledger: the ledger itself.
        acquaintance: what it has heard of us. Where the book was replaced or put back it lacks calls that are
            kept here, and nothing is borrowed from it (L50a).
    """

    def __init__(self, ledger: Ledger, acquaintance: Acquaintance) -> None:
        super().__init__(ledger)
        self._acquaintance = acquaintance
        self._is_open = False
        self._is_stale = False

    def open(self) -> None:
        """This start is known to the ledger."""
        self._is_open = True

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """What the ledger has answered, or answers now if it has just said that it does not know us.

        Raises:
            LedgerUnavailable: the gate is shut, or there is no answer.
        """
        del request
        if not self._is_open:
            raise LedgerUnavailable("the ledger has not answered since this start")
        if self._is_stale:
            reply = await self._acquaintance.register()
            self._is_stale = False
            return reply
        return RegisterReply(*self._acquaintance.claim)

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """As the ledger does, once the gate is open.

        Raises:
            LedgerUnavailable: it is shut.
            StaleIncarnation: its book does not know us, or not as we know it.
        """
        if not self._is_open:
            raise LedgerUnavailable("the ledger has not answered since this start")
        history_id, heard = self._acquaintance.claim
        if not history_id:
            raise LedgerUnavailable("the ledger lacks calls that are on their way to it")
        try:
            return await self._ledger.resolve(msgspec.structs.replace(request, history_id=history_id, heard=heard))
        except StaleIncarnation:
            self._is_stale = True
            raise
