"""What must hold of this machine before anything is served (S-21, S-59)."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from datetime import UTC, datetime

import aiohttp
import pytest

from sidecar.app import start_guards
from sidecar.app.settings import FEW_FILES
from sidecar.app.start_guards import guard_start, raise_open_files, version_of
from sidecar.errors import ConfigurationError

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """Limits that a test can change without changing this process's own."""
    limits = {"files": (1024, 4096)}

    def set_limit(kind: int, pair: tuple[int, int]) -> None:
        if kind == resource.RLIMIT_NOFILE:
            limits["files"] = pair

    monkeypatch.setattr(start_guards, "keep_memory_private", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits["files"])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    return limits


def test_a_sound_machine_passes(machine: dict[str, tuple[int, int]], caplog: pytest.LogCaptureFixture) -> None:
    """S-59: nothing is said, and the soft limit is raised to what the settings need."""
    assert guard_start(NOW, files_wanted=3000) == 3000
    assert machine["files"] == (3000, 4096)
    assert not caplog.records


def test_fewer_files_than_connections_is_told(
    machine: dict[str, tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """S-59: as many as the hard limit allows, and a warning with both figures."""
    with caplog.at_level(logging.WARNING):
        guard_start(NOW, files_wanted=9000)
    assert machine["files"] == (4096, 4096)
    (record,) = caplog.records
    assert (record.message, record.__dict__["facts"]) == ("few_open_files", {"allowed": 4096, "wanted": 9000})


def test_too_few_files_is_refused(machine: dict[str, tuple[int, int]]) -> None:
    """S-59: with what to type."""
    machine["files"] = (64, 100)
    with pytest.raises(ConfigurationError, match=f"100 are allowed and {FEW_FILES} needed; first: ulimit -n 9000"):
        guard_start(NOW, files_wanted=9000)


@pytest.mark.parametrize("limits", [(resource.RLIM_INFINITY, resource.RLIM_INFINITY), (5000, 9000)])
def test_enough_is_left_alone(machine: dict[str, tuple[int, int]], limits: tuple[int, int]) -> None:
    """A limit is never lowered."""
    machine["files"] = limits
    assert raise_open_files(4000) >= 4000
    assert machine["files"] == limits


def test_without_a_hard_limit_it_is_raised_to_what_is_wanted(machine: dict[str, tuple[int, int]]) -> None:
    """No limit reads as -1, which is not less than anything."""
    machine["files"] = (1024, resource.RLIM_INFINITY)
    assert raise_open_files(4000) == 4000
    assert machine["files"] == (4000, resource.RLIM_INFINITY)


@pytest.mark.parametrize(
    "now", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)]
)
def test_a_clock_that_was_never_set_is_refused(now: datetime) -> None:
    """S-59: every period would be the wrong one, and no certificate valid."""
    with pytest.raises(ConfigurationError, match=rf"the clock says {now:%Y-%m-%d}; set it first: timedatectl"):
        guard_start(now, files_wanted=1000)


def test_an_old_aiohttp_is_refused_and_all_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-59: older parsers take framing that hides requests."""
    monkeypatch.setattr(aiohttp, "__version__", "3.9.1")
    with pytest.raises(ConfigurationError, match=r"aiohttp: 3\.9\.1 is installed and 3\.14 is needed") as told:
        guard_start(datetime(1970, 1, 1, tzinfo=UTC), files_wanted=1000)
    assert len(told.value.problems) == 2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("3.14.5", (3, 14, 5)), ("3.14", (3, 14)), ("3.14.0rc1", (3, 14, 0)), ("4.0.0.dev1", (4, 0, 0)), ("x", ())],
)
def test_versions_are_compared_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """3.9 is before 3.14; a version without numbers is before all."""
    assert version_of(text) == numbers


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_memory_is_private() -> None:
    """S-21: asked of the kernel, in a process of its own: not dumpable, and no core file of any size."""
    code = (
        "import ctypes, resource\n"
        "from sidecar.app.start_guards import keep_memory_private\n"
        "asked = lambda: (ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[1])\n"
        "before = asked()\n"
        "keep_memory_private()\n"
        "print(before[0], *asked())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1", "0", "0"]
