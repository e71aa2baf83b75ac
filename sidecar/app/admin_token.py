"""The administrator's token, the same at every start."""

from __future__ import annotations

import secrets
from pathlib import Path

from sidecar.app.admin_file import read_admin_file
from sidecar.ledger.http_access import admin_token, is_admin_token


def lasting_token(data: Path) -> str:
    """The administrator's token: the one of the last start, so that a script's copy of it stays good; else a new one.

    Raises:
        ConfigurationError: `admin.json` is there and cannot be read.
    """
    known = read_admin_file(data)
    if known is not None and is_admin_token(known.token):
        return known.token
    return admin_token(secrets.token_bytes(32))
