"""The administrator's token, the same at every start."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from sidecar.app.admin_file import read_admin_file
from sidecar.errors import ConfigurationError
from sidecar.ledger.http_access import admin_token, is_admin_token

MAX_BYTES: Final = 1024
"""Of a file with a token."""


def lasting_token(data: Path, file: Path | None = None) -> str:
    """The administrator's token: that of a file which several ledgers were given, or else one of our own.

    Our own is that of the last start, so that a script's copy of it stays good; at the first, a new one.

    Raises:
        ConfigurationError: the file, or `admin.json`, is there and cannot be read.
    """
    if file is not None:
        return _read(file)
    known = read_admin_file(data)
    if known is not None and is_admin_token(known.token):
        return known.token
    return admin_token(secrets.token_bytes(32))


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "not a token"
        raise ConfigurationError([f"ledger.admin_token_file: {file}: {what}"]) from None
    if not is_admin_token(text):
        expected = "expected one that a ledger made: `token` in the admin.json of its folder"
        raise ConfigurationError([f"ledger.admin_token_file: {file}: {expected}"])
    return text
