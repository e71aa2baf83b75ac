"""Idempotency keys that callers have used, so that a captured request cannot be changed and sent again under its key.

The same request under the same key is a call of its own: it is the provider's to know it again, and
every call that reaches a provider is held for and settled. Only another request under a used key is
refused. What is remembered is bounded, of this process, and gone with it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from sidecar.proxy.unfit import Unfit, UnfitReason

KEY_USED: Final = Unfit(
    UnfitReason.INVALID_REQUEST,
    "this idempotency key was used for another request; send each request under a key of its own",
    param="Idempotency-Key",
    code="idempotency_mismatch",
)

REMEMBERED_KEYS: Final = 8192
"""Keys remembered over all customers; the one used longest ago is forgotten first."""

_DIGEST_BYTES: Final = 16


class IdempotencyKeys:
    """Which request each customer's key stood for."""

    def __init__(self, size: int = REMEMBERED_KEYS) -> None:
        self._size = size
        self._digests: dict[tuple[str, bytes], bytes] = {}

    def is_for_another(self, customer: str, key: bytes, target: str, body: bytes) -> bool:
        """Whether the key was used by this customer for a request that is not this one."""
        known = self._digests.get((customer, key))
        return known is not None and known != _digest(target, body)

    def remember(self, customer: str, key: bytes, target: str, body: bytes) -> None:
        """The request runs under this key."""
        self._digests.pop((customer, key), None)
        self._digests[customer, key] = _digest(target, body)
        if len(self._digests) > self._size:
            del self._digests[next(iter(self._digests))]


def _digest(target: str, body: bytes) -> bytes:
    return blake2b(target.encode() + b"\n" + body, digest_size=_DIGEST_BYTES).digest()
