"""When it does not work: plain words that say what to type next, and an exit code for scripts."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sidecar import errors
from sidecar.app.data_folder import BOOK, NAME_FILE
from sidecar.cli.connection import Connection, open_client
from sidecar.cli.failures import Failed, NotReachable
from sidecar.cli.journal import KINDS
from sidecar.cli.ledger_client import _MISSING
from sidecar.ledger.history import FENCED, RESTORED
from sidecar.storage.sqlite import open_book
from tests.unit.cli.conftest import TOKEN, Shell
from tests.unit.source_tree import modules


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
        ("budgets", "set", "acme", "--limit", "1", "--per", "day", "--week-start", "sunday"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "day", "--length", "5h"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "window"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "window", "--length", "five hours"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "week", "--anchor", "2026-01-31"),
        ("budgets", "set", "acme", "--limit", "1", "--per", "month", "--anchor", "2026-02-30"),
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


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (("usgae",), "Did you mean usage?"),
        (("Doctor",), "Did you mean doctor?"),
        (("customers", "lst"), "list"),
        (("budgets", "set", "acme", "--limit", "1", "--per", "week", "--week-start", "sun"), "Did you mean sunday?"),
        (("budgets", "set", "acme", "--limit", "1", "--per", "week", "--anchor", "2026-01-31"), "--week-start"),
        (("usage", "--custmer", "acme"), "--customer"),
        (("budgets", "set", "acme", "--limit", "1", "--per", "dya"), "Did you mean day?"),
        (("budgets", "set", "acme", "--limit", "1", "--per", "day", "--each", "sesion"), "Did you mean session?"),
        (("budgets", "set", "acme", "--limit", "1", "--per", "day", "--match", "modle=x"), "Did you mean model?"),
        (("grants", "add", "acme", "1", "--category", "promo"), "paid, promotional"),
        (("customers", "add", "acme", "--wallet", "non"), "Did you mean none?"),
        (("journal", "acme", "--kind", "usgae"), "Did you mean usage?"),
        (("completion", "bsh"), "Did you mean bash?"),
        (("simulate", "x", "--protocol", "opneai"), "Did you mean openai?"),
        (("up", "--port", "banana"), "is not a valid number"),
        (("limits", "set", "acme", "--requests", "many"), "is not a valid number"),
    ],
)
def test_a_mistyped_word(shell: Shell, arguments: tuple[str, ...], guess: str) -> None:
    """Exit 2, with the word that was probably meant, and nothing is sent."""
    text = shell.run(*arguments, code=2).stderr
    assert guess in text
    assert "--help" in text
    assert shell.administration.acts == []


def test_every_kind_of_entry_can_be_asked_for() -> None:
    """The command's list is what the ledger posts, kind by kind."""
    posted: set[str] = {"usage", RESTORED, FENCED}  # these under a name
    for module in modules():
        if module.name.startswith("ledger."):
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "post":
                    posted |= {
                        a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)
                    }
    assert posted == set(KINDS)


def test_no_error_leaves_anybody_stuck() -> None:
    """Every `Failed` and `NotReachable` in the source is made of two things: what is wrong, and what to do next."""
    made = [
        (module.where(node), len(node.args))
        for module in modules()
        if module.name.startswith("cli.")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Failed", "NotReachable")
    ]
    assert len(made) > 12
    assert [where for where, arguments in made if arguments != 2] == []


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (errors.Rejected("invalid_amount", {"limit": "a plain decimal"}), "12.50"),
        (errors.Rejected("invalid_path", {"path": "a path"}), "spend nodes list"),
        (errors.Rejected("invalid_field", {"per": "one of"}), "budgets set --help"),
        (errors.Rejected("too_many_budgets", {"path": "at most 9"}), "spend budgets list"),
        (errors.Rejected("allocation_exceeded", {"limit": "at most 9"}), "spend budgets list"),
        (errors.Rejected("above_limit", {"limit": "at most 9"}), "spend budgets list"),
        (errors.Rejected("too_many_grants", {"customer": "at most 9"}), "spend grants list"),
        (errors.Conflict("exists otherwise"), "spend customers list"),
        (errors.NotFound("customer", "acme"), "spend customers add"),
        (errors.NotFound("node", "acme/team:x"), "spend nodes add"),
        (errors.NotFound("thing", "x"), "spend --version"),
        (RuntimeError("a mistake of ours"), "spend doctor"),
    ],
)
def test_each_refusal_says_what_to_type_next(acme: Shell, failure: Exception, words: str) -> None:
    """Whatever the ledger's reason is; and the last line is the one to follow."""
    acme.administration.failure = failure
    text = acme.run("budgets", "set", "acme", "--limit", "1", "--per", "day", code=1).stderr
    assert words in text.splitlines()[-1]
    assert "a mistake of ours" not in text


def test_whatever_does_not_exist_is_told_where_to_look() -> None:
    """Each kind of thing that the ledger says it lacks has a command that shows what there is, or makes it."""
    made = [
        node.args[0]
        for module in modules()
        if module.name.startswith("ledger.")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("NotFound") and len(node.args) > 1
    ]
    kinds = {kind.value for kind in made if isinstance(kind, ast.Constant)}
    assert {"customer", "key", "rate limit"} <= kinds
    assert kinds <= set(_MISSING)


def test_a_folder_that_is_in_use(shell: Shell, tmp_path: Path) -> None:
    """A second start says that there is a first, where to read of it, and what to give instead."""
    folder = tmp_path / "twice"
    folder.mkdir()
    book = open_book(folder / BOOK)
    for command in (("up",), ("ledger", "serve")):
        ports = [part for flag in ("--health-port", "--ledger-port") for part in (flag, "0")]
        text = shell.run(*command, "--data", str(folder), *ports, code=1).stderr
        assert "another process has this book open" in text
        assert "admin.json" in text.splitlines()[-1]
        assert "--data" in text.splitlines()[-1]
    book.close()


def test_a_sidecars_folder_is_not_a_ledgers(shell: Shell, tmp_path: Path) -> None:
    """Where `spend sidecar` keeps its outbox there is no ledger to start: the other one is to be named."""
    folder = tmp_path / "sidecar"
    folder.mkdir()
    (folder / NAME_FILE).write_text("sidecar_" + "0" * 26)
    text = shell.run("usage", "--data", str(folder), code=3).stderr
    assert "spend up" not in text
    assert "SPEND_LEDGER_URL" in text
    looked = shell.run("doctor", "--json", "--data", str(folder), code=1).stdout.splitlines()
    (finding,) = [one for one in map(json.loads, looked) if one["check"] == "ledger"]
    assert "SPEND_LEDGER_URL" in finding["next"]


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_a_sentence() -> None:
    """An answer that cannot be written is no traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sidecar.cli.main", "--help"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "Error: the answer cannot be written: No space left on device.\n"
