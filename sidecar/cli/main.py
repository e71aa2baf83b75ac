"""`spend`: the command line.

A command's module is imported when the command is asked for, and what it needs to do its work
only when it does it: scripts start these by the hundred.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from sidecar.cli.choices import did_you_mean
from sidecar.cli.connection import Connection, connection_options

COMMANDS: Final[Mapping[str, str]] = {
    "up": "Run the sidecar and its ledger in one process.",
    "ledger": "Run a ledger of its own for several sidecars; its clock, its sidecars' tokens, backups.",
    "sidecar": "Run the proxy beside an application, over a ledger elsewhere.",
    "customers": "Who pays: add and list, by which clocks they go, which sidecars hold what they have.",
    "nodes": "The departments, teams … below a customer: add, list, move, freeze and unfreeze.",
    "grants": "Lots of credit: add, list and void.",
    "budgets": "Limits per period or job: set, list and remove.",
    "limits": "Rate limits, of requests, tokens and calls at once: set, list and remove.",
    "fleet": "The sidecars: when each was last heard, and what it holds.",
    "exposure": "What can be spent without asking the ledger, and by whom.",
    "leases": "What is with sidecars that are not heard any more: list, and say what became of it.",
    "tokens": "Who may use the ledger's API, as what and where: create, list and revoke.",
    "keys": "Virtual keys, each of which names who spends: create, list and revoke.",
    "balance": "What a customer has, and has used.",
    "usage": "Settled calls, in the order booked; or their sums.",
    "watch": "Spend, holds and denials as they happen.",
    "explain": "Why a call was admitted or denied, and what it cost.",
    "journal": "The entries of a customer's book.",
    "audit": "Who changed what, when and why.",
    "verify": "Check a book: its hash chains, its balances, and the checkpoints that left it.",
    "outbox": "What a sidecar keeps of settled calls on its own disk: list, and send it again.",
    "catalog": "The prices: check a catalog file.",
    "simulate": "What a recorded request could cost, without sending it.",
    "doctor": "What is wrong with this set-up, and what to do about it.",
    "completion": "A script that completes these commands in your shell.",
}
"""Every command and what it is for: the help is printed without importing any of them."""


class _Commands(click.Group):
    """The commands, each in a module of its own."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; where the answer cannot be written (a full disk), say so in a sentence."""
        try:
            return super().main(*args, **kwargs)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            with contextlib.suppress(OSError):
                sys.stdout.close()
            print(f"Error: the answer cannot be written: {problem.strerror}.", file=sys.stderr)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that does not exist, say which was probably meant."""
        word = args[0]
        if word not in COMMANDS and not word.startswith("-") and not ctx.resilient_parsing:
            guess = did_you_mean(word, COMMANDS)
            raise click.UsageError(f"There is no command {word[:64]!r}.{guess}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sidecar.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `spend --help`."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 (rarely needed)

        try:
            click.echo(f"spend {version('spend-sidecar')}")
        except PackageNotFoundError:
            click.echo("spend, run from its source without being installed")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show it.")
@connection_options
@click.pass_context
def main(ctx: click.Context, data: str | None, ledger: str | None, token: str | None) -> None:
    """Decide, before every model call, whether its customer may still spend; and count what it cost.

    Start with `spend up`. Exit codes: 0 done, 1 refused or failed, 2 a mistake in the command,
    3 the ledger cannot be reached.
    """
    ctx.obj = Connection(data, ledger, token)


if __name__ == "__main__":
    main(prog_name="spend")
