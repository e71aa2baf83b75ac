"""Which sidecars are let in: a name and the SHA-256 of a token for each, in the book.

A name has one token. Several sidecars of one deployment may share it; whatever they report is told
apart by the name that each of them made for itself.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.governance.tenancy import is_id
from sidecar.errors import NotFound, Rejected
from sidecar.ledger.views import SidecarTokenView
from sidecar.ports import Transaction

MAX_SIDECAR_TOKENS: Final = 4096

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXPECTED: Final = "expected 64 hex digits, the SHA-256 of the token"
_KEPT_AS: Final = "sidecar_token:"
_ALL: Final = "SELECT name, value FROM meta WHERE substr(name, 1, 14) = 'sidecar_token:' ORDER BY name"


async def put(tx: Transaction, name: str, token_sha256: str) -> SidecarTokenView:
    """Set a name's token.

    Raises:
        Rejected: not a name, not a digest, or MAX_SIDECAR_TOKENS names have one.
    """
    problems: dict[str, str] = {}
    if not is_id(name):
        problems["name"] = "expected at most 128 of [A-Za-z0-9._:@-]"
    if not _SHA256.fullmatch(token_sha256):
        problems["token_sha256"] = _EXPECTED
    if problems:
        raise Rejected("invalid_field", problems)
    others = [view for view in await all_of(tx) if view.name != name]
    if len(others) >= MAX_SIDECAR_TOKENS:
        raise Rejected("too_many_tokens", {"name": f"at most {MAX_SIDECAR_TOKENS} names have a token"})
    await tx.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_KEPT_AS + name, token_sha256),
    )
    return SidecarTokenView(name)


async def drop(tx: Transaction, name: str) -> SidecarTokenView:
    """Take a name's token away.

    Raises:
        NotFound: it has none.
    """
    rows = await tx.fetch("SELECT value FROM meta WHERE name = ?", (_KEPT_AS + name,))
    if not rows:
        raise NotFound("sidecar token", name)
    await tx.execute("DELETE FROM meta WHERE name = ?", (_KEPT_AS + name,))
    return SidecarTokenView(name)


async def all_of(tx: Transaction) -> list[SidecarTokenView]:
    """The names that have a token."""
    return [SidecarTokenView(row["name"].removeprefix(_KEPT_AS)) for row in await tx.fetch(_ALL)]


async def digests(tx: Transaction) -> dict[bytes, str]:
    """Names by the digest of their token."""
    return {bytes.fromhex(row["value"]): row["name"].removeprefix(_KEPT_AS) for row in await tx.fetch(_ALL)}
