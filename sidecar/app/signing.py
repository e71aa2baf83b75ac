"""The key with which a ledger signs its checkpoints: Ed25519, in a file beside the book, never in it.

`cryptography` is imported when something is first signed or checked: an idle process does without it.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigurationError

_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def public_file(key_file: Path) -> Path:
    """Where the public key of a key stands."""
    return key_file.with_name(key_file.name + ".pub")


class Signer:
    """Signs with the key of a file, which is made, readable by its owner alone, if it is not there.

    Beside it, at `public_file`, stands the public key, by which anybody can check.
    """

    def __init__(self, key_file: Path) -> None:
        """Read the key, or make one.

        Raises:
            ConfigurationError: the file cannot be read or made, or holds something else.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 (late)

        try:
            raw = _read_or_make(key_file)
        except OSError as problem:
            raise ConfigurationError([f"{key_file}: {problem.strerror}; set ledger.checkpoints.key_file"]) from None
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = self._key.public_key().public_bytes_raw().hex()
        shown = public_file(key_file)
        if not shown.exists():
            with suppress(OSError):  # a mounted secret, which nobody may write beside; each checkpoint names the key
                shown.write_text(self.public + "\n", encoding="ascii")

    def sign(self, text: bytes) -> str:
        """The signature of a text, in hex."""
        return self._key.sign(text).hex()


def is_signed(public: str, signature: str, text: bytes) -> bool:
    """Whether a signature is that of a text by the holder of a public key, both in hex."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (late)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public_keys(path: Path) -> frozenset[str]:
    """The public keys in a file, one a line, in hex: more than one where the key was changed.

    Raises:
        ConfigurationError: there are none.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "not text"
        raise ConfigurationError([f"{path}: {why}; give the ledger's public key with --public-key"]) from None
    if not lines or not all(map(_HEX_KEY.fullmatch, lines)):
        raise ConfigurationError([f"{path}: expected public keys, each 64 hex digits in a line of its own"])
    return frozenset(lines)


def _read_or_make(path: Path) -> bytes:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = secrets.token_hex(32)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except UnicodeDecodeError:
        text = ""
    if not _HEX_KEY.fullmatch(text):
        raise ConfigurationError([f"{path}: is not a key for checkpoints; restore it, or move it away for a new one"])
    return bytes.fromhex(text)
