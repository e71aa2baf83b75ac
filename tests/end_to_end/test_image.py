"""The image, built and run: as another user, on a root that cannot be written, from byte code made beforehand.

No base image is fetched: it is made of this machine's own Python. Where images cannot be built at
all, the steps of the Dockerfile are still run without one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.dockerfile import context, read_dockerfile
from tests.support.root_filesystem import make_root_filesystem
from tests.unit.source_tree import ROOT

BUILD, IMAGE = read_dockerfile().stages
UID = int(IMAGE.one("USER").split(":")[0])
START_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 240.0
FREE_PORTS = ("--port", "0", "--health-port", "0", "--ledger-port", "0")
ASK = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


def run(*command: str | Path, cwd: Path | str | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command to its end; what it printed. One that fails says why."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels() -> Iterator[Path]:
    """All that a build installs, in a folder: then the build itself asks nobody."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = project["project"]
    needed = [*ours["dependencies"], *ours["optional-dependencies"]["postgres"], *project["build-system"]["requires"]]
    with tempfile.TemporaryDirectory(prefix="spend-wheels-") as folder:
        pip = (sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary", ":all:")
        run(*pip, "-d", folder, "-c", ROOT / "constraints.txt", *needed)
        Path(folder).chmod(0o755)
        yield Path(folder)


def copy_context(target: Path) -> None:
    """What a build would be sent."""
    for file in context():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target / file)


@dataclass(frozen=True)
class Box:
    """An installed image: how to run a command in it, and where its volume stands outside of it."""

    prefix: Sequence[str | Path]
    environment: dict[str, str]
    volume: Path

    def run(self, *command: str) -> str:
        """Run a command in it to its end."""
        return run(*self.prefix, *command, env=self.environment, cwd="/")

    def try_out(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it that may fail."""
        everything: list[str | Path] = [*self.prefix, *command]
        return subprocess.run(
            everything, env=self.environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )

    @contextmanager
    def started(self) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
        """The image's own command, with free ports; and what its `admin.json` says."""
        admin = self.volume / "data/admin.json"
        admin.unlink(missing_ok=True)
        command = [*self.prefix, *IMAGE.command("ENTRYPOINT"), *IMAGE.command("CMD"), *FREE_PORTS]
        with (self.volume.parent / "log").open("w+b") as log:
            process = subprocess.Popen(command, env=self.environment, cwd="/", stdout=log, stderr=log)
            try:
                until = time.monotonic() + START_TIMEOUT_S
                while not admin.exists() and process.poll() is None and time.monotonic() < until:
                    time.sleep(0.02)
                log.seek(0)
                assert admin.exists(), log.read().decode()
                yield process, json.loads(admin.read_text())
            finally:
                process.kill()
                process.wait()


def it_serves_and_ends(box: Box) -> None:
    """It is another user; serves its ports; is refused every write outside of its volume; and ends politely."""
    with box.started() as (process, facts):
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{UID if os.getuid() == 0 else os.getuid()}\t" in status
        box.run("spend", "customers", "add", "acme")
        headers = {"Spend-Customer": "acme"}
        denied = httpx.post(f"{facts['proxy']}/v1/chat/completions", json=ASK, headers=headers)
        assert (denied.status_code, denied.json()["error"]["code"]) == (402, "credit_balance_exhausted")
        box.run("spend", "grants", "add", "acme", "1")
        curl = ["curl", "-sS", "--fail", "--max-time", "20", "-H", "Spend-Customer: acme"]
        curl += ["-H", "Content-Type: application/json", "-d", json.dumps(ASK)]
        assert json.loads(run(*curl, f"{facts['proxy']}/v1/chat/completions"))["usage"]["completion_tokens"] > 0
        for path in ("/livez", "/readyz", "/metrics"):
            assert httpx.get(f"{facts['health']}{path}").status_code == 200
        process.terminate()
        assert process.wait(30) == 0
    with box.started() as (process, facts):  # a further start, on what the first one left
        rows = box.run("spend", "usage", "--json").splitlines()
        assert [json.loads(row)["state"] for row in rows] == ["final"]
        process.terminate()
        assert process.wait(30) == 0
    assert {path.name for path in box.volume.iterdir()} == {"data"}


def nothing_is_compiled(box: Box) -> None:
    """Every module that a start loads comes from byte code."""
    done = box.try_out("python", "-v", "-c", "import sidecar.app.up, sidecar.cli.main, prometheus_client")
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stderr.splitlines() if line.startswith("# code object from")]
    assert len(loaded) > 100
    assert [line for line in loaded if not line.endswith(".pyc'")] == []


def nothing_is_written(box: Box, why: str, *places: str | Path) -> None:
    """Its user cannot make a file in any of these places."""
    for place in places:
        done = box.try_out("python", "-c", f"open({str(place)!r}, 'w')")
        assert why in done.stderr, f"{place} was written"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder without the right to write, until the block ends: then it can be removed again."""
    run("chmod", "-R", "a-w", folder)
    try:
        yield
    finally:
        run("chmod", "-R", "u+w", folder)


def test_the_steps_without_a_container(wheels: Path, tmp_path: Path) -> None:
    """The Dockerfile's own RUN in folders of ours; what it made runs as another user, who can write only the state."""
    source, made, wheel, state = (tmp_path / name for name in ("src", "spend", "wheel", "state"))
    copy_context(source)
    steps = (
        BUILD.one("RUN").replace("/opt/spend", str(made)).replace("/wheel", str(wheel)).replace("/state", str(state))
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PATH": path, "HOME": str(tmp_path)}
    run("sh", "-ec", steps, cwd=source, env=offline)
    own = {name: value.replace("/opt/spend", str(made)) for name, value in IMAGE.environment().items()}
    volume = IMAGE.one("VOLUME")
    own = {name: value.replace(volume, str(state)).replace("$PATH", path) for name, value in own.items()}
    prefix: list[str] = []
    if os.getuid() == 0:
        # Another user, with no right of root's but to read what is below root's own folders.
        state.chmod(0o770)
        os.chown(state, 0, UID)
        reads = "-all,+dac_read_search"
        prefix = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", f"--inh-caps={reads}"]
        prefix += [f"--ambient-caps={reads}", f"--bounding-set={reads}", "--no-new-privs", "--"]
    box = Box(prefix, own, state)
    tag, bytecode = sys.implementation.cache_tag, own["PYTHONPYCACHEPREFIX"]
    sources = list((made / "lib").rglob("*.py"))
    assert len(sources) > 100
    assert [s for s in sources if not Path(f"{bytecode}{s.parent}/{s.stem}.{tag}.pyc").exists()] == []
    with read_only(made):
        nothing_is_compiled(box)
        nothing_is_written(box, "Permission denied", made / "lib/new", made / "new")
        it_serves_and_ends(box)


class Builder:
    """buildah with a store of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._options = ("--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs")

    def __call__(self, *arguments: str | Path) -> str:
        return run("buildah", *self._options, *arguments).strip()


@pytest.fixture
def buildah() -> Iterator[Builder]:
    """A builder, gone with all its images when the test is."""
    with tempfile.TemporaryDirectory(prefix="spend-images-") as folder:
        yield Builder(Path(folder))


def obstacle() -> str | None:
    """What is missing to build and run an image here."""
    if os.getuid() != 0:
        return "building and running an image needs root here"
    missing = [name for name in ("buildah", "unshare", "chroot", "ldd") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mounts may be made here: {tried.stderr.strip()}" if tried.returncode else None


# The root is the image and cannot be written; the volume, and the kernel's own folders, are laid over it.
CONTAINER = """
mount --bind "$1" "$1"; mount --bind "$2" "$1$3"; mount --bind /proc "$1/proc"; mount --bind /dev "$1/dev"
mount -o remount,bind,ro "$1"
root=$1; shift 3; exec "$@"
"""


@pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))
def test_the_image(wheels: Path, buildah: Builder, tmp_path: Path) -> None:
    """Built from the Dockerfile as it stands; run with its own user, command, variables and a read-only root."""
    root = buildah.folder / "base"
    make_root_filesystem(root)
    base = buildah("from", "scratch")
    buildah("copy", "-q", base, root, "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/bin", base)
    buildah("config", "--env", "PIP_NO_INDEX=1", "--env", "PIP_FIND_LINKS=/wheels", base)
    buildah("commit", "-q", "--rm", base, "localhost/python")
    source = tmp_path / "src"
    source.mkdir()
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, source)
    copy_context(source)
    (source / ".env").write_text("OPENAI_API_KEY=sk-not-to-be-copied")
    (source / "sidecar/__pycache__").mkdir()
    build = ("build", "-q", "--isolation", "chroot", "--pull-never", "--build-arg", "PYTHON=localhost/python")
    buildah(*build, "--volume", f"{wheels}:/wheels:ro", "-t", "localhost/spend", source)
    made = buildah("from", "localhost/spend")
    config = json.loads(buildah("inspect", made))["OCIv1"]["config"]
    assert config["User"] == IMAGE.one("USER")
    assert (config["Entrypoint"], config["Cmd"]) == (IMAGE.command("ENTRYPOINT"), IMAGE.command("CMD"))
    assert {port.removesuffix("/tcp") for port in config["ExposedPorts"]} == set(IMAGE.one("EXPOSE").split())
    mounted = Path(buildah("mount", made))
    assert not any((mounted / folder).exists() for folder in ("src", "wheel", "state"))
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2770)  # as Kubernetes makes one for a pod with an fsGroup: root's, writable for the group
    os.chown(volume, 0, UID)
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    chroot = (str(shutil.which("chroot")), f"--userspec={config['User']}", "--groups=", mounted)
    prefix = ("/usr/bin/unshare", "--mount", "/bin/sh", "-ec", CONTAINER, "sh", mounted, volume, IMAGE.one("VOLUME"))
    box = Box((*prefix, *chroot), environment | {"PATH": f"{environment['PATH']}:/usr/bin"}, volume)
    nothing_is_compiled(box)
    nothing_is_written(box, "Read-only file system", "/opt/spend/lib/new", "/tmp/new", "/new")
    it_serves_and_ends(box)
