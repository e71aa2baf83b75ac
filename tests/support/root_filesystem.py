"""A base image out of this machine's own Python, where none can be fetched: what python:3.11-slim has that we use."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pip

PROGRAMS = ("sh", "mkdir")
WHEELS_EXPECT = (
    "libdl.so.2",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
    "libz.so.1",
)
"""Libraries of every Linux that a wheel may count on without bringing them, whether or not Python loads them itself."""

LEFT_OUT = shutil.ignore_patterns(
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "ensurepip",
    "lib2to3",
    "config-*",
    "*.a",
)


def make_root_filesystem(root: Path) -> None:
    """Write Python with pip to /usr/local, a shell, and the libraries that these need; nothing else is there."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    local = root / "usr/local"
    standard = local / "lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), standard, symlinks=True, ignore=LEFT_OUT)
    shutil.copytree(Path(pip.__file__).parent, standard / "pip", ignore=LEFT_OUT)
    (local / "bin").mkdir()
    python = Path(sys.base_prefix) / "bin" / version
    shutil.copy(python.resolve(), local / "bin" / version)
    for alias in ("python3", "python"):
        (local / "bin" / alias).symlink_to(version)
    binaries = [python.resolve(), *standard.glob("lib-dynload/*.so")]
    (root / "bin").mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None, name
        shutil.copy(Path(found).resolve(), root / "bin" / name)
        binaries.append(Path(found).resolve())
    libraries = _libraries(binaries)
    beside = next(library.parent for library in libraries if library.name == "libc.so.6")
    for library in libraries | {beside / name for name in WHEELS_EXPECT}:
        target = root / str(library)[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.resolve(), target)
    for folder, mode in (("tmp", 0o1777), ("proc", 0o555), ("dev", 0o755), ("etc", 0o755), ("root", 0o755)):
        (root / folder).mkdir(exist_ok=True)
        (root / folder).chmod(mode)


def _libraries(binaries: list[Path]) -> set[Path]:
    """The shared libraries that some binaries load, where the loader found them."""
    listed = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=True).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", listed, re.MULTILINE)}
