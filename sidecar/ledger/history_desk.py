"""Which sidecars there are, which history the book has, and what happens when it has lost something (L43, L50a)."""

from __future__ import annotations

import logging
from abc import abstractmethod

import msgspec

from sidecar.contract.messages import (
    AnySync,
    Change,
    CustomerPart,
    PartReply,
    RegisterReply,
    RegisterRequest,
    SyncReply,
)
from sidecar.contract.versions import check_version
from sidecar.errors import NotFound, StaleIncarnation
from sidecar.ledger import forms, learning
from sidecar.ledger.administration import Act, LossAcceptance
from sidecar.ledger.fleet import Fleet, Share
from sidecar.ledger.fleet_views import LearningView
from sidecar.ledger.history import SYSTEM, hear, history_id, known_history
from sidecar.ledger.idempotency import Asked
from sidecar.ledger.journal import Journal
from sidecar.ledger.learning import Claim
from sidecar.ledger.ledger_clock import LedgerClock
from sidecar.ledger.reconcile import end_incarnation, leases_left
from sidecar.ledger.system_desk import SystemDesk
from sidecar.ports import Book, Ids, Transaction

logger = logging.getLogger(__name__)


class HistoryDesk(SystemDesk):
    """The part of the ledger that is about the book itself and who has heard of it."""

    def __init__(self, book: Book, clock: LedgerClock, ids: Ids) -> None:
        super().__init__(book, clock)
        self._ids = ids
        self._history = ""
        """As it was last read here: another process may have renewed it since."""
        self._fleet = Fleet()

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """Note that an incarnation has started, or is caught up; saying so twice is saying it once."""
        check_version(request.version, peer="sidecar")
        claim = Claim(request.sidecar, request.history_id, request.heard)

        async def work(tx: Transaction) -> tuple[RegisterReply, str, Share]:
            rows = await tx.fetch("SELECT sidecar FROM incarnations WHERE incarnation = ?", (request.incarnation,))
            if rows and rows[0]["sidecar"] != request.sidecar:
                raise StaleIncarnation(f"incarnation {request.incarnation} is another sidecar's")
            heard = await hear(tx, request.sidecar)
            history, loss = await self._hold_against(tx, claim, heard - 1)
            await tx.execute(
                "INSERT INTO incarnations (incarnation, sidecar, started_at_ms) VALUES (?, ?, ?)"
                " ON CONFLICT (incarnation) DO NOTHING",
                (request.incarnation, request.sidecar, self._clock.now_ms()),
            )
            if request.caught_up and request.history_id in ("", history):
                await learning.note_caught_up(tx, self._clock.now_ms(), history, request.sidecar)
            share = await self._fleet.heard(tx, request.sidecar, self._clock.now_ms(), request.state)
            now_ms = self._clock.now_ms()
            reply = RegisterReply(history, heard, sidecars=share.sidecars, rank=share.rank, now_ms=now_ms)
            return reply, loss, share

        reply, loss, share = await self._transact_system(work)
        self._fleet.keep(request.sidecar, share)
        self._renewed(reply.history_id, loss)
        return reply

    async def history(self) -> str:
        """Which history the book has, told to who listens where it has become another; `` for none yet."""
        found = await self._book.read(SYSTEM, known_history)
        self._note_history(found)
        return found

    async def learning(self) -> LearningView:
        """Whether the book has lost something, and whom the ledger waits for."""
        return await self._book.read(SYSTEM, learning.look)

    async def accept_loss(self, loss: LossAcceptance, act: Act) -> LearningView:
        """Wait no longer for a sidecar, or for any."""
        forms.reason(loss.reason)
        sidecar, act = loss.sidecar, msgspec.structs.replace(act, reason=loss.reason)

        async def effect(tx: Transaction, journal: Journal) -> LearningView:
            awaited = [one.sidecar for one in await learning.awaited(tx)]
            if sidecar and sidecar not in awaited:
                raise NotFound("sidecar that is waited for", sidecar)
            if awaited:
                await learning.accept_loss(tx, journal, (sidecar,) if sidecar else tuple(awaited), act.actor)
            return await learning.look(tx)

        asked = Asked(SYSTEM, "accept_loss", act, {"sidecar": sidecar, "reason": loss.reason})
        view = await self._once(asked, effect, LearningView)
        logger.warning("loss_accepted", extra={"facts": {"sidecar": sidecar or "all", "actor": act.actor}})
        return view

    async def _is_other_history(self, request: AnySync) -> bool:
        """Whether a sync is for a book of another history: nothing of it is applied before its sender is told."""
        if not request.history_id or request.history_id == self._history:
            return False
        self._note_history(await self._transact_system(lambda tx: history_id(tx, self._ids)))
        return request.history_id != self._history

    async def _tell_history(self, request: AnySync) -> SyncReply:
        """The answer to such a sync: the history, and that nothing was booked."""
        reply, _ = await self._hear_sync(request)
        error = "the book's history is another: bring what it lacks"
        parts = tuple(PartReply(part.customer, error=error) for part in request.parts)
        return msgspec.structs.replace(reply, parts=parts)

    async def _hear_sync(self, request: AnySync) -> tuple[SyncReply, list[CustomerPart]]:
        """Count a sync, hold its claim against the book, and end its incarnation if it says so.

        Gives the answer but for its parts, and the leases that are free with the end.
        """
        claim = Claim(request.sidecar, request.history_id, request.heard)

        async def work(tx: Transaction) -> tuple[SyncReply, str, Share | None, list[CustomerPart]]:
            left: list[CustomerPart] = []
            heard = await hear(tx, request.sidecar)
            history, loss = await self._hold_against(tx, claim, heard - 1)
            # One that ends without having brought what the book lacks is waited for: its next start brings it.
            if request.ended and request.history_id in ("", history):
                await end_incarnation(tx, request, self._clock.now_ms())
                left = await leases_left(tx, request) if request.all_booked else []
            if request.ended:
                await self._fleet.left(tx, request.sidecar)
                return SyncReply((), history, heard, now_ms=self._clock.now_ms()), loss, None, left
            share = await self._fleet.heard(tx, request.sidecar, self._clock.now_ms(), request.state)
            now_ms = self._clock.now_ms()
            answer = SyncReply((), history, heard, sidecars=share.sidecars, rank=share.rank, now_ms=now_ms)
            return answer, loss, share, left

        reply, loss, share, left = await self._transact_system(work)
        self._fleet.keep(request.sidecar, share)
        self._renewed(reply.history_id, loss)
        return reply, left

    async def _lost(self, claim: Claim, loss: str) -> str:
        """Begin another history, if the one of the claim is still the book's; gives the one that is."""

        async def work(tx: Transaction) -> tuple[str, bool]:
            now = await history_id(tx, self._ids)
            if claim.history_id != now:
                return now, False
            return await learning.fence(tx, self._ids, self._clock.now_ms(), now, loss), True

        history, is_new = await self._transact_system(work)
        self._renewed(history, loss if is_new else "")
        return history

    async def _hold_against(self, tx: Transaction, claim: Claim, counted: int) -> tuple[str, str]:
        """The history, another one if a claim proves that the book has lost something; and why it does."""
        history = await history_id(tx, self._ids)
        loss = await learning.loss_of(tx, history, claim, counted)
        if loss:
            history = await learning.fence(tx, self._ids, self._clock.now_ms(), history, loss)
        return history, loss

    @abstractmethod
    def _tell(self, change: Change) -> None:
        """Let everybody know who listens here."""

    def _note_history(self, history: str) -> None:
        """The book's history, as it was read just now: who listens hears at once that it has become another (L50a)."""
        before, self._history = self._history, history or self._history
        if before not in ("", self._history):
            self._tell(Change("", 0, history=history))

    def _renewed(self, history: str, loss: str) -> None:
        self._note_history(history)
        if loss:
            logger.error("book_has_lost_something", extra={"facts": {"history_id": history, "why": loss}})
