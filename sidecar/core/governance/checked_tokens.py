"""How a secret of ours is written: a prefix that scanners of leaked secrets find, 256 random bits, and a checksum.

The checksum proves nothing to an attacker. It tells a mistyped secret from an unknown one, so that
nobody need be asked about what can be none.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import Final

SECRET_BYTES: Final = 32
_REST: Final = re.compile(r"[a-z2-7]{52}_[a-z2-7]{7}", re.ASCII)


def write_token(prefix: str, secret: bytes) -> str:
    """Write random bytes as a token.

    Raises:
        ValueError: not exactly SECRET_BYTES of them.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a token is made of {SECRET_BYTES} random bytes, not {len(secret)}")
    body = prefix + _base32(secret)
    return f"{body}_{_checksum(body)}"


def is_token(prefix: str, text: str) -> bool:
    """Whether `text` has the form and the checksum of such a token; says nothing of its being accepted."""
    if not text.startswith(prefix) or not _REST.fullmatch(text[len(prefix) :]):
        return False
    body, _, checksum = text.rpartition("_")
    return checksum == _checksum(body)


def digest_of(token: str) -> bytes:
    """The SHA-256 by which a token is known: what is kept in its place, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _checksum(body: str) -> str:
    return _base32(zlib.crc32(body.encode()).to_bytes(4, "big"))


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
