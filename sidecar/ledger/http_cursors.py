"""Where a page ended, as its reader gets to see it: a text that only this book made, for this list and this token.

A cursor is a place in the book. It is signed together with the list, its filters and the reach of the
token, so that nobody can make one, or carry one from one customer's list to another's (B-A14). Nor can
it be read: a page may end at a row that its reader does not get to see (S-31).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from sidecar.core.governance.rights import Scope
from sidecar.ledger.http_problems import RequestRefused

_MAC_BYTES: Final = 16


class Cursors:
    """Signs the cursors of one list, as one token and one set of filters see it."""

    def __init__(self, secret: bytes, pattern: str, parts: Mapping[str, str], query: Mapping[str, str], scope: Scope):
        """For a list.

        Args:
            secret: the book's.
            pattern: the route's.
            parts: of the path.
            query: its parameters; how many rows a page has may change on the way.
            scope: where the token reaches.
        """
        filters = sorted((name, text) for name, text in query.items() if name not in ("cursor", "limit") and text)
        about = (pattern, *sorted(parts.items()), *filters, scope.customer, str(scope.node or ""))
        self._key = hmac.digest(secret, repr(about).encode(), hashlib.sha256)

    def seal(self, place: str) -> str:
        """The cursor of a place; `` (the end) stays what it is."""
        if not place:
            return ""
        raw = place.encode()
        mac = self._mac(raw)
        return base64.urlsafe_b64encode(mac + self._veiled(mac, raw)).decode().rstrip("=")

    def open(self, cursor: str) -> str:
        """The place of a cursor; `` for none.

        Raises:
            RequestRefused: `invalid_cursor`.
        """
        if not cursor:
            return ""
        try:
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            mac = sealed[:_MAC_BYTES]
            raw = self._veiled(mac, sealed[_MAC_BYTES:])
            if hmac.compare_digest(mac, self._mac(raw)):
                return raw.decode()
        except ValueError:
            pass
        expected = "expected one that an earlier page of this list gave"
        raise RequestRefused("invalid_cursor", f"cursor: {expected}", problems={"cursor": expected})

    def _mac(self, raw: bytes) -> bytes:
        return hmac.digest(self._key, raw, hashlib.sha256)[:_MAC_BYTES]

    def _veiled(self, mac: bytes, data: bytes) -> bytes:
        """A place that only this book reads, and the place again: each has a mask of its own, which its MAC gives."""
        mask = hashlib.shake_256(self._key + mac).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, mask, strict=True))
