"""Whether a command that does without a ledger means the embedded book of a folder, or the one in a database."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from sidecar.cli.failures import Failed

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE: Final = click.Path(path_type=Path)


def config_option(function: _F) -> _F:
    """Add `--config` to a command: the settings may say that the book is in a database."""
    option = click.option(
        "--config", metavar="FILE", type=_FILE, envvar="SPEND_CONFIG", help="Says where a shared book is."
    )
    return option(function)


def shared_book(config: Path | None, folder: Path) -> str:
    """The URL of the database that has the book, by settings and environment; `` where the folder has one.

    Raises:
        Failed: the settings are wrong, or the driver is not installed.
    """
    from sidecar.app.data_folder import BOOK  # noqa: PLC0415 (not for --help)
    from sidecar.app.settings import load_settings  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    if (folder / BOOK).exists():
        return ""
    try:
        url = load_settings(config, os.environ, {}, alone=True).ledger.database.url
    except ConfigurationError as error:
        raise Failed("\n".join(error.problems), "`spend doctor` looks at the whole set-up.") from None
    if url and find_spec("asyncpg") is None:
        raise Failed("ledger.database.url: needs the extra `postgres`.", "pip install 'spend-sidecar[postgres]'")
    return url
