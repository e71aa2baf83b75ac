"""Where a limit of memory is read, by either of the kernel's interfaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.app import memory
from sidecar.app.memory import memory_reader

MIB = 2**20


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose files are here."""
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(memory, "OWN", tmp_path / "own")
    return tmp_path


def written(folder: Path, **files: str) -> None:
    """Files of a control group; `_` stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


@pytest.mark.parametrize("place", ["pod/box", ""])
def test_the_second_interface_by_the_own_path_or_at_the_root(machine: Path, place: str) -> None:
    """F-34: pages of files that nobody used of late do not count: the kernel would take them back by itself."""
    (machine / "own").write_text("0::/pod/box\n")
    stat = f"anon 1\ninactive_file {20 * MIB}\n"
    written(machine / "cgroups" / place, memory_max=f"{100 * MIB}\n", memory_current=f"{70 * MIB}\n", memory_stat=stat)
    percent = memory_reader(0)
    assert percent is not None
    assert percent() == 50
    written(machine / "cgroups" / place, memory_current=f"{110 * MIB}\n")
    assert percent() == 90
    (machine / "cgroups" / place / "memory.current").unlink()
    assert percent() is None


def test_the_first_interface(machine: Path) -> None:
    """F-34: its controller stands among others."""
    (machine / "own").write_text("9:name=systemd:/\n4:cpu,memory:/pod\n0::/\n")
    folder = machine / "cgroups" / "memory" / "pod"
    written(folder, memory_limit_in_bytes=f"{200 * MIB}\n", memory_usage_in_bytes=f"{50 * MIB}\n")
    percent = memory_reader(0)
    assert percent is not None
    assert percent() == 25


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n", "0\n"])
def test_no_limit(machine: Path, limit: str) -> None:
    """Then nothing is read."""
    (machine / "own").write_text("0::/\n4:memory:/\n")
    written(machine / "cgroups", memory_max=limit, memory_current="1\n")
    written(machine / "cgroups" / "memory", memory_limit_in_bytes=limit, memory_usage_in_bytes="1\n")
    assert memory_reader(0) is None


def test_a_limit_that_was_configured_counts_this_process_alone(machine: Path) -> None:
    """It needs no control group."""
    percent = memory_reader(2**40)
    assert percent is not None
    assert percent() == 0
    percent = memory_reader(MIB)
    assert percent is not None
    assert (percent() or 0) > 100
