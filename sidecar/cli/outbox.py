"""`spend outbox`: what a sidecar keeps of settled calls on its own disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from sidecar.cli.answers import json_option
from sidecar.cli.connection import Connection
from sidecar.cli.failures import Failed
from sidecar.cli.tables import show_table

if TYPE_CHECKING:
    from sidecar.outbox.inspecting import SegmentLook

_F = TypeVar("_F", bound=Callable[..., object])
_R = TypeVar("_R")


@click.group("outbox")
def command() -> None:
    """Settled calls on their way to the ledger, on this machine: list, and replay."""


def _data_option(function: _F) -> _F:
    return click.option("--data", metavar="DIR", help="The folder of the sidecar.  [$SPEND_DATA, ~/.spend]")(function)


@command.command("list")
@json_option
@_data_option
def list_(as_json: bool, data: str | None) -> None:
    """List the outbox's files: the calls in each, and how many of them the ledger has not acknowledged yet.

    What it has is kept for a day (`retain_s`), so that it can be sent again should the ledger lose it.
    """
    from sidecar.outbox.inspecting import look_at  # noqa: PLC0415 (not for --help)

    folder = _folder(data)
    segments = _asked(lambda: look_at(folder))
    if as_json:
        for segment in segments:
            click.echo(msgspec.json.encode(segment).decode())
        return
    titles = (">segment", ">bytes", ">admitted", ">settled", ">waiting", ">damaged", "written by")
    show_table(titles, map(_row, segments), nothing=f"Nothing is kept in {folder}.")


@command.command("replay")
@json_option
@_data_option
def replay(as_json: bool, data: str | None) -> None:
    """Send all that is kept once more, with the next start: the ledger books what it lacks, and nothing twice.

    For a ledger that has lost something, and did not notice by itself. The sidecar must be stopped; its next start
    borrows nothing before the ledger has answered for all of it.
    """
    from sidecar.outbox.inspecting import send_again  # noqa: PLC0415 (not for --help)

    folder = _folder(data)
    calls = _asked(lambda: send_again(folder))
    if as_json:
        click.echo(msgspec.json.encode({"replayed": calls}).decode())
    else:
        click.echo(f"{calls} settled calls are sent again when the sidecar on {folder.parent} starts.")


def _folder(data: str | None) -> Path:
    from sidecar.app.admin_file import default_data_folder  # noqa: PLC0415 (not for --help)
    from sidecar.app.data_folder import OUTBOX  # noqa: PLC0415

    outer = click.get_current_context().find_object(Connection)
    said = data or (outer.data if outer is not None else None)
    return _asked(lambda: (Path(said) if said else default_data_folder(os.environ)) / OUTBOX)


def _asked(work: Callable[[], _R]) -> _R:
    from sidecar.errors import ConfigurationError  # noqa: PLC0415 (not for --help)

    try:
        return work()
    except ConfigurationError as error:
        hint = "Give the folder of a sidecar with --data DIR; to replay, stop that sidecar first."
        raise Failed("\n".join(error.problems), hint) from None


def _row(segment: SegmentLook) -> tuple[str, ...]:
    figures = (segment.bytes, segment.admitted, segment.settled, segment.waiting, segment.damaged_bytes)
    return (f"{segment.segment}", *map(str, figures), segment.incarnation)
