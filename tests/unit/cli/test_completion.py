"""`spend completion`: a real shell asked what could stand next."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.cli.budgets import PERIODS
from sidecar.cli.completion import HOW
from sidecar.cli.main import COMMANDS
from tests.unit.cli.conftest import Shell

BASH = shutil.which("bash")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with a `spend` of this source."""
    script = tmp_path / "spend"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar.cli.main "$@"\n')
    script.chmod(0o755)
    return tmp_path


def completed(bin_folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words, by the function that the script registers for `spend`."""
    if BASH is None:
        pytest.skip("there is no bash here")
    code = (
        'eval "$(spend completion bash)"\n'
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        "function=$(complete -p spend | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        '$function spend "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [BASH, "--norc", "--noprofile", "-c", code, "bash", "spend", *words],
        env={"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_and_options(bin_folder: Path) -> None:
    """Commands, commands of commands, options, and the words that an option takes."""
    assert completed(bin_folder, "") == list(COMMANDS)
    assert completed(bin_folder, "us") == ["usage"]
    assert completed(bin_folder, "budgets", "") == ["list", "remove", "set"]
    assert completed(bin_folder, "usage", "--b") == ["--by", "--bars"]
    assert {"--json", "--data", "--since", "--customer"} <= set(completed(bin_folder, "usage", "--"))
    assert completed(bin_folder, "usage", "--by", "d") == ["day", "department"]
    assert completed(bin_folder, "budgets", "set", "acme", "--per", "") == [*PERIODS]
    kinds = ["grant_issued", "grant_expired", "grant_voided"]
    assert completed(bin_folder, "journal", "acme", "--kind", "grant") == kinds
    assert completed(bin_folder, "completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell_name", HOW)
def test_each_script_says_where_it_goes(shell: Shell, shell_name: str) -> None:
    """And is one that its shell reads, where it is there."""
    text = shell.run("completion", shell_name).stdout
    assert HOW[shell_name] in text.splitlines()[0]
    assert "_SPEND_COMPLETE" in text
    program = shutil.which(shell_name)
    if program is not None:
        subprocess.run([program, "-n"], input=text, text=True, timeout=30, check=True)


def test_another_shell(shell: Shell) -> None:
    """Exit 2, and those that there are."""
    assert "bash, zsh, fish" in shell.run("completion", "tcsh", code=2).stderr
