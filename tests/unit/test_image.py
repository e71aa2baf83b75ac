"""The Dockerfile keeps what it says: nothing is built here, its text is held against the code."""

from __future__ import annotations

import re
import tomllib

import pytest

from sidecar.app.settings import NOT_SETTINGS, PREFIX, load_settings
from sidecar.cli.main import COMMANDS
from tests.support.dockerfile import context, read_dockerfile
from tests.unit.source_tree import PACKAGE, ROOT

DOCKERFILE = read_dockerfile()
BUILD, IMAGE = DOCKERFILE.stages
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_it_has_two_stages_on_one_base_that_can_be_exchanged() -> None:
    """Wheels are made in the first; both have the same Python, for the first's environment moves into the second."""
    assert DOCKERFILE.arguments == {"PYTHON": "python:3.11-slim"}
    assert (BUILD.base, BUILD.name) == ("${PYTHON}", "build")
    assert (IMAGE.base, IMAGE.name) == ("${PYTHON}", "")


def test_the_last_stage_only_copies() -> None:
    """Nothing is run or fetched there, so no compiler or package manager can come in beside the base's own."""
    assert IMAGE.all("RUN") == []
    assert IMAGE.sources() == []
    assert [text.split()[0] for text in IMAGE.all("COPY")] == ["--from=build"] * 2
    assert {word for stage in DOCKERFILE.stages for word, _ in stage.instructions}.isdisjoint(
        {"ADD", "SHELL", "ONBUILD"}
    )


def test_it_is_not_root_and_says_so_in_numbers() -> None:
    """Kubernetes' `runAsNonRoot` reads the number; the state belongs to it; no instruction after it is root's."""
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", IMAGE.one("USER"))
    assert f"--chown={IMAGE.one('USER')} /state {IMAGE.one('VOLUME')}" in IMAGE.all("COPY")[1]


def test_it_starts_spend_up_without_a_shell() -> None:
    """The signal that ends a container reaches the process itself."""
    assert IMAGE.command("ENTRYPOINT") == ["spend"]
    assert set(PROJECT["project"]["scripts"]) == {"spend"}
    [command] = IMAGE.command("CMD")
    assert command in COMMANDS
    assert IMAGE.one("HEALTHCHECK") == "NONE"


def test_it_exposes_the_ports_that_it_listens_on() -> None:
    """The defaults of the settings; and the image's own variables change none of them, nor where it listens."""
    names = {name for name in IMAGE.environment() if name.startswith(PREFIX)}
    assert names <= NOT_SETTINGS
    settings = load_settings(None, {name: IMAGE.environment()[name] for name in names}, {})
    listens = [settings.sidecar.listen, settings.ledger.listen, settings.sidecar.health]
    assert IMAGE.one("EXPOSE").split() == [str(listen.port) for listen in listens]
    assert {listen.host for listen in listens} == {"127.0.0.1"}


def test_all_state_is_below_the_volume() -> None:
    """In a folder of its own, since the volume's root may belong to whoever made the volume."""
    volume, environment = IMAGE.one("VOLUME"), IMAGE.environment()
    assert environment["SPEND_DATA"].startswith(f"{volume}/")
    assert environment["SQLITE_TMPDIR"] == environment["SPEND_DATA"]


def test_it_installs_what_is_tested_and_compiles_it() -> None:
    """Pinned versions, as wheels; byte code where the image looks for it."""
    install = next(step for step in BUILD.one("RUN").split("&&") if " install " in step)
    assert "-c constraints.txt" in install
    assert "--only-binary :all:" in install
    assert "compileall" in BUILD.one("RUN")
    assert f"PYTHONPYCACHEPREFIX={IMAGE.environment()['PYTHONPYCACHEPREFIX']}" in BUILD.one("RUN")
    assert IMAGE.environment()["PYTHONDONTWRITEBYTECODE"] == "1"
    moved = IMAGE.all("COPY")[0].split()[1:]
    assert moved[0] == moved[1]
    assert IMAGE.environment()["PATH"] == f"{moved[0]}/bin:$PATH"


def test_the_build_gets_all_that_the_package_is_made_of_and_nothing_else() -> None:
    """What COPY takes is what `.dockerignore` lets in: source, configuration, licence; no tests, keys or history."""
    files = context()
    tops = {file.parts[0] for file in files}
    assert tops == set(BUILD.sources())
    packaged = PROJECT["tool"]["setuptools"]["data-files"]["share/spend-sidecar"]
    named = [PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], *packaged]
    assert {*named, "pyproject.toml", "constraints.txt"} <= set(map(str, files))
    ours = {path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert ours == {file for file in files if file.parts[0] == "sidecar"}
    assert not any(file.suffix == ".pyc" or "__pycache__" in file.parts for file in files)


@pytest.mark.parametrize("word", ["http://", "https://", "apt", "curl", "root"])
def test_it_names_nothing_from_elsewhere(word: str) -> None:
    """No address, no package manager but pip: what the base has is what there is."""
    assert not any(re.search(rf"\b{word}", text) for stage in DOCKERFILE.stages for _, text in stage.instructions)
