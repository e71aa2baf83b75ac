"""Where a running `spend up` keeps its state, and the file by which the command line finds it.

`DIR/admin.json` holds the ledger's address and its token, so it is for its owner only. It is
replaced as a whole: whoever reads it sees one start of the product, never half of two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from sidecar.errors import ConfigurationError

ADMIN_FILE: Final = "admin.json"
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class AdminFile:
    """What the file says: addresses such as `http://127.0.0.1:8403`, and the administrator's token.

    `proxy` and `health` are there for scripts that start the product on free ports.
    """

    address: str
    token: str = field(repr=False)
    proxy: str = ""
    health: str = ""


def default_data_folder(environ: Mapping[str, str]) -> Path:
    """`$SPEND_DATA`, or `~/.spend`: the same for every command, whichever folder it is run in.

    Raises:
        ConfigurationError: neither is known.
    """
    if environ.get("SPEND_DATA"):
        return Path(environ["SPEND_DATA"])
    if environ.get("HOME"):
        return Path(environ["HOME"]) / ".spend"
    raise ConfigurationError(["no folder for the data: there is no HOME; give --data DIR or set SPEND_DATA"])


def write_admin_file(data: Path, facts: AdminFile) -> None:
    """Write it, readable by its owner only, whatever the umask and whatever stood there.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = data / f".{ADMIN_FILE}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(asdict(facts), file, indent=2)
        file.write("\n")
    temporary.replace(data / ADMIN_FILE)


def read_admin_file(data: Path) -> AdminFile | None:
    """Read it; None where there is none.

    Raises:
        ConfigurationError: it is there and cannot be read as what it should be; the text says what
            to do, and never what stands in the file.
    """
    path = data / ADMIN_FILE
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError([f"{path}: {error.strerror}"]) from None
    try:
        facts = json.loads(raw)
        texts = {name: facts.get(name, "") for name in ("address", "token", "proxy", "health")}
    except (ValueError, AttributeError):
        texts = {}
    if not texts or not all(isinstance(text, str) for text in texts.values()) or not texts["token"]:
        raise ConfigurationError([f"{path}: not what `spend up` writes there; remove it and start again"])
    return AdminFile(**texts)
