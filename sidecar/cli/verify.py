"""`spend verify`: check a customer's book, by its ledger; or any book, without one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sidecar.cli.answers import decoded, json_option, show_json
from sidecar.cli.connection import connection_options, open_client, said_here
from sidecar.cli.failures import Failed
from sidecar.cli.shared_book import config_option, shared_book
from sidecar.cli.tables import printable

if TYPE_CHECKING:
    from sidecar.app.proving import StillBook
    from sidecar.ledger.views import VerifyView

_FILE: Final = click.Path(path_type=Path)

MAX_NOTES: Final = 20

_KEEP: Final = "Keep a copy of the whole data folder as it is now; "


@click.command("verify")
@click.argument("customer", required=False)
@click.option("--offline", is_flag=True, help="Without a ledger: the book itself, and the checkpoints in --data.")
@click.option("--book", metavar="FILE", type=_FILE, help="Without a ledger: this book, or a backup of one.")
@click.option(
    "--checkpoints", metavar="FILE", type=_FILE, multiple=True, help="Hold it against these, too; may repeat."
)
@click.option("--public-key", metavar="FILE", type=_FILE, help="By which they were signed.  [checkpoint.key.pub]")
@json_option
@config_option
@connection_options
def command(
    customer: str | None,
    *,
    offline: bool,
    book: Path | None,
    checkpoints: Sequence[Path],
    public_key: Path | None,
    as_json: bool,
    config: Path | None,
    data: str | None,
    ledger: str | None,
    token: str | None,
) -> None:
    """Check CUSTOMER's book: the hash chain of its entries, and every balance against them.

    With --offline or --book no ledger is asked: the book itself is checked, of one customer or of all, also
    against the signed checkpoints that left it. These find what nothing in the book can show: a chain that was
    computed anew, an end that was cut off, a book that was forked. A sidecar keeps the last checkpoints it heard of
    in its data folder, as witnessed.jsonl. Where settings or environment name a database (ledger.database.url) and
    --data has no book of its own, it is the book there, as it is at one instant; ledgers may run on it meanwhile.

    Exit code 1 where something is wrong.
    """
    if offline or book is not None:
        if ledger is not None or token is not None:
            raise click.UsageError("--ledger asks a ledger; --offline and --book look at a file. Give one of them.")
        where = (data, config, book)
        return _offline(customer, where, checkpoints, public_key, as_json=as_json)
    if checkpoints or public_key is not None:
        raise click.UsageError("Checkpoints are held against a file: add --offline, or --book FILE.")
    if customer is None:
        raise click.UsageError("Whose book? `spend verify CUSTOMER`; with --offline it may be left away.")
    from sidecar.cli.ledger_client import segment  # noqa: PLC0415 (not for --help)
    from sidecar.ledger.views import VerifyView  # noqa: PLC0415

    client = open_client(said_here(data, ledger, token), os.environ)
    try:
        raw = client.get(f"/v1/customers/{segment(customer)}/verify")
    finally:
        client.close()
    found = decoded(raw, VerifyView)
    if as_json:
        show_json(raw)
    elif not found.problems:
        click.echo(_well(found))
    if found.problems:
        then = f"{_KEEP}`spend journal {found.customer}` shows the entries."
        raise Failed(_problems(found), then)
    return None


def _offline(
    customer: str | None,
    where: tuple[str | None, Path | None, Path | None],
    checkpoints: Sequence[Path],
    public_key: Path | None,
    *,
    as_json: bool,
) -> None:
    import msgspec  # noqa: PLC0415 (not for --help)

    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415
    from sidecar.app.checkpoint_files import CHECKPOINTS, KEY  # noqa: PLC0415
    from sidecar.app.data_folder import BOOK  # noqa: PLC0415
    from sidecar.app.proving import prove, read_witnesses  # noqa: PLC0415
    from sidecar.app.signing import public_file, read_public_keys  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    (data, config, book), url = where, ""
    try:
        said = said_here(data, None, None).data
        folder = Path(said) if said else (book.parent if book is not None else default_data_folder(os.environ))
        usual = folder / CHECKPOINTS
        files = list(checkpoints) or ([usual] if usual.exists() else [])
        keys = read_public_keys(public_key or public_file(folder / KEY)) if files else frozenset[str]()
        witnesses = read_witnesses(files, keys)
        path = book if book is not None else folder / BOOK
        url = shared_book(config, folder) if book is None else ""
        with _still_database(url) if url else _still_file(path) as opened:
            bad: list[VerifyView] = []
            count = 0
            for found in prove(opened, witnesses, customer):
                count += 1
                if as_json:
                    click.echo(msgspec.json.encode(found).decode())
                elif not found.problems:
                    click.echo(_well(found))
                if found.problems:
                    bad.append(found)
    except ConfigurationError as error:
        raise Failed(
            "\n".join(error.problems),
            "`spend doctor` looks at the database."
            if url
            else "Stop the ledger first, or check a backup: --book FILE.",
        ) from None
    except OSError as problem:
        raise Failed(
            f"{problem.filename}: {problem.strerror}", "Name the files with --book and --checkpoints."
        ) from None
    if customer is not None and not count and not witnesses.problems:
        raise Failed(f"{customer}: is not in this book, and no checkpoint knows it.", "Leave CUSTOMER out for all.")
    read = len(witnesses.checkpoints)
    if as_json:
        told = {"checkpoints": read, "notes": witnesses.notes, "problems": witnesses.problems}
        click.echo(json.dumps(told))
    else:
        held = f"{read} signed checkpoints" if files else "no checkpoints: a chain computed anew would not show"
        for note in witnesses.notes[:MAX_NOTES]:
            click.echo(printable(note), err=True)
        click.echo(f"{count} customer{'' if count == 1 else 's'}, held against {held}.", err=not files)
    if bad or witnesses.problems:
        lines = [_problems(found) for found in bad] + [printable(problem) for problem in witnesses.problems]
        raise Failed("\n".join(lines), f"{_KEEP}`spend ledger restore FILE` puts a backup in its place.")


@contextmanager
def _still_file(path: Path) -> Iterator[StillBook]:
    """The book in a file; where it is a ledger's, while that does not run."""
    from sidecar.storage.sqlite_files import locked, opened_to_look  # noqa: PLC0415 (not for --help)

    of_a_ledger = path.with_name(path.name + ".lock").exists()
    with locked(path) if of_a_ledger else nullcontext(), opened_to_look(path) as opened:
        yield opened


@contextmanager
def _still_database(url: str) -> Iterator[StillBook]:
    """The book in a database, as it is now."""
    from sidecar.storage.postgres_snapshot import opened_database  # noqa: PLC0415 (an extra, and not for --help)

    with opened_database(url) as opened:
        yield opened


def _well(found: VerifyView) -> str:
    signed = f", {found.signed} signed heads agree" if found.signed else ""
    lost = f"; the last {found.lost} of before were lost by a restore" if found.lost else ""
    return f"{found.customer}: {found.entries} entries, all well{signed}{lost}. Head {found.head}"


def _problems(found: VerifyView) -> str:
    problems = "".join(f"\n  {printable(problem)}" for problem in found.problems)
    return f"{found.customer}: {len(found.problems)} problems in {found.entries} entries:{problems}"
