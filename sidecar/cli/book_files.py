"""`spend ledger backup` and `spend ledger restore`: a book as a file."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from sidecar.cli.answers import decoded, json_option
from sidecar.cli.connection import Connection, connection_options, open_client, said_here
from sidecar.cli.failures import Failed
from sidecar.cli.ledger_client import segment
from sidecar.cli.shared_book import config_option, shared_book
from sidecar.ledger.views import BackupView

_FILE: Final = click.Path(path_type=Path)

LOOK_EVERY_S: Final = 0.2


@click.command("backup")
@click.argument("file", type=_FILE)
@json_option
@config_option
@connection_options
def backup(
    file: Path, *, as_json: bool, config: Path | None, data: str | None, ledger: str | None, token: str | None
) -> None:
    """Copy the ledger's own book to FILE, as it is at one instant, while it goes on.

    The copy is checked as `spend verify` does it before FILE appears; FILE.sha256 beside it holds its digest. What
    stands at FILE stays there until then. Run it where the ledger runs: the copy passes through its data folder.

    A book in PostgreSQL (ledger.database.url) is read from there, without a ledger, into the same kind of file.
    """
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.backups import digest_file  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    if file.is_dir() or not file.absolute().parent.is_dir():
        raise Failed(f"{file}: not a file in a folder that is there.", "Give a file, such as /backups/book.sqlite.")
    said = said_here(data, ledger, token)
    folder = Path(said.data) if said.data else default_data_folder(os.environ)
    url = "" if said.ledger or os.environ.get("SPEND_LEDGER_URL") else shared_book(config, folder)
    bar = Bar("copying", quiet=as_json)
    try:
        sha256, customers, entries = _of_database(url, file, bar) if url else _of_ledger(said, file, bar)
    except ConfigurationError as error:
        raise Failed(
            "\n".join(error.problems),
            "`spend verify --offline` says more" + ("." if url else ", once the ledger is stopped."),
        ) from None
    except OSError as problem:
        raise Failed(_cannot(file, problem), "Nothing was left there; give another FILE.") from None
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


def _of_database(url: str, file: Path, bar: Bar) -> tuple[str, int, int]:
    from sidecar.app.shared_backups import take_shared_backup  # noqa: PLC0415 (an extra, and not for --help)

    os.umask(0o077)
    return take_shared_backup(url, file, bar.show_rows)


def _of_ledger(said: Connection, file: Path, bar: Bar) -> tuple[str, int, int]:
    from sidecar.app.backups import take_backup  # noqa: PLC0415 (not for --help)

    client = open_client(said, os.environ)
    try:
        made = decoded(client.post("/v1/backups", {}), BackupView)
        while made.state == "making":
            bar.show(made.done_bytes, made.total_bytes)
            time.sleep(LOOK_EVERY_S)
            made = decoded(client.get(f"/v1/backups/{segment(made.name)}"), BackupView)
    finally:
        client.close()
    if made.state != "made":
        raise Failed(f"The ledger could not copy its book: {made.problem}.", "Is there room where its data folder is?")
    staged = Path(made.path)
    if not staged.exists():
        raise Failed(
            f"The copy is not here: the ledger made it on its own machine, at {made.path}.",
            "Run this there, or fetch it; `spend verify --book` checks it.",
        )
    bar.say("checking")
    done = take_backup(staged, file)
    staged.unlink(missing_ok=True)
    return done


@click.command("restore")
@click.argument("file", type=_FILE)
@click.option("--data", metavar="DIR", type=_FILE, help="The ledger's folder.  [$SPEND_DATA, ~/.spend]")
@click.option("--force", is_flag=True, help="Also where a book stands already; it is kept beside.")
@click.option("--keep-keys", is_flag=True, help="Keys and tokens are good again as they were at the backup.")
@click.option("--reason", metavar="WHY", default="", help="Kept with the entry that tells of it.")
@json_option
@config_option
def restore(
    file: Path,
    *,
    data: Path | None,
    force: bool,
    keep_keys: bool,
    reason: str,
    as_json: bool,
    config: Path | None,
) -> None:
    """Put the backup FILE in place of a ledger's own book, while no ledger runs there.

    It is checked first, as `spend verify` does it, and against FILE.sha256 if that is there. Until the last step the
    old book stands in its place; then it is kept beside. The book gets a new history: each sidecar notices at its
    next word, and sends again what it has kept of the last day before it borrows again. What was booked after the
    backup and is with no sidecar any more is lost, and so are grants, budgets and keys that were made since.

    Virtual keys and tokens stay good where the old book has them as good, too. Where there is none that can be read
    nobody knows which were revoked since, and all of them end: make new ones, or --keep-keys, and revoke again
    what was revoked since. The administrator's own token is in its file and stays.

    Where settings or environment name a database (ledger.database.url) and DIR has no book of its own, the backup is
    put there, and no ledger may run on it: all of it, or nothing. There must be no customer there yet; make an empty
    database, and point the ledgers to it.
    """
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.backups import Restoring  # noqa: PLC0415
    from sidecar.app.backups import restore as put_back  # noqa: PLC0415
    from sidecar.app.system import RandomIds, SystemClock  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415
    from sidecar.ledger.forms import MAX_REASON  # noqa: PLC0415

    if not reason.isprintable() or len(reason) > MAX_REASON:
        raise click.UsageError(f"--reason is at most {MAX_REASON} printable characters on one line.")
    outer = click.get_current_context().find_object(Connection)
    before = outer.data if outer is not None else None
    folder = data or (Path(before) if before else default_data_folder(os.environ))
    url = shared_book(config, folder)
    if url and force:
        raise click.UsageError("--force is for a book in a file; in a database no book is ever replaced.")
    bar = Bar("copying", quiet=as_json)
    how = Restoring(SystemClock(), RandomIds(), reason, keep_keys, bar.show, bar.say, bar.show_rows)
    os.umask(0o077)
    try:
        if url:
            from sidecar.app.shared_backups import restore_shared  # noqa: PLC0415 (an extra)

            done = restore_shared(file, url, folder, how)
        else:
            done = put_back(file, folder, how, force=force)
    except ConfigurationError as error:
        raise Failed(
            "\n".join(error.problems), "Nothing was changed. `spend ledger restore --help` says more."
        ) from None
    except OSError as problem:
        raise Failed(_cannot(folder, problem), "Nothing was changed; make room, and try again.") from None
    bar.end()
    if as_json:
        facts = {"sha256": done.sha256, "customers": done.customers, "entries": done.entries}
        ended = {f"{name}_ended": count for name, count in msgspec.structs.asdict(done.ended).items()}
        click.echo(json.dumps({**facts, "history_id": done.history_id, "kept": done.kept, **ended}))
        return
    place = "The database" if url else str(folder)
    click.echo(
        f"{place}: {done.customers} customers and {done.entries} entries are back, as history {done.history_id}."
    )
    if done.kept:
        click.echo(f"The book that stood there is now {done.kept}; remove it when you need it no more.")
    if keep_keys:
        click.echo("Keys and tokens are good as they were at the backup: revoke again what was revoked since.")
    elif any(msgspec.structs.astuple(done.ended)):
        keys, tokens, sidecars = msgspec.structs.astuple(done.ended)
        click.echo(
            "Ended, for nobody knows whether they were revoked since the backup:"
            f" {keys} virtual keys, {tokens} tokens of the API, {sidecars} tokens of sidecars."
            " Make new ones; --keep-keys would have kept them."
        )
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

    def show_rows(self, done: int, whole: int) -> None:
        """The same, where it is rows of tables that are counted."""
        if whole:
            self._write(f"{self._what} {100 * done // whole}% of {whole} rows")

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
