"""The folder in which a process keeps all its state, and what stands in it beside book and outbox."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigurationError
from sidecar.outbox.segments import sync_directory
from sidecar.ports import Ids

BOOK: Final = "book.sqlite"
OUTBOX: Final = "outbox"
NAME_FILE: Final = "sidecar.name"

_NAME: Final = re.compile(r"[a-z]+_[0-9a-z]{26}", re.ASCII)


def open_data_folder(data: Path) -> None:
    """Make the folder if need be, private to its owner; from now on this process makes private files only.

    A memory dump could hold a caller's key, so none is written.

    Raises:
        ConfigurationError: it cannot be made or written, or it is somebody else's.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_uid != os.geteuid():
            raise ConfigurationError([f"{data}: belongs to another user; give a folder of your own with --data"])
        data.chmod(0o700)
    except FileExistsError:
        raise ConfigurationError([f"{data}: is a file; give a folder with --data"]) from None
    except OSError as problem:
        raise ConfigurationError([f"{data}: {problem.strerror}; give another folder with --data"]) from None


def is_sidecars(data: Path) -> bool:
    """Whether a sidecar without a book has run on the folder: its ledger is elsewhere."""
    return (data / NAME_FILE).exists() and not (data / BOOK).exists()


def sidecar_name(data: Path, ids: Ids) -> str:
    """This sidecar's name: made at the first start, the same ever after (a start has an incarnation besides).

    Raises:
        ConfigurationError: the file holds something else.
    """
    path = data / NAME_FILE
    try:
        name = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        name = ids.new("sidecar")
        _write_for_good(path, f"{name}\n".encode("ascii"))
    except (OSError, UnicodeDecodeError):
        name = ""
    if not _NAME.fullmatch(name):
        raise ConfigurationError([f"{path}: not a sidecar's name; restore it from a copy of this folder"])
    return name


def _write_for_good(path: Path, data: bytes) -> None:
    """Make a small file that is there whole, or not at all, also after a power loss."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    sync_directory(path.parent)
