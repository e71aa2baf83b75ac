"""`spend catalog`: the prices."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sidecar.cli.failures import Failed
from sidecar.cli.tables import show_facts


@click.group("catalog")
def command() -> None:
    """The prices: check a catalog file."""


@command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Read FILE (without it, the catalog that comes with the product) and report every mistake in it."""
    from sidecar.app.settings import default_catalog  # noqa: PLC0415 (not for --help)
    from sidecar.catalog.read import read_catalog  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    path = file if file is not None else Path(default_catalog())
    try:
        rates = read_catalog(path).rates
    except ConfigurationError as error:
        count = len(error.problems)
        problems = "".join(f"\n  {problem}" for problem in error.problems)
        what = f"{path}: {count} {'problem' if count == 1 else 'problems'}:{problems}"
        raise Failed(what, f"Mend them, then `spend catalog check {shlex.quote(str(path))}` again.") from None
    click.echo(f"{path}: all well")
    show_facts(
        [
            ("rate cards", str(len(rates.cards))),
            ("models", str(len({(card.provider, name) for card in rates.cards for name in card.models}))),
            ("providers", ", ".join(sorted({card.provider for card in rates.cards}))),
            ("features", str(len(rates.features))),
            ("currencies", ", ".join(sorted(rates.currencies))),
            ("prices checked", _span([card.checked_on for card in rates.cards])),
            ("sha256", rates.sha256),
        ]
    )


def _span(days: list[str]) -> str:
    """The first and the last of some days."""
    return "" if not days else min(days) if min(days) == max(days) else f"{min(days)} to {max(days)}"
