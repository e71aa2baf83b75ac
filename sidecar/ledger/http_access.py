"""Who is let in to the ledger's API: what tokens look like, and what comes with a good one.

The administrator's token is known to the process; all others are in the book, by their SHA-256.
What the book says of one is believed for TOKENS_BELIEVED_S, so that a revoked one ends within a second.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sidecar.core.governance.checked_tokens import digest_of, is_token, write_token
from sidecar.core.governance.rights import Role, Scope
from sidecar.ledger.administration import KnownToken
from sidecar.ledger.http_limits import Buckets
from sidecar.ledger.http_problems import RequestRefused, wait_for

TOKEN_PREFIX: Final = "spend_admin_"  # noqa: S105 (what tokens begin with, so that scanners of leaked secrets find them)
SIDECAR_TOKEN_PREFIX: Final = "spend_sidecar_"  # noqa: S105 (likewise)
API_TOKEN_PREFIX: Final = "spend_api_"  # noqa: S105 (likewise)

TOKENS_BELIEVED_S: Final = 0.5
"""How long the book's word for a token is believed: one that is revoked is refused within a second."""

MAX_TOKENS_REMEMBERED: Final = 4096

GUESSES_AT_ONCE: Final = 20
GUESSES_PER_S: Final = 1.0
"""Tokens that are none, from one address; beyond that the book is not asked, and the answer is 429."""

_log = logging.getLogger(__name__)


def admin_token(secret: bytes) -> str:
    """Write 32 random bytes as a token: prefix, secret, and a checksum that tells a mistyped one.

    Raises:
        ValueError: not exactly SECRET_BYTES of them.
    """
    return write_token(TOKEN_PREFIX, secret)


def sidecar_token(secret: bytes) -> str:
    """Write 32 random bytes as the token of a sidecar, which opens the contract and nothing else.

    Raises:
        ValueError: not exactly SECRET_BYTES of them.
    """
    return write_token(SIDECAR_TOKEN_PREFIX, secret)


def api_token(secret: bytes) -> str:
    """Write 32 random bytes as a token of the API; the book says what it may do.

    Raises:
        ValueError: not exactly SECRET_BYTES of them.
    """
    return write_token(API_TOKEN_PREFIX, secret)


def is_admin_token(text: str) -> bool:
    """Whether `text` has the form and the checksum of a token; says nothing of its being accepted."""
    return is_token(TOKEN_PREFIX, text)


@dataclass(frozen=True, slots=True)
class Access:
    """A token that is accepted, known by its SHA-256, and what it may do as whom, and where."""

    token_sha256: bytes = field(repr=False)
    actor: str
    role: Role = Role.PLATFORM_ADMIN
    scope: Scope = Scope()  # noqa: RUF009 (frozen)


def admin_access(token: str, *, actor: str = "admin") -> Access:
    """The access of the administrator's token: everything."""
    return Access(digest_of(token), actor)


def bearer(authorizations: Sequence[str]) -> str | None:
    """The bearer token of a request; None where there is none, or more than one header."""
    if len(authorizations) != 1:
        return None
    scheme, _, token = authorizations[0].partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def _among(digest: bytes, accesses: Iterable[Access]) -> Access | None:
    """Each is compared in constant time, and all of them: the time taken tells nothing of a token."""
    found: Access | None = None
    for access in accesses:
        if hmac.compare_digest(digest, access.token_sha256):
            found = access
    return found


Find = Callable[[bytes], Awaitable[KnownToken | None]]


class Door:
    """Lets in who brings a good token, and lets nobody guess for long."""

    def __init__(self, known: Iterable[Access], find: Find, monotonic: Callable[[], float]) -> None:
        """Make one.

        Args:
            known: the tokens that this process knows by itself.
            find: the book's token with a SHA-256, None where none is good.
            monotonic: seconds.
        """
        self._known = tuple(known)
        self._find = find
        self._monotonic = monotonic
        self._remembered: OrderedDict[bytes, tuple[Access, float]] = OrderedDict()
        self._guesses = Buckets(GUESSES_PER_S, GUESSES_AT_ONCE, monotonic)

    async def open(self, authorizations: Sequence[str], address: str) -> Access:
        """Whose the token of a request is.

        Args:
            authorizations: the values of all `Authorization` headers, as received.
            address: of the peer that connected. What headers say of it is not believed.

        Raises:
            RequestRefused: there is no token, two, or a wrong one (`unauthenticated`); or this
                address has brought too many that are none (`rate_limited`).
        """
        token = bearer(authorizations)
        if token is None:
            raise _nobody()
        digest = digest_of(token)
        access = _among(digest, self._known) or await self._in_book(digest, token, _asker(address))
        if access is not None:
            return access
        wait_s = self._guesses.take(_asker(address))
        if wait_s:
            raise wait_for(wait_s, "too many wrong tokens from this address")
        _log.info("admin_token_refused", extra={"facts": {"peer": address}})
        raise _nobody()

    async def _in_book(self, digest: bytes, token: str, asker: str) -> Access | None:
        remembered = self._remembered.get(digest)
        if remembered is not None and self._monotonic() - remembered[1] <= TOKENS_BELIEVED_S:
            return remembered[0]
        if remembered is None and (not is_token(API_TOKEN_PREFIX, token) or self._guesses.wait_s(asker)):
            return None  # what cannot be one, or a guess too many, is not worth the book's time
        read_at = self._monotonic()
        known = await self._find(digest)
        if known is None:
            self._remembered.pop(digest, None)
            return None
        access = Access(digest, known.name, known.role, known.scope)
        self._remembered[digest] = (access, read_at)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MAX_TOKENS_REMEMBERED:
            self._remembered.popitem(last=False)
        return access


def _nobody() -> RequestRefused:
    challenge = {"WWW-Authenticate": "Bearer"}
    return RequestRefused("unauthenticated", "send Authorization: Bearer TOKEN", headers=challenge)


def _asker(address: str) -> str:
    """Whose guesses are counted together: an address, or the /64 that one household has of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
