"""Fuzz the parsers: `python -m tests.fuzzing.run [--seconds 60] [--only NAME]…`.

Each target runs in a process of its own, for so many seconds. The exit code is 1 where one of them found something, and
2 where atheris is not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".fuzz"
MEMORY_MB = 1024
CASE_BYTES_MAX = 16 * 1024
CASE_SECONDS_MAX = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all targets, or some; or, started by this very function, one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", action="append", default=[], help="a target; may be repeated")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        print("atheris is not installed: `make fuzz` installs it where there is a wheel of it", file=sys.stderr)
        return 2
    if asked.one:
        _fuzz(asked.one, asked.seconds)
    names = asked.only or _names()
    found = [name for name in names if not _run(name, asked.seconds)]
    if found:
        print(f"== found something: {', '.join(found)}; see {FOLDER}/NAME.crash-*")
    return 1 if found else 0


def _names() -> list[str]:
    return list(importlib.import_module("tests.fuzzing.targets").TARGETS)


def _run(name: str, seconds: int) -> bool:
    """Whether a target held for so long; its last lines are shown."""
    command = [sys.executable, "-m", "tests.fuzzing.run", "--one", name, "--seconds", str(seconds)]
    print(f"== {name}, {seconds} s", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = done.stderr.splitlines() + done.stdout.splitlines()
    held = done.returncode == 0
    wanted = lines if not held else [line for line in lines if line.startswith("Done ")]
    print("\n".join(wanted[-60:]), flush=True)
    return held


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["sidecar.providers", "sidecar.contract", "sidecar.outbox", "sidecar.proxy",
                                             "sidecar.catalog"]):  # fmt: skip
        targets = importlib.import_module("tests.fuzzing.targets").TARGETS
    target = targets[name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:32]).write_bytes(seed[:CASE_BYTES_MAX])
    options = [
        f"-max_total_time={seconds}", f"-max_len={CASE_BYTES_MAX}", f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={CASE_SECONDS_MAX}", f"-artifact_prefix={FOLDER}/{name}.", "-print_final_stats=0", "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
