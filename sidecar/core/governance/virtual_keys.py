"""Virtual keys: what an application sends where a provider's key would stand, to say for whom it spends.

A key names its subject and cannot be overruled. It opens nothing at a provider and never goes to one;
the ledger keeps its SHA-256 alone, so that nobody can show it again.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.governance.checked_tokens import digest_of, is_token, write_token

KEY_PREFIX: Final = "sk-spend-"
"""What every key begins with, and nothing else: by it one is told from a provider's key."""

DIGEST_BYTES: Final = 32
FINGERPRINT_DIGITS: Final = 12


def write_key(secret: bytes) -> str:
    """Write 32 random bytes as a virtual key.

    Raises:
        ValueError: not exactly 32 of them.
    """
    return write_token(KEY_PREFIX, secret)


def is_key(text: str) -> bool:
    """Whether `text` has the form and the checksum of a virtual key; says nothing of its being known."""
    return is_token(KEY_PREFIX, text)


def key_digest(key: str) -> bytes:
    """By what a key is known, DIGEST_BYTES of them."""
    return digest_of(key)


def fingerprint(sha256: str) -> str:
    """How a key is shown, from its digest in hex: enough to tell one from another, and to find it in no other way."""
    return sha256[:FINGERPRINT_DIGITS]
