"""The machine: files and their modes, disk, descriptors, clocks, and this shell's variables."""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sidecar.app.data_folder import OUTBOX
from sidecar.app.settings import FEW_FILES, SPARE_FILES, files_wanted
from sidecar.cli.checks.finding import Finding, Setup, ok, problem, start_on, warning

LITTLE_DISK_BYTES: Final = 64 * 1024 * 1024
MAX_FILES_LOOKED_AT: Final = 10_000
MOMENT_S: Final = 0.05
STEP_S: Final = 0.1
"""Difference between the clocks over a moment that no drift explains: somebody set one of them."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OPEN_FILES: Final = re.compile(r"^Max open files\s+(\S+)", re.MULTILINE)


def machine(setup: Setup) -> Iterator[Finding]:
    """Everything here."""
    if setup.data is not None:
        yield folder(setup.data)
        yield disk(setup.data, None if setup.lone_ledger else setup.settings.sidecar.outbox.max_bytes)
    yield open_files(setup)
    first = _both_clocks()
    time.sleep(MOMENT_S)
    yield clocks([first, _both_clocks()])
    if not setup.lone_ledger:  # calls go to sidecars, elsewhere
        yield from shell(setup)


def folder(data: Path) -> Finding:
    """Whether the folder and all in it are their owner's alone."""
    check = "folder"
    try:
        top = data.stat()
    except OSError as error:
        return problem(check, f"{data}: {error.strerror}", start_on(data))
    if not stat.S_ISDIR(top.st_mode):
        return problem(check, f"{data} is no folder", "give another one: spend up --data DIR")
    if top.st_uid != os.geteuid():
        return warning(
            check,
            f"{data} belongs to another user, so it was not looked into",
            f"sudo spend doctor --data {_quoted(data)}",
        )
    if top.st_mode & 0o077:
        return problem(
            check, f"{data} is open to others (mode {_mode(top)}, not 0700)", f"chmod -R go= {_quoted(data)}"
        )
    open_ones = [path for path, found in _files(data) if found.st_mode & 0o077]
    if open_ones:
        more = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
        return problem(check, f"{open_ones[0]}{more} may be read by others", f"chmod -R go= {_quoted(data)}")
    return ok(check, f"{data} and all in it are yours alone")


def _files(data: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What stands in the folder and below, as far as MAX_FILES_LOOKED_AT."""
    looked_at = 0
    for where, folders, files in os.walk(data):
        for name in (*folders, *files):
            looked_at += 1
            if looked_at > MAX_FILES_LOOKED_AT:
                return
            path = Path(where) / name
            try:
                found = path.lstat()
            except FileNotFoundError:  # the product removes files as it goes
                continue
            if not stat.S_ISLNK(found.st_mode):
                yield path, found


def disk(data: Path, max_bytes: int | None) -> Finding:
    """Whether the outbox can grow to its cap; None: there is none, but a book that grows."""
    check = "disk"
    try:
        free = shutil.disk_usage(data).free
    except OSError as error:
        return problem(check, f"{data}: {error.strerror}", start_on(data))
    if max_bytes is None:
        if free < LITTLE_DISK_BYTES:
            what = f"{_size(free)} free: when it is full nothing is lent or booked"
            return problem(check, what, f"df -h {_quoted(data)}   (free some)")
        return ok(check, f"{_size(free)} free")
    outbox = data / OUTBOX
    used = sum(found.st_size for _, found in _files(outbox)) if outbox.is_dir() else 0
    growth = max(0, max_bytes - used)
    then = f"df -h {_quoted(data)}   (free some, or give the outbox less: SPEND_OUTBOX__MAX_BYTES={max(1, free // 2)})"
    if free < LITTLE_DISK_BYTES:
        return problem(check, f"{_size(free)} free: when it is full every call is refused", then)
    if free < growth:
        return warning(check, f"{_size(free)} free, and the outbox may still grow by {_size(growth)}", then)
    return ok(check, f"{_size(free)} free; the outbox may grow by {_size(growth)}")


def open_files(setup: Setup) -> Finding:
    """Whether as many connections as are configured can be open at once."""
    check = "files"
    ours = setup.settings.sidecar
    wanted = files_wanted(setup.settings)
    limit = None if setup.data is None else running_limit(setup.data)
    whose = "of this shell" if limit is None else "of the running process"
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < 0 or limit >= wanted:
        said = "no limit" if limit < 0 else str(limit)
        return ok(check, f"open files {whose}: {said}; {ours.door.max_connections} connections need {wanted}")
    fits = max(1, (limit - ours.pool.max_idle - SPARE_FILES) // 2)
    then = f"ulimit -n {wanted}   (before `{setup.command}`; or SPEND_DOOR__MAX_CONNECTIONS={fits})"
    what = f"open files {whose}: {limit}, but {ours.door.max_connections} connections need {wanted}"
    return problem(check, what, then) if limit < FEW_FILES else warning(check, what, then)


def running_limit(data: Path) -> int | None:
    """The soft limit of open files of the process that has the outbox locked; None where it cannot be told."""
    try:
        found = (data / OUTBOX / "lock").stat()
        where = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        pids = [line.split()[4] for line in locks if len(line.split()) > 5 and line.split()[5] == where]
        match = _OPEN_FILES.search(Path(f"/proc/{pids[0]}/limits").read_text(encoding="ascii")) if pids else None
    except (OSError, ValueError, IndexError):
        return None
    if match is None:
        return None
    return -1 if match[1] == "unlimited" else int(match[1])


def clocks(readings: Sequence[tuple[float, float]]) -> Finding:
    """Whether this machine's clocks go forward together.

    Args:
        readings: (monotonic, wall) in seconds, in the order taken.
    """
    check = "clocks"
    (first, first_wall), (last, last_wall) = readings[0], readings[-1]
    if last <= first:
        return problem(
            check, "the monotonic clock does not go forward", "reboot this machine, or move it to another host"
        )
    step = (last_wall - first_wall) - (last - first)
    if abs(step) > STEP_S:
        return warning(check, f"the wall clock jumped by {step:+.1f} s just now", "timedatectl set-ntp true")
    return ok(check, "the monotonic and the wall clock go forward together")


def _both_clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()


def shell(setup: Setup) -> Iterator[Finding]:
    """Where applications that are started from this shell would send their calls."""
    proxy = setup.place.proxy if setup.place is not None else ""
    if not proxy:
        listen = setup.settings.sidecar.listen
        proxy = f"http://{listen.host}:{listen.port}"
    for name, path in (("OPENAI_BASE_URL", "/v1"), ("ANTHROPIC_BASE_URL", "")):
        yield base_url(name, setup.environ.get(name), proxy, path)


def base_url(name: str, value: str | None, proxy: str, path: str) -> Finding:
    """One variable; `path` is what follows the sidecar's address in it."""
    wanted = proxy + path
    then = f"export {name}={wanted}"
    if not value:
        return warning(name, "not set in this shell: what is started here goes past the sidecar", then)
    try:
        parts, ours = urlsplit(value), urlsplit(proxy)
        port, our_port = parts.port, ours.port
    except ValueError:
        return problem(name, f"{value[:100]!r} is no address", then)
    same_host = parts.hostname == ours.hostname or {parts.hostname, ours.hostname} <= _LOOPBACK
    if not same_host or port != our_port or parts.scheme != ours.scheme:
        return warning(name, f"{value[:100]} is not the sidecar ({wanted}): its calls go past it", then)
    said = parts.path.rstrip("/")
    if said == path:
        return ok(name, f"points at the sidecar ({value[:100]})")
    if said.count("/v1") > path.count("/v1"):
        why = "the library adds /v1 itself, so it would stand there twice" if not path else "/v1 stands there twice"
    elif not said:
        why = "it lacks /v1, and such calls are refused as `endpoint_not_metered`"
    else:
        why = f"the path {said[:60]} is not the sidecar's"
    return problem(name, f"{value[:100]}: {why}", then)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _size(count: int) -> str:
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count // 1024} KiB"
