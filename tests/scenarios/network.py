"""The way between sidecars and ledgers: messages are bytes, and may be lost, late, doubled or overtaken."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from sidecar.contract.codec import decode, encode
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
    SyncRequest,
)
from sidecar.errors import LedgerUnavailable, SidecarError, StaleIncarnation, WireFormatError
from sidecar.ledger.heard_changes import HeardChanges
from tests.scenarios.loop import OWNER, PretendLoop, State

if TYPE_CHECKING:
    from tests.scenarios.ledgers import LedgerHost

M = TypeVar("M", RegisterReply, ResolveKeyReply, ResolveReply, SyncReply)

TIMEOUT_S: Final = {"register": 10.0, "resolve": 10.0, "resolve_key": 10.0, "sync": 30.0}
"""As the real client has them."""

KINDS: Final[dict[str, Any]] = {
    "register": RegisterRequest,
    "resolve": ResolveRequest,
    "resolve_key": ResolveKeyRequest,
    "sync": SyncRequest,
}


LONG_S: Final = 30.0
"""So late is longer than any answer is waited for."""


@dataclass
class Weather:
    """How bad a way is: chances of each message, and of the late ones how late."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    latest_s: float = 60.0
    usual_s: float = 0.01


class Way:
    """One sidecar's way to the ledgers, and back; either direction may be cut."""

    def __init__(self, loop: PretendLoop, rng: random.Random, weather: Weather) -> None:
        self._loop = loop
        self._rng = rng
        self.weather = weather
        self.is_cut_there = False
        self.is_cut_back = False
        self._latest_s = {False: 0.0, True: 0.0}

    def carry(self, deliver: Callable[[], None], *, back: bool) -> None:
        """Bring something over: not at all, once, or twice; at some time."""
        rng, weather = self._rng, self.weather
        copies = 1 + (rng.random() < weather.doubled)
        for _ in range(copies):
            is_lost, is_late = rng.random() < weather.lost, rng.random() < weather.late
            delay = rng.uniform(0.0, weather.latest_s) if is_late else rng.uniform(0.5, 1.5) * weather.usual_s
            if not is_lost and not (self.is_cut_back if back else self.is_cut_there):
                self._count_late(delay, back=back)
                self._loop.call_later(delay, deliver, context=Context())
            elif is_lost:
                self._loop.happened["message lost"] += 1
            else:
                both = self.is_cut_back and self.is_cut_there
                self._loop.happened["message into a cut" + (" of both ways" if both else " of one way")] += 1
        self._loop.happened["message doubled"] += copies > 1

    def _count_late(self, delay_s: float, *, back: bool) -> None:
        arrives_s, happened = self._loop.time() + delay_s, self._loop.happened
        happened["message overtaken"] += arrives_s < self._latest_s[back]
        happened["message 30 s late and more"] += delay_s >= LONG_S
        self._latest_s[back] = max(self._latest_s[back], arrives_s)


class RemoteLedger:
    """`ports.Ledger` for one process of a sidecar, over a way to some ledger process."""

    def __init__(self, way: Way, hosts: Callable[[], LedgerHost], loop: PretendLoop) -> None:
        self._way = way
        self._hosts = hosts
        self._loop = loop
        self._changes = HeardChanges()
        self._pushed_by: object = None
        self._owner = OWNER.get()

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """See `ports.Ledger`."""
        reply = await self._ask("register", request, RegisterReply)
        self._changes.of_history(reply.history_id)
        return reply

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """See `ports.Ledger`."""
        reply = await self._ask("resolve", request, ResolveReply)
        if reply.standing is not None:
            self._changes.told(reply.standing.customer, reply.standing.revision)
        return reply

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """See `ports.Ledger`."""
        return await self._ask("resolve_key", request, ResolveKeyReply)

    async def sync(self, request: AnySync) -> SyncReply:
        """See `ports.Ledger`."""
        reply = await self._ask("sync", request, SyncReply)
        self._changes.synced(reply)
        return reply

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """See `ports.Ledger`. What is pushed may be lost: then the next answer tells it."""
        return self._changes.subscribe(listener)

    async def _ask(self, name: str, request: msgspec.Struct, kind: type[M]) -> M:
        answer: asyncio.Future[bytes | SidecarError] = self._loop.create_future()
        body = encode(request)

        def arrive() -> None:
            host = self._hosts()
            self._listen_to(host)
            host.answer(name, body, lambda reply: self._way.carry(lambda: land(reply), back=True))

        def land(reply: bytes | SidecarError) -> None:
            if not answer.done():
                answer.set_result(reply)

        self._way.carry(arrive, back=False)
        try:
            async with asyncio.timeout(TIMEOUT_S[name]):
                reply = await answer
        except TimeoutError:
            raise LedgerUnavailable("the ledger gave no answer") from None
        if isinstance(reply, SidecarError):
            raise reply
        return decode(reply, kind)

    def _listen_to(self, host: LedgerHost) -> None:
        """Changes are pushed by the process that was reached last, for as long as it lives."""
        if self._pushed_by is host.service or host.service is None:
            return
        self._pushed_by = service = host.service
        service.subscribe(lambda change: self._way.carry(lambda: self._hear(change, service), back=True))

    def _hear(self, change: Change, service: object) -> None:
        owner = self._owner
        if self._pushed_by is service and (owner is None or owner.state is State.RUNNING):
            self._changes.pushed(change)


def over_the_wire(problem: SidecarError) -> SidecarError:
    """What a refusal is to the asker, as the real client tells them apart."""
    if isinstance(problem, StaleIncarnation | WireFormatError | LedgerUnavailable):
        return problem
    return LedgerUnavailable(str(problem))
