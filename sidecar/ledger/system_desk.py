"""What belongs to no customer: the ledger's clock, the tokens of sidecars, and those of the API."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import msgspec

from sidecar.ledger import api_tokens, forms, sidecar_tokens
from sidecar.ledger.administration import Act, KnownToken, NewToken
from sidecar.ledger.history import SYSTEM, cursor_secret, lock_system, system_journal
from sidecar.ledger.idempotency import Asked, once
from sidecar.ledger.journal import Journal
from sidecar.ledger.ledger_clock import LedgerClock
from sidecar.ledger.made_by import MAX_NAMED, good_keys_of, good_tokens_of
from sidecar.ledger.views import ClockView, SidecarTokenView, TokenView
from sidecar.ports import Book, Transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SystemDesk:
    """The part of the ledger that is about no customer; each method is described in `administration.Administration`."""

    def __init__(self, book: Book, clock: LedgerClock) -> None:
        self._book = book
        self._clock = clock

    @property
    def clock_jump_ms(self) -> int:
        """How far the wall clock has jumped from the time that the ledger uses; 0 while it is believed (L38)."""
        return self._clock.jump_ms

    async def clock(self) -> ClockView:
        """The ledger's time."""
        return ClockView(self._clock.now_ms(), self._clock.jump_ms)

    async def accept_clock(self, act: Act) -> ClockView:
        """Believe the wall clock as it is now."""

        async def effect(_tx: Transaction, journal: Journal) -> ClockView:
            self._clock.accept(act.actor)
            journal.post("clock_accepted", actor=act.actor)
            return await self.clock()

        return await self._once(Asked(SYSTEM, "accept_clock", act, {}), effect, ClockView)

    async def set_sidecar_token(self, name: str, token_sha256: str, act: Act) -> SidecarTokenView:
        """Let a sidecar in by a token."""
        asked = Asked(SYSTEM, "set_sidecar_token", act, {"name": name, "token_sha256": token_sha256})

        async def effect(tx: Transaction, journal: Journal) -> SidecarTokenView:
            view = await sidecar_tokens.put(tx, name, token_sha256)
            journal.post("sidecar_token_set", actor=act.actor, facts=asked.fields)
            return view

        view = await self._once(asked, effect, SidecarTokenView)
        logger.warning("sidecar_token_set", extra={"facts": {"name": name, "actor": act.actor}})
        return view

    async def revoke_sidecar_token(self, name: str, act: Act) -> SidecarTokenView:
        """Let it in no more."""
        asked = Asked(SYSTEM, "revoke_sidecar_token", act, {"name": name})

        async def effect(tx: Transaction, journal: Journal) -> SidecarTokenView:
            view = await sidecar_tokens.drop(tx, name)
            journal.post("sidecar_token_revoked", actor=act.actor, facts=asked.fields)
            return view

        view = await self._once(asked, effect, SidecarTokenView)
        logger.warning("sidecar_token_revoked", extra={"facts": {"name": name, "actor": act.actor}})
        return view

    async def sidecar_tokens(self) -> list[SidecarTokenView]:
        """Who is let in."""
        return await self._book.read(SYSTEM, sidecar_tokens.all_of)

    async def make_token(self, token: NewToken, act: Act) -> TokenView:
        """Let somebody in to the API."""
        customer = token.path.partition("/")[0]
        view = await self._on(customer, lambda tx: api_tokens.make(tx, self._clock.now_ms(), token, act))
        logger.warning("api_token_made", extra={"facts": {"name": view.name, "path": view.path, "actor": act.actor}})
        return view

    async def revoke_token(self, customer: str, name: str, act: Act) -> TokenView:
        """Let it in no more."""
        view = await self._end_token(customer, name, act)
        also: list[str] = []
        makers = [view]
        while makers:  # what an earlier try did not come to is done now
            maker = makers.pop()
            for made in await self._look(maker.customer, partial(good_tokens_of, maker=maker)):
                why = f"made by {maker.name}, which is revoked"
                makers.append(await self._end_token(made.customer, made.name, Act(act.actor, "", why)))
                also.append(f"{made.customer}/{made.name}" if made.customer else made.name)
        left = await self._look(view.customer, partial(good_keys_of, maker=view))
        return msgspec.structs.replace(view, also_ended=tuple(also[:MAX_NAMED]), keys_left=left)

    async def _end_token(self, customer: str, name: str, act: Act) -> TokenView:
        view = await self._on(customer, lambda tx: api_tokens.revoke(tx, self._clock.now_ms(), customer, name, act))
        logger.warning("api_token_revoked", extra={"facts": {"name": name, "path": view.path, "actor": act.actor}})
        return view

    async def token(self, customer: str, name: str) -> TokenView:
        """One token of the API."""
        return await self._book.read(customer or SYSTEM, lambda tx: api_tokens.one(tx, customer or SYSTEM, name))

    async def tokens(self, customer: str, *, after: str, limit: int) -> tuple[list[TokenView], str]:
        """Tokens of the API."""
        return await self._book.read(customer or SYSTEM, lambda tx: api_tokens.tokens(tx, customer, after, limit))

    async def find_token(self, digest: bytes) -> KnownToken | None:
        """Whose a token of the API is."""
        return await self._book.read_everyone(lambda tx: api_tokens.find(tx, digest, self._clock.now_ms()))

    async def cursor_secret(self) -> bytes:
        """What cursors are signed with."""
        return bytes.fromhex(await self._transact_system(cursor_secret))

    async def token_digests(self) -> dict[bytes, str]:
        """Which sidecars are let in: names by the SHA-256 of their token."""
        return await self._book.read(SYSTEM, sidecar_tokens.digests)

    async def _transact_system(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """A transaction on what belongs to no customer."""

        async def locked(tx: Transaction) -> T:
            await lock_system(tx)
            return await work(tx)

        return await self._book.transact(SYSTEM, locked)

    async def _once(
        self, asked: Asked, effect: Callable[[Transaction, Journal], Awaitable[T]], answer_type: type[T]
    ) -> T:
        """An act on what belongs to no customer, once per key (L27); the effect posts the entry that tells of it."""
        forms.act(asked.act)

        async def work(tx: Transaction) -> T:
            now_ms = self._clock.now_ms()

            async def written() -> T:
                journal = await system_journal(tx, now_ms, asked.act)
                view = await effect(tx, journal)
                await journal.write()
                return view

            view, _ = await once(tx, asked, written, answer_type=answer_type, wall_ms=now_ms)
            return view

        return await self._transact_system(work)

    async def _look(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """What is read of one customer's book, or (``) of all."""
        return await (self._book.read(customer, work) if customer else self._book.read_everyone(work))

    async def _on(self, customer: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """A transaction on a customer's book, or (``) on what belongs to no customer."""
        return await (self._book.transact(customer, work) if customer else self._transact_system(work))
