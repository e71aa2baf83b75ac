"""Processes on one core each, and what they cost: CPU time of a process tree, from /proc."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LOAD_CORE = 0
"""Load generator and upstream share it."""

SERVER_CORE = 1
"""The servers under test, one after the other busy, have it to themselves."""

START_TIMEOUT_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_prefix: list[str] = []


def use_realtime() -> None:
    """Run everything started from now on ahead of what else the machine does (SCHED_RR; needs the right to)."""
    _prefix[:] = ["chrt", "-r", "1"]


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, on one core."""
    return [*_prefix, "taskset", "-c", str(core), *command]


@contextlib.contextmanager
def running(command: Sequence[str], *, core: int, folder: Path) -> Iterator[int]:
    """A process pinned to a core, its output in `folder/log`; gives its pid, and ends it and its children after."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(pinned(core, command), stdout=log, stderr=log, start_new_session=True)
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def pin(pid: int, core: int) -> None:
    """Move a running process, with all its threads, to a core."""
    for pid_of_tree in tree(pid):
        for task in Path(f"/proc/{pid_of_tree}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})
            if _prefix:
                os.sched_setscheduler(int(task.name), os.SCHED_RR, os.sched_param(1))


def wait_until_serving(
    port: int, path: str, body: bytes, headers: dict[str, str], log: Path, *, timeout_s: float = START_TIMEOUT_S
) -> None:
    """Wait for the first 200.

    Raises:
        RuntimeError: it did not come in time; with the last answer and the end of the log.
    """
    until = time.monotonic() + timeout_s
    last = "no answer"
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                return
            last = f"{answer.status} {content[:300]!r}"
        except (OSError, http.client.HTTPException) as exc:
            last = repr(exc)
        finally:
            connection.close()
        time.sleep(0.01)
    tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise RuntimeError(f"nothing serves on port {port}: {last}\n{tail}")


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """User and system seconds of a process tree so far."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_S


def main_thread_cpu_s(pid: int) -> float:
    """Seconds on a core so far of the process's first thread, which runs the event loop; 0 where that is not told.

    From the scheduler's own account, which is exact to the nanosecond.
    """
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def rss_mib(pid: int) -> float:
    """Resident memory of a process tree."""
    pages = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
