"""The ledger in another process: `ports.Ledger` over HTTP.

One question is one request: nothing is retried here, because whoever asks knows how long it may
wait, and asking again is always safe. Whatever stands in the way of an answer is LedgerUnavailable.

Changes come on a connection that stays open (`run`). When it is lost it is made again, and says what
revision of each customer was seen last, so that the ledger tells what was missed. Meanwhile each
answer tells the revision too: a change that was never heard of is noticed by the next of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from io import BytesIO
from typing import Final, TypeAlias, TypeVar

import aiohttp
import msgspec

from sidecar.contract import messages
from sidecar.contract.change_frames import FrameReader
from sidecar.contract.codec import MAX_MESSAGE_BYTES, decode, encode
from sidecar.contract.messages import (
    AnySync,
    Change,
    ChangesRequest,
    Refusal,
    RegisterReply,
    RegisterRequest,
    ResolveKeyReply,
    ResolveKeyRequest,
    ResolveReply,
    ResolveRequest,
    SyncReply,
)
from sidecar.contract.versions import check_version, is_known
from sidecar.errors import Conflict, LedgerUnavailable, SidecarError, StaleIncarnation, WireFormatError
from sidecar.ledger.heard_changes import HeardChanges

PATH: Final = "/contract/v1/"
CONTENT_TYPE: Final = "application/msgpack"

TIMEOUT_S: Final = {"register": 10.0, "resolve": 10.0, "resolve_key": 10.0, "sync": 30.0}
"""The longest that an answer may take; who asks may give up earlier."""

CONNECT_TIMEOUT_S: Final = 5.0
MAX_CONNECTIONS: Final = 40
"""Kept to one ledger: the keeper's questions, the shipper, the changes."""

DNS_CACHE_S: Final = 10
"""A ledger that moved is found again within this."""

IDLE_S: Final = 25.0
"""An unused connection is kept so long: shorter than the ledger keeps it, or a question would meet its end."""

SILENCE_S: Final = 16.0
"""A stream of changes without a sign of life for so long is dead: three signs are missing."""

MIN_BACKOFF_S: Final = 0.25
MAX_BACKOFF_S: Final = 5.0

MAX_REFUSAL_TEXT: Final = 512

M = TypeVar("M", RegisterReply, ResolveKeyReply, ResolveReply, SyncReply)
Question: TypeAlias = RegisterRequest | ResolveKeyRequest | ResolveRequest | AnySync | ChangesRequest

logger = logging.getLogger("sidecar.ledger")


class HttpLedger:
    """A ledger at an address. Use it from one event loop.

    Args:
        address: an origin, `http://ledger:8403` or `https://…`.
        read_token: gives the token; asked again after the ledger has refused one, for it may have been renewed.
        keep_checkpoint: is given each checkpoint that the ledger tells of (L8), if they are wanted; must not block.
    """

    def __init__(
        self, address: str, read_token: Callable[[], str], *, keep_checkpoint: Callable[[str], None] | None = None
    ) -> None:
        self._base = address.rstrip("/") + PATH
        self._read_token = read_token
        self._keep_checkpoint = keep_checkpoint
        self._token = ""
        self._session: aiohttp.ClientSession | None = None
        self._changes = HeardChanges()
        self._version = messages.VERSION
        self._sidecar = ""
        self._is_refused = False
        self._connected = asyncio.Event()

    @property
    def hears_changes(self) -> bool:
        """Whether changes are pushed now; else they are noticed at the next answer."""
        return self._connected.is_set()

    # the port

    async def register(self, request: RegisterRequest) -> RegisterReply:
        """See `ports.Ledger`."""
        self._sidecar = request.sidecar
        reply = await self._ask("register", request, RegisterReply)
        self._changes.of_history(reply.history_id)
        return reply

    async def resolve(self, request: ResolveRequest) -> ResolveReply:
        """See `ports.Ledger`.

        Raises:
            StaleIncarnation: the asker is not registered, or has ended.
        """
        reply = await self._ask("resolve", request, ResolveReply)
        if reply.standing is not None:
            self._changes.told(reply.standing.customer, reply.standing.revision)
        return reply

    async def resolve_key(self, request: ResolveKeyRequest) -> ResolveKeyReply:
        """See `ports.Ledger`."""
        reply = await self._ask("resolve_key", request, ResolveKeyReply)
        if reply.subject is not None:
            self._changes.told(reply.subject.customer, reply.revision)
        return reply

    async def sync(self, request: AnySync) -> SyncReply:
        """See `ports.Ledger`."""
        reply = await self._ask("sync", request, SyncReply)
        self._changes.synced(reply)
        return reply

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Hear of changes until the function given back is called: those pushed to `run`, and those noticed."""
        return self._changes.subscribe(listener)

    # beside it

    async def run(self) -> None:
        """Follow the changes until cancelled."""
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except (SidecarError, aiohttp.ClientError, OSError, TimeoutError) as problem:
                if self._connected.is_set():
                    failures = 0
                if not failures:
                    why = str(problem) or type(problem).__name__
                    logger.warning("changes_lost", extra={"facts": {"problem": why[:MAX_REFUSAL_TEXT]}})
                failures += 1
            finally:
                self._connected.clear()
            longest = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(longest / 2, longest))

    async def wait_until_connected(self) -> None:
        """Wait until changes are pushed."""
        await self._connected.wait()

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    # inside

    async def _follow(self) -> None:
        """One stream of changes, to its end."""
        wanted = ChangesRequest(
            self._sidecar, self._changes.seen, self._keep_checkpoint is not None, recalls=True, histories=True
        )
        request = self._in_our_version(wanted)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_S)
        async with self._post("changes", request, timeout) as response:
            if response.status != 200:
                self._refused(response.status, await _read(response))
            reader = FrameReader()
            async for piece in response.content.iter_any():
                if not self._connected.is_set():
                    self._connected.set()
                    logger.info("changes_followed")
                for change in reader.feed(piece):
                    if change.checkpoint:
                        if self._keep_checkpoint is not None:
                            self._keep_checkpoint(change.checkpoint)
                        continue
                    self._changes.pushed(change)

    async def _ask(self, name: str, request: Question, kind: type[M]) -> M:
        spoken = self._in_our_version(request)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S[name], sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._post(name, spoken, timeout) as response:
                body = await _read(response)
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            raise LedgerUnavailable(f"the ledger gave no answer: {type(problem).__name__}") from problem
        if status != 200:
            self._refused(status, body)
        self._is_refused = False
        try:
            reply = decode(body, kind)
            check_version(reply.version, peer="ledger")
        except WireFormatError as problem:
            raise LedgerUnavailable(str(problem)) from problem
        return reply

    def _in_our_version(self, request: Question) -> Question:
        """A message that is in the newest version, in the one that the ledger speaks."""
        if request.version != messages.VERSION or self._version == messages.VERSION:
            return request
        return msgspec.structs.replace(request, version=self._version)

    def _post(self, name: str, message: msgspec.Struct, timeout: aiohttp.ClientTimeout) -> _Response:
        body = encode(message)
        if len(body) > MAX_MESSAGE_BYTES:
            raise WireFormatError("sidecar", f"a message is at most {MAX_MESSAGE_BYTES} bytes")
        if self._session is None:
            self._session = _session(tls=self._base.startswith("https:"))
        if not self._token:
            self._token = self._read_token()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": CONTENT_TYPE}
        return self._session.post(
            self._base + name, data=BytesIO(body), headers=headers, timeout=timeout, allow_redirects=False
        )

    def _refused(self, status: int, body: bytes) -> None:
        """Raise what a refusal means."""
        try:
            refusal = decode(body, Refusal)
        except WireFormatError:
            raise LedgerUnavailable(f"what answers as the ledger is none: status {status}") from None
        detail = refusal.detail[:MAX_REFUSAL_TEXT]
        if refusal.code == "stale_incarnation":
            raise StaleIncarnation(detail)
        if refusal.code == "conflict":
            raise Conflict(detail)
        if refusal.code == "malformed_message":
            raise WireFormatError("sidecar", detail)
        if refusal.code == "unknown_version":
            if is_known(refusal.version) and refusal.version < self._version:
                self._version = refusal.version  # an older ledger: the next question is in its words
                raise LedgerUnavailable(f"the ledger speaks version {refusal.version} of the contract")
            raise WireFormatError("sidecar", detail)
        if refusal.code == "unauthenticated":
            self._token = ""
            if not self._is_refused:
                logger.error("ledger_refuses_token", extra={"facts": {"status": status}})
            self._is_refused = True
        retry_after_s = refusal.retry_after_ms / 1000 or 1.0
        raise LedgerUnavailable(f"{refusal.code}: {detail}", retry_after_s=retry_after_s)


_Response = aiohttp.client._BaseRequestContextManager[aiohttp.ClientResponse]


def _session(*, tls: bool) -> aiohttp.ClientSession:
    """Connections for one ledger, verified and TLS 1.2 or later; without TLS no list of authorities is in memory."""
    context: ssl.SSLContext | bool = True
    if tls:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    connector = aiohttp.TCPConnector(
        limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_S, ttl_dns_cache=DNS_CACHE_S, ssl=context
    )
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,  # a proxy named in the environment would see every figure, and the token
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
    )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole answer, within the contract's bound."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_MESSAGE_BYTES:
            raise LedgerUnavailable(f"the ledger's answer is over {MAX_MESSAGE_BYTES} bytes")
    return bytes(body)
