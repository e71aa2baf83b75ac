"""A container as a chart or a compose file describes it, run as a process of this machine.

What a container has of its own is translated, and nothing else: its folders stand elsewhere, it listens on
loopback, and on ports that are free.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.dockerfile import read_dockerfile
from tests.support.product import STOP_TIMEOUT_S, Product

IMAGE = read_dockerfile().stages[-1]
ANYWHERE = "0.0.0.0"
PORTS = {"ledger": ("LEDGER__LISTEN", "LEDGER__HEALTH"), "sidecar": ("LISTEN", "HEALTH")}
"""Where each process listens."""


@dataclass(frozen=True)
class Container:
    """Its arguments, its own variables, and where its volumes stand."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    mounts: Sequence[str]

    def variables(self) -> dict[str, str]:
        """With those of the image, but its paths to Python."""
        image = {name: value for name, value in IMAGE.environment().items() if not name.startswith(("PYTHON", "PATH"))}
        return image | dict(self.environment)

    def mount_of(self, path: str) -> str:
        """The volume below which a path is; all else cannot be written, or is not there."""
        [found] = [mount for mount in self.mounts if path.startswith(f"{mount}/")]
        return found


class ContainerProcess(Product):
    """A container's command, started here."""

    def __init__(self, container: Container, volumes: Mapping[str, Path], replaced: Mapping[str, str]) -> None:
        """`volumes` are the folders that stand for its mounts; `replaced`, whole values of variables by others."""
        moved = {name: replaced.get(value, value) for name, value in container.variables().items()}
        local = {name: _local(value, container, volumes) for name, value in moved.items()}
        free = {f"SPEND_{name}__PORT": "0" for name in PORTS[container.arguments[0]]}
        super().__init__(Path(local["SPEND_DATA"]), local | free)
        self._arguments = [_moved(word, container, volumes) for word in container.arguments]
        self.addresses = "sidecar.json" if container.arguments[0] == "sidecar" else "admin.json"

    def arguments(self) -> list[str]:
        """As they are written."""
        return self._arguments

    def run_to_its_end(self) -> None:
        """A container that does one thing."""
        command = [sys.executable, "-m", "sidecar.cli.main", *self._arguments]
        subprocess.run(command, env=self.environment, timeout=STOP_TIMEOUT_S, check=True, capture_output=True)


def _local(value: str, container: Container, volumes: Mapping[str, Path]) -> str:
    return "127.0.0.1" if value == ANYWHERE else _moved(value, container, volumes)


def _moved(value: str, container: Container, volumes: Mapping[str, Path]) -> str:
    if not value.startswith("/"):
        return value
    mount = container.mount_of(value)
    return str(volumes[mount]) + value.removeprefix(mount)
