"""`spend ledger backup` and `spend ledger restore`: the embedded book as a file."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Final

import click

from sidecar.cli.answers import decoded, json_option
from sidecar.cli.connection import Connection, with_ledger
from sidecar.cli.failures import Failed
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.ledger.views import BackupView

_FILE: Final = click.Path(path_type=Path)

LOOK_EVERY_S: Final = 0.2


@click.command("backup")
@click.argument("file", type=_FILE)
@json_option
@with_ledger
def backup(client: LedgerClient, file: Path, as_json: bool) -> None:
    """Copy the ledger's own book to FILE, as it is at one instant, while it goes on.

    The copy is checked as `spend verify` does it before FILE appears; FILE.sha256 beside it holds its digest. What
    stands at FILE stays there until then. Run it where the ledger runs: the copy passes through its data folder.
    """
    from sidecar.app.backups import digest_file, take_backup  # noqa: PLC0415 (not for --help)
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    if file.is_dir() or not file.absolute().parent.is_dir():
        raise Failed(f"{file}: not a file in a folder that is there.", "Give a file, such as /backups/book.sqlite.")
    bar = Bar("copying", quiet=as_json)
    made = decoded(client.post("/v1/backups", {}), BackupView)
    while made.state == "making":
        bar.show(made.done_bytes, made.total_bytes)
        time.sleep(LOOK_EVERY_S)
        made = decoded(client.get(f"/v1/backups/{segment(made.name)}"), BackupView)
    if made.state != "made":
        raise Failed(f"The ledger could not copy its book: {made.problem}.", "Is there room where its data folder is?")
    staged = Path(made.path)
    if not staged.exists():
        raise Failed(
            f"The copy is not here: the ledger made it on its own machine, at {made.path}.",
            "Run this there, or fetch it; `spend verify --book` checks it.",
        )
    bar.say("checking")
    try:
        sha256, customers, entries = take_backup(staged, file)
    except ConfigurationError as error:
        raise Failed(
            "\n".join(error.problems), "`spend verify --offline` says more, once the ledger is stopped."
        ) from None
    except OSError as problem:
        raise Failed(_cannot(file, problem), "Nothing was left there; give another FILE.") from None
    staged.unlink(missing_ok=True)
    bar.end()
    size = file.stat().st_size
    if as_json:
        facts = {"file": str(file), "bytes": size, "sha256": sha256, "customers": customers, "entries": entries}
        click.echo(json.dumps(facts))
        return
    click.echo(f"{file}: {size} bytes, {customers} customers, {entries} entries, all well.")
    click.echo(
        f"Its digest is in {digest_file(file).name}. To put it in place: spend ledger restore {shlex.quote(str(file))}"
    )


@click.command("restore")
@click.argument("file", type=_FILE)
@click.option("--data", metavar="DIR", type=_FILE, help="The ledger's folder.  [$SPEND_DATA, ~/.spend]")
@click.option("--force", is_flag=True, help="Also where a book stands already; it is kept beside.")
@click.option("--reason", metavar="WHY", default="", help="Kept with the entry that tells of it.")
@json_option
def restore(file: Path, data: Path | None, *, force: bool, reason: str, as_json: bool) -> None:
    """Put the backup FILE in place of a ledger's own book, while no ledger runs there.

    It is checked first, as `spend verify` does it, and against FILE.sha256 if that is there. Until the last step the
    old book stands in its place; then it is kept beside. The book gets a new history: each sidecar notices at its
    next word, and sends again what it has kept of the last day before it borrows again. What was booked after the
    backup and is with no sidecar any more is lost, and so are grants, budgets and keys that were made since.
    """
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.backups import restore as put_back  # noqa: PLC0415
    from sidecar.app.system import RandomIds, SystemClock  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    if not reason.isprintable() or len(reason) > 512:
        raise click.UsageError("--reason is at most 512 printable characters on one line.")
    outer = click.get_current_context().find_object(Connection)
    before = outer.data if outer is not None else None
    folder = data or (Path(before) if before else default_data_folder(os.environ))
    bar = Bar("copying", quiet=as_json)
    os.umask(0o077)
    try:
        done = put_back(
            file,
            folder,
            clock=SystemClock(),
            ids=RandomIds(),
            reason=reason,
            force=force,
            progress=bar.show,
            step=bar.say,
        )
    except ConfigurationError as error:
        raise Failed(
            "\n".join(error.problems), "Nothing was changed. `spend ledger restore --help` says more."
        ) from None
    except OSError as problem:
        raise Failed(_cannot(folder, problem), "Nothing was changed; make room, and try again.") from None
    bar.end()
    if as_json:
        facts = {"sha256": done.sha256, "customers": done.customers, "entries": done.entries}
        click.echo(json.dumps({**facts, "history_id": done.history_id, "kept": done.kept}))
        return
    click.echo(
        f"{folder}: {done.customers} customers and {done.entries} entries are back, as history {done.history_id}."
    )
    if done.kept:
        click.echo(f"The book that stood there is now {done.kept}; remove it when you need it no more.")
    click.echo("Start the ledger, then every sidecar if it is not running: each sends what it has kept.")


class Bar:
    """How far a long work has come, on standard error, where a person may be looking."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = what
        self._shown = ""
        self._quiet = quiet or not sys.stderr.isatty()

    def show(self, done: int, whole: int) -> None:
        """So much of so much."""
        if whole:
            self._write(f"{self._what} {100 * done // whole}% of {-(-whole // 1_000_000)} MB")

    def say(self, what: str) -> None:
        """Another part of the work has begun."""
        self._what = what
        self._write(f"{what} …")

    def end(self) -> None:
        """It is done: the line goes away."""
        self._write("")

    def _write(self, text: str) -> None:
        if not self._quiet and text != self._shown:
            click.echo("\r" + text.ljust(len(self._shown)) + ("" if text else "\r"), nl=False, err=True)
            self._shown = text


def _cannot(place: Path, problem: OSError) -> str:
    return f"{problem.filename or place}: {problem.strerror or problem}."
