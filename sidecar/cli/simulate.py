"""`spend simulate`: what a recorded request could cost, and with its usage what it did, without sending it.

The very functions price it that decide about a call on its way: what is shown here is what the
sidecar would hold and charge.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sidecar.cli.choices import OneOf
from sidecar.cli.failures import Failed
from sidecar.cli.tables import printable, show_facts, show_money

if TYPE_CHECKING:
    from sidecar.cli.simulating import Simulation
    from sidecar.ledger.views import Money

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of a file: twice what the sidecar takes by default."""

_FILE: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command("simulate")
@click.argument("file", type=_FILE)
@click.option("--protocol", type=OneOf(["openai", "anthropic"]), help="Whose request it is.  [told by its model]")
@click.option("--model", metavar="M", help="As if it asked for this model.")
@click.option("--usage", "usage_file", metavar="FILE", type=_FILE, help="The answer (JSON or a stream), or its usage.")
@click.option("--provider", metavar="NAME", help="Whose rate cards price it.  [as --protocol]")
@click.option("--catalog", metavar="FILE", type=_FILE, envvar="SPEND_CATALOG", help="Prices.  [config/catalog.yaml]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of a table.")
def command(
    file: Path,
    *,
    protocol: str | None,
    model: str | None,
    usage_file: Path | None,
    provider: str | None,
    catalog: Path | None,
    as_json: bool,
) -> None:
    """Price the request body in FILE (- for standard input) without sending it.

    Shows its bound in tokens and its ceiling: the most it can cost, which a budget must have room
    for. With --usage also the exact charge. Exit code 1 where it would be refused.
    """
    from sidecar.app.settings import default_catalog  # noqa: PLC0415 (not for --help)
    from sidecar.catalog.read import read_catalog  # noqa: PLC0415
    from sidecar.cli.simulating import simulate  # noqa: PLC0415
    from sidecar.errors import ConfigurationError  # noqa: PLC0415

    prices = catalog if catalog is not None else Path(default_catalog())
    try:
        rates = read_catalog(prices).rates
    except ConfigurationError as error:
        problem = f"The catalog has {len(error.problems)} problems, the first: {error.problems[0]}"
        raise Failed(problem, f"See all of them with `spend catalog check {shlex.quote(str(prices))}`.") from None
    if usage_file == file:
        raise click.UsageError("FILE and --usage are one file; give the request and its answer apart.")
    done = simulate(
        _read(file),
        rates,
        at_ms=time.time_ns() // 1_000_000,
        protocol=protocol or "",
        model=model or "",
        provider=provider or "",
        answer=None if usage_file is None else _read(usage_file),
    )
    if as_json:
        click.echo(json.dumps(_object(done)))
    else:
        _show(done)
    if done.refusal:
        raise Failed(f"{done.detail} [{done.refusal}]", _next_step(done, prices))


def _read(path: Path) -> bytes:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise Failed(
            f"{path}: {problem.strerror}.", "Give a file with a request's body, or - for standard input."
        ) from None
    if len(data) > MAX_BYTES:
        raise Failed(f"{path}: longer than {MAX_BYTES} bytes.", "Give one request's body, not a log of many.")
    return data


def _show(done: Simulation) -> None:
    click.echo(f"{printable(done.model)} ({done.provider}, {done.protocol}): {done.refusal or 'could be admitted'}")
    show_facts(
        [
            ("rate card", done.rate_card),
            ("input", _input(done)),
            ("output", "" if done.output_tokens is None else f"at most {done.output_tokens} tokens"),
            (
                "ceiling",
                "" if done.ceiling is None else f"{show_money(done.ceiling)}: what a budget must have room for",
            ),
            ("tokens", _tokens(done)),
            ("charge", "" if done.charge is None else show_money(done.charge)),
            ("given back", "" if done.returned is None else show_money(done.returned)),
            ("flags", " ".join(done.flags)),
        ]
    )
    if done.state == "absent":
        click.echo("The file tells no usage: a call that ends so is charged what was held for it.")
    if done.charge is None and not done.refusal:
        click.echo("With `--usage FILE`, its answer or the usage in it, the exact charge is shown too.")


def _input(done: Simulation) -> str:
    likely = done.likely_input_tokens
    return f"at most {done.input_tokens} tokens" + ("" if likely is None else f"; hardly ever more than {likely}")


def _tokens(done: Simulation) -> str:
    if done.usage is None:
        return ""
    counts = ", ".join(f"{name.removesuffix('_tokens')} {count}" for name, count in done.usage.items())
    return f"{counts or 'not said'} ({done.state})"


def _object(done: Simulation) -> dict[str, Any]:
    return {
        "protocol": done.protocol,
        "provider": done.provider,
        "model": done.model,
        "rate_card": done.rate_card or None,
        "bound": {"input_tokens": done.input_tokens, "output_tokens": done.output_tokens},
        "likely_input_tokens": done.likely_input_tokens,
        "ceiling": _money(done.ceiling),
        "refusal": {"code": done.refusal, "detail": done.detail} if done.refusal else None,
        "state": done.state or None,
        "usage": done.usage,
        "charge": _money(done.charge),
        "flags": list(done.flags),
    }


def _money(money: Money | None) -> dict[str, object] | None:
    if money is None:
        return None
    return {"currency": money.currency, "atoms": money.atoms, "scale": money.scale, "text": money.text}


def _next_step(done: Simulation, prices: Path) -> str:
    if done.refusal == "model_not_priced":
        checked = f"`spend catalog check {shlex.quote(str(prices))}`"
        return f"Add a rate card for it to {prices}, then {checked}; or try another --model."
    return "Leave out what has no bound, or set an output limit (max_tokens), and simulate it again."
