"""Files, descriptors, clocks and this shell: each thing that can be wrong is found, and said how to mend."""

from __future__ import annotations

import fcntl
import os
import resource
import shlex
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from sidecar.app.settings import Settings
from sidecar.cli.checks import machine
from sidecar.cli.checks.finding import Finding, Setup, State, problem
from sidecar.cli.connection import Place

PROXY = "http://127.0.0.1:8402"


def setup_on(data: Path | None, **environ: str) -> Setup:
    """A set-up with the product's own settings."""
    place = None if data is None else Place("http://127.0.0.1:8403", "t", data, PROXY, "http://127.0.0.1:9402")
    return Setup(Settings(), Path("catalog.yaml"), None, data, place, environ)


def test_a_finding_says_what_to_do() -> None:
    """What is wrong cannot be told without it."""
    with pytest.raises(ValueError, match="nothing is said"):
        problem("disk", "full", "")


def test_a_private_folder(tmp_path: Path) -> None:
    """0700 and 0600 throughout is well; anything open to others is named, and what is typed mends it."""
    data = tmp_path / "da ta"
    (data / "outbox").mkdir(parents=True)
    secret = data / "outbox" / "00000001.seg"
    secret.touch()
    for path, mode in ((data, 0o700), (data / "outbox", 0o700), (secret, 0o600)):
        path.chmod(mode)
    assert machine.folder(data).state is State.OK
    for path, mode in ((secret, 0o640), (data / "outbox", 0o755), (data, 0o750)):
        path.chmod(mode)
        found = machine.folder(data)
        assert found.state is State.PROBLEM
        assert str(path) in found.what
        subprocess.run(shlex.split(found.then), check=True)
        assert machine.folder(data).state is State.OK
    assert "spend up" in machine.folder(tmp_path / "none").then
    assert machine.folder(secret).state is State.PROBLEM


@pytest.mark.parametrize(
    ("free", "state"), [(2**40, State.OK), (100 * 2**20, State.WARNING), (2**20, State.PROBLEM), (0, State.PROBLEM)]
)
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    """Room for what the outbox may still grow by; what it has taken already is not asked for again."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 0, free))
    assert machine.disk(tmp_path, 256 * 2**20).state is state
    if state is State.WARNING:
        (tmp_path / "outbox").mkdir()
        with (tmp_path / "outbox" / "00000001.seg").open("wb") as segment:
            segment.truncate(200 * 2**20)
        assert machine.disk(tmp_path, 256 * 2**20).state is State.OK


@pytest.mark.parametrize(
    ("limit", "state"), [(-1, State.OK), (24_576, State.OK), (24_575, State.WARNING), (64, State.PROBLEM)]
)
def test_open_files(monkeypatch: pytest.MonkeyPatch, limit: int, state: State) -> None:
    """Two for each connection, and some: of this shell where no process is known."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    found = machine.open_files(setup_on(None))
    assert found.state is state
    assert "of this shell" in found.what
    assert state is State.OK or "ulimit -n 24576" in found.then


def test_the_limit_of_the_running_process(tmp_path: Path) -> None:
    """It is that of whoever has the outbox locked; nobody, where nobody has."""
    (tmp_path / "outbox").mkdir()
    with (tmp_path / "outbox" / "lock").open("w") as lock:
        assert machine.running_limit(tmp_path) is None
        fcntl.flock(lock, fcntl.LOCK_EX)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert machine.running_limit(tmp_path) == soft
    assert machine.running_limit(tmp_path / "none") is None


def test_clocks() -> None:
    """Together they go on; a jump of one of them is seen."""
    assert machine.clocks([(1.0, 100.0), (1.05, 100.05)]).state is State.OK
    assert machine.clocks([(1.0, 100.0), (1.05, 103.0)]).state is State.WARNING
    assert "-2.0 s" in machine.clocks([(1.0, 100.0), (1.05, 98.0)]).what
    assert machine.clocks([(1.0, 100.0), (1.0, 100.05)]).state is State.PROBLEM


@pytest.mark.parametrize(
    ("name", "value", "state", "words"),
    [
        ("OPENAI_BASE_URL", f"{PROXY}/v1", State.OK, "points at"),
        ("OPENAI_BASE_URL", "http://localhost:8402/v1/", State.OK, "points at"),
        ("OPENAI_BASE_URL", None, State.WARNING, "not set"),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1", State.WARNING, "go past it"),
        ("OPENAI_BASE_URL", "http://localhost:8403/v1", State.WARNING, "go past it"),
        ("OPENAI_BASE_URL", "https://localhost:8402/v1", State.WARNING, "go past it"),
        ("OPENAI_BASE_URL", f"{PROXY}/v1/v1", State.PROBLEM, "twice"),
        ("OPENAI_BASE_URL", PROXY, State.PROBLEM, "lacks /v1"),
        ("OPENAI_BASE_URL", f"{PROXY}/api", State.PROBLEM, "/api"),
        ("OPENAI_BASE_URL", "http://localhost:port", State.PROBLEM, "no address"),
        ("ANTHROPIC_BASE_URL", PROXY, State.OK, "points at"),
        ("ANTHROPIC_BASE_URL", f"{PROXY}/v1", State.PROBLEM, "twice"),
    ],
)
def test_where_this_shell_sends_calls(name: str, value: str | None, state: State, words: str) -> None:
    """And the line that mends it is one that this very check calls well."""
    path = "/v1" if name == "OPENAI_BASE_URL" else ""
    found = machine.base_url(name, value, PROXY, path)
    assert (found.state, words in found.what) == (state, True), found
    if found.then:
        mended = found.then.removeprefix(f"export {name}=")
        assert machine.base_url(name, mended, PROXY, path).state is State.OK


def test_all_of_it(tmp_path: Path) -> None:
    """Every check is made, also where there is no folder."""
    tmp_path.chmod(0o700)
    checks = {found.check for found in machine.machine(setup_on(tmp_path, OPENAI_BASE_URL=f"{PROXY}/v1"))}
    assert checks == {"folder", "disk", "files", "clocks", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"}
    without: list[Finding] = list(machine.machine(setup_on(None)))
    assert {found.check for found in without} == checks - {"folder", "disk"}
    assert os.geteuid() == tmp_path.stat().st_uid
