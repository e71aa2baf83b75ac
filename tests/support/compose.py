"""`deploy/compose.yaml`, its services read as containers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support.containers import Container
from tests.unit.source_tree import ROOT

FILE = ROOT / "deploy" / "compose.yaml"


def services() -> dict[str, dict[str, Any]]:
    """Each service as it is written, what it has in common with others merged in."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


def container(name: str, said: Mapping[str, str] | None = None) -> Container:
    """A service as it would be run, in an environment that says so much."""
    service = services()[name]
    assert "entrypoint" not in service  # the image's own
    variables = {key: _filled_in(str(value), said or {}) for key, value in service.get("environment", {}).items()}
    return Container(service.get("command", []), variables, list(mounts(name).values()))


def mounts(name: str) -> dict[str, str]:
    """Where each volume of a service stands."""
    return {volume.split(":")[0]: volume.split(":")[1] for volume in services()[name].get("volumes", [])}


def first_steps() -> list[list[str]]:
    """The commands of the comment at its top, word by word."""
    lines = re.findall(r"^#   (docker compose .*?)(?: +#.*)?$", FILE.read_text(), re.MULTILINE)
    return [line.split() for line in lines]


def _filled_in(text: str, said: Mapping[str, str]) -> str:
    """`${NAME:-default}`, as compose does it."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: said.get(found[1]) or found[2], text)
