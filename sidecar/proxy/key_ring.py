"""Virtual keys at the sidecar: whom the key of a request names, as the ledger said not long ago.

A key is known here by its SHA-256 and believed for as long as nothing else is heard: a change of its
customer drops it at once, so that a revoked key lets in nobody any more, and where no change is pushed
it is asked for again every few seconds. While the ledger is away a key goes on as the leases do.

What is guessed costs little: a text without the right checksum is refused here, an unknown key is
remembered as such for a moment, and only so many are asked for at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from sidecar.contract.messages import Change, ResolveKeyReply
from sidecar.core.governance.decisions import Denied, Reason
from sidecar.core.governance.tenancy import Subject
from sidecar.core.governance.virtual_keys import is_key
from sidecar.errors import SidecarError
from sidecar.proxy.stepping import aside
from sidecar.proxy.unfit import Unfit, UnfitReason

KNOWN_MAX: Final = 4096
"""Good keys remembered; the one heard of longest ago is forgotten first."""

UNKNOWN_MAX: Final = 1024
"""Keys remembered as unknown, likewise."""

UNKNOWN_FOR_S: Final = 2.0
ASK_AHEAD_S: Final = 5.0
"""A key in use is asked for again after this, beside its requests;"""

BELIEVED_S: Final = 10.0
"""and a request waits for the answer after this (S-13)."""

OUTAGE_S: Final = 900.0
"""While the ledger does not answer, a key is believed for so long after it was last heard of."""

RETRY_S: Final = 1.0
"""A ledger that did not answer is not asked again for so long."""

AWAY_FOR_S: Final = 15.0
"""Nor is it believed to be away for longer than this after it did not answer: then a request waits for it again."""

ASKED_AT_ONCE_MAX: Final = 16
ANSWER_TIMEOUT_S: Final = 2.0
TRIES_MAX: Final = 3
"""Answers that a change has overtaken, in a row."""

NO_KEY: Final = Unfit(
    UnfitReason.INVALID_API_KEY,
    "this sidecar takes calls by virtual key only: send one (sk-spend-…, from `spend keys create`) where a provider's "
    "key would stand, or in the header Spend-Key",
)
NO_WHOLE_KEY: Final = Unfit(
    UnfitReason.INVALID_API_KEY,
    "this is no virtual key: expected one, whole, as `spend keys create` printed it, and no second one that differs",
)
UNKNOWN_KEY: Final = Unfit(
    UnfitReason.INVALID_API_KEY,
    "this virtual key is not known, was revoked, or has expired: `spend keys list CUSTOMER` shows which are",
)
_AWAY: Final = Denied(
    Reason.LEDGER_UNAVAILABLE, "the ledger, which knows the virtual keys, does not answer", retry_after_ms=2000
)
_TOO_MANY: Final = Denied(Reason.OVERLOADED, "too many virtual keys are being looked up at once")

logger = logging.getLogger(__name__)


class _Known(msgspec.Struct, gc=False):
    subject: Subject
    heard_at: float
    ends_at: float


class KeyRing:
    """Knows keys. Use it from one event loop.

    Args:
        ask: asks the ledger whom the key with this digest names.
        monotonic: seconds that only go forward.
        outage_s: as OUTAGE_S.
    """

    def __init__(
        self,
        ask: Callable[[bytes], Awaitable[ResolveKeyReply]],
        monotonic: Callable[[], float],
        *,
        outage_s: float = OUTAGE_S,
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._outage_s = outage_s
        self._known: dict[bytes, _Known] = {}
        self._of_customer: dict[str, set[bytes]] = {}
        self._ids: dict[bytes, str] = {}  # of keys that are or were good; KNOWN_MAX, as heard last
        self._unknown: dict[bytes, float] = {}  # when they were found to be
        self._flights: dict[bytes, asyncio.Task[Subject | Unfit | None]] = {}
        self._overtaking: dict[bytes, set[str]] = {}  # customers that changed since a flight's question
        self._failed_at = float("-inf")  # when the ledger did not answer; long ago where it has since

    async def holder(self, key: bytes | None) -> Subject | Unfit | Denied:
        """Whom a key names.

        Args:
            key: as the request brought it; None for none, b"" for two that differ.

        Returns:
            The subject as the key names it; Unfit where there is no good key; Denied where nobody can say now.
        """
        if key is None:
            return NO_KEY
        digest = hashlib.sha256(key).digest()
        now = self._monotonic()
        known = self._known.get(digest)
        if known is not None:
            age_s = now - known.heard_at
            if age_s > ASK_AHEAD_S and digest not in self._flights and self._may_ask():
                self._take_off(digest)
            if age_s <= (self._outage_s if self._is_away(now) else BELIEVED_S) and now < known.ends_at:
                return known.subject
        elif not is_key(key.decode("latin-1")):
            return NO_WHOLE_KEY
        elif now - self._unknown.get(digest, float("-inf")) <= UNKNOWN_FOR_S:
            return UNKNOWN_KEY
        return await aside(self._heard_of(digest))

    def knows(self, key: bytes) -> bool:
        """Whether this key was good when it was last asked for."""
        return hashlib.sha256(key).digest() in self._known

    def id_of(self, key: bytes) -> str:
        """The name that a key has in the book, as `spend keys list` shows it; `` where none was heard of it (S-13)."""
        return self._ids.get(hashlib.sha256(key).digest(), "")

    def changed(self, change: Change) -> None:
        """Something about a customer changed: its keys are asked for again, and so are those that were unknown."""
        if change.recall or change.history:
            return  # of credit, or of the book: no key is concerned
        for digest in self._of_customer.pop(change.customer, ()):
            del self._known[digest]
        self._unknown.clear()
        for overtaking in self._overtaking.values():
            overtaking.add(change.customer)

    def close(self) -> None:
        """Ask no more."""
        for flight in tuple(self._flights.values()):
            flight.cancel()

    async def _heard_of(self, digest: bytes) -> Subject | Unfit | Denied:
        """Ask, or join those who asked already; the question goes on when who asked it no longer waits."""
        flight = self._flights.get(digest)
        if flight is None and self._may_ask():
            flight = self._take_off(digest)
        if flight is not None:
            answer = await asyncio.shield(flight)
            if answer is not None:
                return answer
        known = self._known.get(digest)
        now = self._monotonic()
        if known is not None and now >= known.ends_at:
            return UNKNOWN_KEY
        if known is not None and now - known.heard_at <= self._outage_s:
            return known.subject
        return _AWAY if self._is_away(self._monotonic()) else _TOO_MANY

    def _is_away(self, now: float) -> bool:
        return now - self._failed_at <= AWAY_FOR_S

    def _may_ask(self) -> bool:
        resting = self._monotonic() - self._failed_at < RETRY_S
        return len(self._flights) < ASKED_AT_ONCE_MAX and not resting

    def _take_off(self, digest: bytes) -> asyncio.Task[Subject | Unfit | None]:
        flight = asyncio.create_task(self._fly(digest))
        self._flights[digest] = flight
        flight.add_done_callback(lambda _: self._flights.pop(digest, None))
        return flight

    async def _fly(self, digest: bytes) -> Subject | Unfit | None:
        """What the ledger says, remembered; None: it says nothing."""
        self._overtaking[digest] = overtaking = set[str]()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                for _ in range(TRIES_MAX):
                    overtaking.clear()
                    asked_at = self._monotonic()
                    reply = await self._ask(digest)
                    subject = reply.subject
                    # An answer that is older than a change may be older than the key's end, or its beginning.
                    if overtaking if subject is None else subject.customer in overtaking:
                        continue
                    left_ms = reply.expires_in_ms
                    ends_at = float("inf") if left_ms is None else asked_at + left_ms / 1000
                    self._remember(digest, subject, reply.key_id, ends_at)
                    self._failed_at = float("-inf")
                    return UNKNOWN_KEY if subject is None else subject
        except (SidecarError, TimeoutError) as problem:
            now = self._monotonic()
            if not self._is_away(now):
                logger.warning("virtual_keys_not_checked", extra={"facts": {"problem": type(problem).__name__}})
            self._failed_at = now
        finally:
            del self._overtaking[digest]
        return None

    def _remember(self, digest: bytes, subject: Subject | None, key_id: str, ends_at: float) -> None:
        now = self._monotonic()
        self._forget(digest)
        if subject is None:
            self._unknown[digest] = now
            if len(self._unknown) > UNKNOWN_MAX:
                del self._unknown[next(iter(self._unknown))]
            return
        if len(self._known) >= KNOWN_MAX:
            self._forget(next(iter(self._known)))
        self._known[digest] = _Known(subject, now, ends_at)
        self._ids.pop(digest, None)
        self._ids[digest] = key_id
        if len(self._ids) > KNOWN_MAX:
            del self._ids[next(iter(self._ids))]
        self._of_customer.setdefault(subject.customer, set()).add(digest)

    def _forget(self, digest: bytes) -> None:
        self._unknown.pop(digest, None)
        known = self._known.pop(digest, None)
        if known is not None:
            customer = known.subject.customer
            self._of_customer[customer].discard(digest)
            if not self._of_customer[customer]:
                del self._of_customer[customer]
