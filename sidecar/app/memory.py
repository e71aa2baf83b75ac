"""How much memory this process may have, and has: its container's limit, or one that was configured.

Sources: docs.kernel.org, admin-guide/cgroup-v2 (`memory.max`, `memory.current`, `memory.stat`) and
admin-guide/cgroup-v1/memory (`memory.limit_in_bytes`, `memory.usage_in_bytes`); checked 2026-11.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
STATM: Final = Path("/proc/self/statm")

_V2: Final = ("memory.max", "memory.current", "inactive_file")
_V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""By version of the kernel's interface: the files of limit and use, and the line of `memory.stat` to leave out."""

_V1_UNLIMITED: Final = 1 << 60
_PAGE_BYTES: Final = resource.getpagesize()


def memory_reader(limit_bytes: int) -> Callable[[], int | None] | None:
    """What tells, in percent, how much of the limit is in use.

    Args:
        limit_bytes: of this process alone; 0: what the container may have, counting what the kernel would not
            get back by itself (pages of files that were not used of late do not count).

    Returns:
        None where there is no limit. What it gives may be over 100, and is None where it cannot be read.
    """
    if limit_bytes:
        return lambda: _percent(_resident_bytes(STATM), limit_bytes)
    for folder, limit_name, used_name, idle_name in _places(OWN, CGROUPS):
        limit = _number(folder / limit_name)
        if limit is not None and 0 < limit < _V1_UNLIMITED:
            return lambda: _percent(_used_bytes(folder, used_name, idle_name), limit)
    return None


def _places(own: Path, cgroups: Path) -> list[tuple[Path, str, str, str]]:
    """Where a limit may stand: of either version of the kernel's interface, by our own path and at its root."""
    found = []
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((cgroups / path.lstrip("/"), *_V2))
        elif "memory" in controllers.split(","):
            found.append((cgroups / "memory" / path.lstrip("/"), *_V1))
    return [*found, (cgroups, *_V2), (cgroups / "memory", *_V1)]


def _used_bytes(folder: Path, used_name: str, idle_name: str) -> int | None:
    used = _number(folder / used_name)
    if used is None:
        return None
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == idle_name:
            return max(0, used - int(value))
    return used


def _resident_bytes(statm: Path) -> int | None:
    lines = _lines(statm)
    return int(lines[0].split()[1]) * _PAGE_BYTES if lines else None


def _percent(used: int | None, limit: int) -> int | None:
    return None if used is None else 100 * used // limit


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None  # "max": none


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
