"""The ledger's answers: as they came for programs, as types for tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
import msgspec

from sidecar.cli.failures import Failed

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


class _RawPage(msgspec.Struct):
    rows: list[msgspec.Raw] = []


def json_option(function: _F) -> _F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="JSON, one object a line, in place of a table.")(
        function
    )


def show_json(raw: bytes) -> None:
    """Print one object as the ledger wrote it."""
    click.echo(raw.decode())


def each_row(pages: Iterable[bytes], *, keep: Callable[[bytes], bool] | None = None) -> None:
    """Print every row of every page, or those to keep, one a line, page by page: memory does not grow with the book."""
    for page in pages:
        for row in msgspec.json.decode(page, type=_RawPage).rows:
            if keep is None or keep(bytes(row)):
                click.echo(bytes(row).decode())


def page_rows(page: bytes, kind: type[_T]) -> list[_T]:
    """The rows of a page, decoded."""
    return [decoded(bytes(row), kind) for row in msgspec.json.decode(page, type=_RawPage).rows]


def all_rows(pages: Iterable[bytes], kind: type[_T]) -> list[_T]:
    """The rows of all pages, decoded."""
    return [row for page in pages for row in page_rows(page, kind)]


def decoded(raw: bytes, kind: type[_T]) -> _T:
    """An answer as its type.

    Raises:
        Failed: it is not one: this command line and the ledger are of different versions.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise Failed(
            f"The ledger's answer is not what this version of `spend` reads ({error}). Are both of one version?",
            "Compare `spend --version` with what `spend doctor` says of the ledger.",
        ) from None
