"""The contract on the ledger's port: what sidecars ask, msgpack over HTTP, below /contract/v1.

    POST /contract/v1/register, /resolve, /resolve_key, /sync    a message and its answer
    POST /contract/v1/changes                                    an answer that does not end: changes as they happen

The path's number is that of these paths; the messages carry a version of their own, and an answer
is in the version of its question. A refusal is a `Refusal` with an HTTP status. Nothing here knows
of money: it lets a sidecar in by its token, reads one bounded message, and asks the ledger.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
from aiohttp import web

from sidecar.contract.change_frames import SIGN_OF_LIFE, change_frame
from sidecar.contract.codec import MAX_MESSAGE_BYTES, decode, encode
from sidecar.contract.messages import (
    Change,
    ChangesRequest,
    Refusal,
    RegisterRequest,
    ResolveKeyRequest,
    ResolveRequest,
    SyncReply,
    SyncRequest,
)
from sidecar.contract.versions import UnknownVersion, check_version
from sidecar.core.governance.checked_tokens import digest_of
from sidecar.errors import Conflict, LedgerUnavailable, SidecarError, StaleIncarnation, Unavailable, WireFormatError
from sidecar.ledger.http_bodies import BodyFault, BodyRefused, read_body
from sidecar.ledger.pace import Pace
from sidecar.ports import Ledger

PREFIX: Final = "/contract/v1/"
CONTENT_TYPE: Final = "application/msgpack"

MAX_CALLS_AT_ONCE: Final = 1024
"""Messages under way, streams apart; one more is told to come again."""

MAX_SEEN: Final = 16_384
"""Customers that one request for changes may name."""

MAX_CHECKPOINTS_KEPT: Final = 8
"""The last ones, for a sidecar that connects later."""

MAX_CHANGES_WAITING: Final = 4096
"""Changes that a slow reader may leave untaken; then its stream ends, and the next one catches up."""

BODY_TIMEOUT_S: Final = 10.0
WRITE_TIMEOUT_S: Final = 10.0
SIGN_OF_LIFE_S: Final = 5.0
"""A stream with nothing to say says so this often."""

TOKENS_BELIEVED_S: Final = 0.5
"""How long the book's tokens are believed: one that is revoked acts within a second, on open streams too."""

_STATUS: Final = {
    "malformed_message": 400,
    "unknown_version": 400,
    "unauthenticated": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_too_slow": 408,
    "conflict": 409,
    "stale_incarnation": 409,
    "message_too_large": 413,
    "internal_error": 500,
    "unavailable": 503,
}

_log = logging.getLogger(__name__)


class ContractLedger(Ledger, Protocol):
    """The ledger behind the contract."""

    async def revisions(self, customers: Sequence[str]) -> dict[str, int]:
        """The revision of each customer that is known."""
        ...

    async def history(self) -> str:
        """Which history the book has."""
        ...

    async def token_digests(self) -> dict[bytes, str]:
        """Which sidecars are let in: names by the SHA-256 of their token."""
        ...


class _Refused(Exception):
    def __init__(self, code: str, detail: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.refusal = Refusal(code, detail, round(retry_after_s * 1000))


class ContractAPI:
    """Answers sidecars. Use it from one event loop."""

    def __init__(self, ledger: ContractLedger, monotonic: Callable[[], float]) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._pace = Pace()
        self._door = _Door(ledger, monotonic)
        self._running = 0
        self._closing = asyncio.Event()
        self._streams: set[_Stream] = set()
        self._checkpoints: deque[str] = deque(maxlen=MAX_CHECKPOINTS_KEPT)

    @property
    def streams(self) -> int:
        """Sidecars that hear of changes now."""
        return len(self._streams)

    def tell_checkpoint(self, line: str) -> None:
        """Let every sidecar that wants it keep a checkpoint (L8)."""
        self._checkpoints.append(line)
        for stream in self._streams:
            if stream.wants_checkpoints:
                stream.put(Change("", 0, line))

    def close(self) -> None:
        """End the streams, so that the server can end."""
        self._closing.set()
        for stream in self._streams:
            stream.wake()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        try:
            return await self._decide(request)
        except Exception as problem:  # the last line of defence: whatever went wrong, the asker hears of it
            refusal = _refusal_of(problem)
            if refusal.code == "internal_error":
                _log.exception("contract_request_failed")
            headers = {"Cache-Control": "no-store"}
            if refusal.code == "unauthenticated":
                headers["WWW-Authenticate"] = "Bearer"
            if refusal.retry_after_ms:  # also for what stands between: a balancer asks another ledger meanwhile
                headers["Retry-After"] = str(-(-refusal.retry_after_ms // 1000))
            return web.Response(
                status=_STATUS[refusal.code], body=encode(refusal), content_type=CONTENT_TYPE, headers=headers
            )

    async def _decide(self, request: web.BaseRequest) -> web.StreamResponse:
        digest = await self._door.open(request.headers.getall("Authorization", []))
        name = request.raw_path.removeprefix(PREFIX)
        if name not in ("register", "resolve", "resolve_key", "sync", "changes"):
            raise _Refused("not_found", "there is nothing at this path")
        if request.method != "POST":
            raise _Refused("method_not_allowed", "expected POST")
        if self._closing.is_set():
            raise LedgerUnavailable("the ledger is stopping")
        if self._running >= MAX_CALLS_AT_ONCE:
            raise LedgerUnavailable(f"more than {MAX_CALLS_AT_ONCE} messages at once")
        self._running += 1
        try:
            body = await _read_message(request)
            if name != "changes":
                reply = await self._exchange(name, body)
                return web.Response(body=reply, content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})
            asked = decode(body, ChangesRequest)
            check_version(asked.version, peer="sidecar")
        finally:
            self._running -= 1
        return await self._stream_changes(request, asked, digest)

    async def _exchange(self, name: str, body: bytes) -> bytes:
        if name == "register":
            return await _ask(self._ledger.register, decode(body, RegisterRequest))
        if name == "resolve":
            return await _ask(self._ledger.resolve, decode(body, ResolveRequest))
        if name == "resolve_key":
            return await _ask(self._ledger.resolve_key, decode(body, ResolveKeyRequest))
        return await _ask(self._paced_sync, decode(body, SyncRequest))

    async def _paced_sync(self, request: SyncRequest) -> SyncReply:
        """A sync, and how the next one should come."""
        if not any(part.events for part in request.parts):
            return await self._ledger.sync(request)
        began = self._monotonic()
        self._pace.begin()
        try:
            reply = await self._ledger.sync(request)
        finally:
            window = self._pace.end(self._monotonic() - began)
        return msgspec.structs.replace(reply, window_events=window.events, pause_ms=window.pause_ms)

    async def _stream_changes(
        self, request: web.BaseRequest, asked: ChangesRequest, digest: bytes
    ) -> web.StreamResponse:
        if len(asked.seen) > MAX_SEEN:
            raise WireFormatError("sidecar", f"at most {MAX_SEEN} customers are watched from a start")
        stream = _Stream(asked)
        stop = self._ledger.subscribe(stream.put)  # before the book is read: nothing falls in between
        self._streams.add(stream)
        try:
            await self._catch_up(asked, stream)
            response = web.StreamResponse(headers={"Cache-Control": "no-store"})
            response.content_type = CONTENT_TYPE
            response.enable_chunked_encoding()
            try:
                await response.prepare(request)
                await _write(response, SIGN_OF_LIFE)
                with suppress(SidecarError):  # the book cannot be asked who may listen: the next stream goes on
                    await self._send(response, stream, digest)
                await response.write_eof()
            except ConnectionError:  # the sidecar has gone, or takes nothing
                if request.transport is not None:
                    request.transport.abort()
        finally:
            stop()
            self._streams.discard(stream)
        return response

    async def _send(self, response: web.StreamResponse, stream: _Stream, digest: bytes) -> None:
        quiet_s = 0.0
        while not (self._closing.is_set() or stream.is_behind or await self._door.is_shut_to(digest)):
            frames = await stream.take(TOKENS_BELIEVED_S)
            quiet_s = 0.0 if frames else quiet_s + TOKENS_BELIEVED_S
            if frames or quiet_s >= SIGN_OF_LIFE_S:
                quiet_s = 0.0
                await _write(response, frames or SIGN_OF_LIFE)

    async def _catch_up(self, asked: ChangesRequest, stream: _Stream) -> None:
        """What changed while the asker was not connected."""
        if asked.histories:  # first: a book that is another counts its revisions from its own start
            history = await self._ledger.history()
            if history:
                stream.put(Change("", 0, history=history))
        now = await self._ledger.revisions([seen.customer for seen in asked.seen])
        for seen in asked.seen:
            revision = now.get(seen.customer, 0)
            if revision != seen.revision:
                stream.put(Change(seen.customer, revision))
        if asked.checkpoints:
            for line in self._checkpoints:
                stream.put(Change("", 0, line))


class _Stream:
    """Changes on their way to one sidecar."""

    def __init__(self, asked: ChangesRequest) -> None:
        self.wants_checkpoints = asked.checkpoints
        self._wants_recalls = asked.recalls
        self._wants_histories = asked.histories
        self._waiting: deque[Change] = deque()
        self._something = asyncio.Event()
        self.is_behind = False

    def put(self, change: Change) -> None:
        if (change.recall and not self._wants_recalls) or (change.history and not self._wants_histories):
            return
        if len(self._waiting) >= max(MAX_CHANGES_WAITING, MAX_SEEN):
            self.is_behind = True
        else:
            self._waiting.append(change)
        self._something.set()

    def wake(self) -> None:
        self._something.set()

    async def take(self, timeout_s: float) -> bytes:
        """What there is, as frames; empty if nothing came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._something.wait()
        except TimeoutError:
            return b""
        self._something.clear()
        frames = b"".join(map(change_frame, self._waiting))
        self._waiting.clear()
        return frames


class _Door:
    """Lets sidecars in by the digests of their tokens, as the book had them a moment ago."""

    def __init__(self, ledger: ContractLedger, monotonic: Callable[[], float]) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._digests: dict[bytes, str] = {}
        self._read_at = float("-inf")
        self._one_reader = asyncio.Lock()

    async def open(self, authorizations: Sequence[str]) -> bytes:
        """The digest of the token that a request brings.

        Raises:
            _Refused: none, a wrong one, or two of them.
        """
        if len(authorizations) == 1:
            scheme, _, token = authorizations[0].partition(" ")
            digest = digest_of(token)
            if scheme.lower() == "bearer" and not await self.is_shut_to(digest):
                return digest
        raise _Refused("unauthenticated", "send Authorization: Bearer TOKEN, from `spend ledger sidecar-token NAME`")

    async def is_shut_to(self, digest: bytes) -> bool:
        """Whether a token is not, or no longer, known. Digests are compared, all of them, in constant time."""
        async with self._one_reader:
            if self._monotonic() - self._read_at > TOKENS_BELIEVED_S:
                read_at = self._monotonic()
                self._digests = await self._ledger.token_digests()
                self._read_at = read_at
        return not sum(hmac.compare_digest(digest, known) for known in self._digests)


async def _ask(method: Callable[[Any], Awaitable[Any]], request: Any) -> bytes:
    """One answer, in the version of its question."""
    reply = await method(request)
    if reply.version != request.version:
        reply = msgspec.structs.replace(reply, version=request.version)
    return encode(reply)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
    except TimeoutError:
        raise ConnectionError("the sidecar does not take its changes") from None


async def _read_message(request: web.BaseRequest) -> bytes:
    """The whole body, within its cap and its time."""
    if request.content_type != CONTENT_TYPE or "Content-Encoding" in request.headers:
        raise WireFormatError("sidecar", f"expected Content-Type: {CONTENT_TYPE}, not compressed")
    try:
        return await read_body(request, most_bytes=MAX_MESSAGE_BYTES, timeout_s=BODY_TIMEOUT_S)
    except BodyRefused as refused:
        fault = refused.fault
    if fault is BodyFault.TOO_LARGE:
        raise _Refused("message_too_large", f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    if fault is BodyFault.TOO_SLOW:
        raise _Refused("body_too_slow", f"the message did not come within {BODY_TIMEOUT_S:g} s")
    raise WireFormatError("sidecar", "the message broke off")


def _refusal_of(problem: Exception) -> Refusal:
    if isinstance(problem, _Refused):
        return problem.refusal
    if isinstance(problem, UnknownVersion):
        return Refusal("unknown_version", problem.what)
    if isinstance(problem, WireFormatError):
        return Refusal("malformed_message", problem.what)
    if isinstance(problem, StaleIncarnation):
        return Refusal("stale_incarnation", str(problem))
    if isinstance(problem, Conflict):
        return Refusal("conflict", str(problem))
    if isinstance(problem, Unavailable):
        return Refusal("unavailable", str(problem), round(problem.retry_after_s * 1000))
    return Refusal("internal_error", "the ledger made a mistake; its log tells more")
