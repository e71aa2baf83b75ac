"""When it does not work: plain words that say what to type next, and an exit code for scripts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sidecar import errors
from sidecar.cli.connection import Connection, open_client
from sidecar.cli.failures import Failed, NotReachable
from tests.unit.cli.conftest import TOKEN, Shell


def test_what_does_not_exist(acme: Shell) -> None:
    """Exit 1, named, with the command that makes it."""
    text = acme.run("balance", "globex", code=1).stderr
    assert "'globex'" in text
    assert "spend customers add" in text
    text = acme.run("explain", "req_none", code=1).stderr
    assert "req_none" in text
    assert "Spend-Request-Id" in text


def test_what_the_ledger_refuses(acme: Shell) -> None:
    """Exit 1, the ledger's own words, and its code for those who look it up."""
    text = acme.run("budgets", "set", "acme", "--limit", "1,000", "--per", "day", code=1).stderr
    assert "invalid_amount" in text
    assert "expected a plain decimal" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("budgets", "set", "acme", "--limit", "1", "--per", "fortnight"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "day", "--match", "agent"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "day", "--match", "agent=a,agent=b"),
        ("budgets", "set", "acme", "--per", "day"),
        ("grants", "add", "acme", "1", "--expires", "tomorrow"),
        ("grants", "add", "acme", "1", "--expires", "1mo"),
        ("grants", "add", "acme", "1", "--expires", "2026-02-30"),
        ("customers", "add", "acme", "--wallet", "some"),
        ("usage", "--since", "-5d"),
        ("usage", "--data", "x", "--ledger", "http://127.0.0.1:1"),
        ("usage", "--ledger", "http://127.0.0.1:1"),
        ("usage", "--ledger", "ftp://127.0.0.1", "--token", "t"),
        ("usage", "--ledger", "http://127.0.0.1:1", "--token", "a b"),
        ("nonsense",),
    ],
)
def test_a_mistake_in_the_command(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Exit 2, and nothing is sent."""
    shell.run(*arguments, code=2)
    assert shell.administration.acts == []


def test_no_ledger_there(shell: Shell, tmp_path: Path) -> None:
    """Exit 3: never started, or not listening any more."""
    text = shell.run("usage", "--data", str(tmp_path / "none"), code=3).stderr
    assert "spend up --data" in text
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "does not answer" in shell.run("usage", "--ledger", nobody, "--token", "t", code=3).stderr


def test_a_ledger_that_cannot_now(acme: Shell) -> None:
    """Exit 3: a script may try again."""
    acme.administration.failure = errors.LedgerUnavailable("the disk is slow")
    assert "the disk is slow" in acme.run("balance", "acme", code=3).stderr


def test_a_wrong_token(shell: Shell) -> None:
    """Exit 1, and the token is not shown."""
    text = shell.run("usage", "--ledger", shell.address, "--token", "canary", code=1).stderr
    assert "does not take this token" in text
    assert "canary" not in text


def test_something_else_listens_there(shell: Shell, tmp_path: Path) -> None:
    """An admin.json that is none is said to be none, without quoting it; exit 1."""
    (tmp_path / "admin.json").write_text('["canary"]')
    text = shell.run("usage", code=1).stderr
    assert "not what `spend up` writes" in text
    assert "canary" not in text


def test_where_the_ledger_is_said(shell: Shell, tmp_path: Path) -> None:
    """After the command, before it, or by the environment."""
    data = ["--data", str(shell.data)]
    for arguments in (["customers", "list", *data], [*data, "customers", "list"]):
        shell.run(*arguments, SPEND_DATA=str(tmp_path / "none"))
    ledger = ["--ledger", shell.address]
    shell.run("customers", "list", *ledger, SPEND_TOKEN=TOKEN)
    shell.run(*ledger, "customers", "list", "--token", TOKEN)
    shell.run("customers", "list", SPEND_LEDGER_URL=shell.address, SPEND_TOKEN=TOKEN, SPEND_DATA="")


def test_a_token_goes_only_where_it_was_meant() -> None:
    """One that stands beside a ledger's name is not sent to another that is named nearer to the command."""
    outer = Connection(None, "http://a", "token-of-a")
    assert Connection(None, "http://b", None).nearer(outer) == Connection(None, "http://b", None)
    assert Connection(None, None, None).nearer(outer) == outer
    assert Connection(None, "http://b", None).nearer(Connection(None, None, "t")).token == "t"


def test_without_a_home(tmp_path: Path) -> None:
    """No folder is guessed."""
    with pytest.raises(Failed, match="--data"):
        open_client(Connection(None, None, None), {})
    with pytest.raises(NotReachable, match=r"\.spend"):
        open_client(Connection(None, None, None), {"HOME": str(tmp_path)})
    with pytest.raises(click.UsageError, match="SPEND_TOKEN"):
        open_client(Connection(None, "http://127.0.0.1:1", None), {})


def test_the_help_imports_nothing_heavy() -> None:
    """What costs time to import is not imported to print the list of commands."""
    code = (
        "import sys; from sidecar.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'aiohttp', 'msgspec', 'asyncio', 'uvloop', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_up_says_what_is_wrong_with_its_settings(shell: Shell, tmp_path: Path) -> None:
    """A file that is not there is named, exit 1, and nothing is started."""
    missing = tmp_path / "missing.yaml"
    assert "missing.yaml" in shell.run("up", "--data", str(tmp_path / "d"), "--config", str(missing), code=1).stderr
    shell.run("up", "--port", "70000", code=2)
