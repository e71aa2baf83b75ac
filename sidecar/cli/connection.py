"""Which ledger a command talks to.

Said by `--ledger` and `--token`, or by `--data`, before the command or after it; else by the
environment; else it is the ledger that `spend up` runs on this machine. What stands nearer to
the command wins, and a token that stands beside one ledger's name is never sent to another.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import click

from sidecar.cli.failures import Failed, NotReachable

if TYPE_CHECKING:
    from sidecar.cli.ledger_client import LedgerClient

REASON: Final = "why_it_is_done"
"""What a command calls its `--reason` where it goes with the request and not in its body."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """What the command line says of the ledger; None where it says nothing."""

    data: str | None
    ledger: str | None
    token: str | None

    def nearer(self, outer: Connection | None) -> Connection:
        """This one, its gaps filled from what stood before the command."""
        if outer is None:
            return self
        if self.data or self.ledger:  # another place: a token said beside the outer one was for that
            loose = None if outer.data or outer.ledger else outer.token
            return Connection(self.data, self.ledger, self.token or loose)
        return Connection(outer.data, outer.ledger, self.token or outer.token)


def connection_options(function: _F) -> _F:
    """Add `--data`, `--ledger` and `--token` to a command."""
    options = (
        click.option("--data", metavar="DIR", help="The folder of the `spend up` to talk to.  [$SPEND_DATA, ~/.spend]"),
        click.option("--ledger", metavar="URL", help="A ledger's address, in place of --data.  [$SPEND_LEDGER_URL]"),
        click.option("--token", metavar="T", help="Its token; better said in the environment.  [$SPEND_TOKEN]"),
    )
    for option in reversed(options):
        function = option(function)
    return function


def with_ledger(function: Callable[Concatenate[LedgerClient, _P], _R]) -> Callable[_P, _R]:
    """Give a command the ledger's client as its first argument, and the options that choose it."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        said = said_here(*(kwargs.pop(name) for name in ("data", "ledger", "token")))  # type: ignore[arg-type]
        why = kwargs.pop(REASON, "")
        client = open_client(said, os.environ)
        client.reason = str(why)
        try:
            return function(client, *args, **kwargs)
        finally:
            client.close()

    return connection_options(run)


def why_option(function: _F) -> _F:
    """Add `--reason` to a command that changes something; it stands under `with_ledger`, which passes it on."""
    return click.option("--reason", REASON, metavar="WHY", default="", help="Kept with the entry, for `spend audit`.")(
        function
    )


OTHER_LEDGER: Final = "Say where: SPEND_LEDGER_URL and SPEND_TOKEN, --ledger URL --token T, or its --data DIR."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ledger is; `data`, `proxy` and `health` are known only of a `spend up` on this machine."""

    address: str
    token: str = field(repr=False)
    data: Path | None = None
    proxy: str = ""
    health: str = ""


def said_here(data: str | None, ledger: str | None, token: str | None) -> Connection:
    """What a command's own options say, its gaps filled from those before the command."""
    return Connection(data, ledger, token).nearer(click.get_current_context().find_object(Connection))


def open_client(said: Connection, environ: os._Environ[str] | dict[str, str]) -> LedgerClient:
    """A client for the ledger that is meant; raises as `find_place`."""
    from sidecar.cli.ledger_client import LedgerClient  # noqa: PLC0415 (not for --help)

    place = find_place(said, environ)
    return LedgerClient(place.address, place.token)


def find_place(said: Connection, environ: os._Environ[str] | dict[str, str]) -> Place:
    """The ledger that is meant.

    Raises:
        click.UsageError: an address without a token, or an address and a folder.
        NotReachable: no ledger has been started on the folder.
        Failed: the folder's admin.json cannot be read.
    """
    from sidecar.app.admin_file import default_data_folder, read_admin_file  # noqa: PLC0415 (not for --help)
    from sidecar.app.data_folder import is_sidecars  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    if said.data and said.ledger:
        raise click.UsageError("--data and --ledger name two ledgers; give one of them.")
    address = said.ledger or ("" if said.data else environ.get("SPEND_LEDGER_URL", ""))
    token = said.token or environ.get("SPEND_TOKEN", "")
    if address:
        if not token:
            raise click.UsageError(f"The ledger at {address} wants a token: set SPEND_TOKEN or give --token.")
        return Place(address, token)
    try:
        data = Path(said.data) if said.data else default_data_folder(environ)
        admin = read_admin_file(data)
    except ConfigurationError as error:
        raise Failed(str(error), "`spend doctor` looks at the whole set-up; --data DIR names another folder.") from None
    if admin is None and is_sidecars(data):
        raise NotReachable(f"{data} is a sidecar's folder; its ledger is elsewhere.", OTHER_LEDGER)
    if admin is None:
        raise NotReachable(
            f"No ledger has been started on {data} (it has no admin.json).",
            f"Start one with `spend up --data {shlex.quote(str(data))}`,"
            " or say where it is: --data DIR, or --ledger URL.",
        )
    return Place(admin.address, said.token or admin.token, data, admin.proxy, admin.health)
