"""`spend grants`: lots of credit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import click

from sidecar.cli.answers import all_rows, decoded, each_row, json_option, show_json
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.heard import reason_option, show_done
from sidecar.cli.instants import Instant
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_money, show_table
from sidecar.ledger.views import GrantView


class _Giving(click.Command):
    """A command whose amount may be written with a minus, by mistake: it is told so, and not of an unknown option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As any command does, but for such an amount."""
        for before, word in pairwise(("", *args)):
            if _MINUS.fullmatch(word) and not before.startswith("--"):
                raise click.UsageError(f"AMOUNT must be more than zero, not {word[:32]}: `grants void` takes back", ctx)
        return super().parse_args(ctx, args)


_MINUS: Final = re.compile(r"-[0-9.,]+", re.ASCII)


@click.group("grants")
def command() -> None:
    """Lots of credit: add, list and void."""


@command.command("add", cls=_Giving)
@click.argument("customer")
@click.argument("amount")
@click.option("--currency", default="usd", show_default=True, help="One of the catalog's.")
@click.option(
    "--category", type=OneOf(["paid", "promotional"]), default="paid", show_default=True,
    help="Of two that end together the promotional one burns first; paid credit repays a debt.",
)  # fmt: skip
@click.option("--priority", type=int, default=0, show_default=True, help="Smaller burns first.")
@click.option("--expires", type=Instant(), help="When it stops paying; without it, never.")
@click.option("--effective", type=Instant(), help="When it begins to pay; without it, now.")
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Pays for these models only; may repeat.")
@click.option("--feature", "features", multiple=True, metavar="F", help="Pays for these features only; may repeat.")
@why_option
@json_option
@with_ledger
def add(
    client: LedgerClient,
    customer: str,
    amount: str,
    *,
    currency: str,
    category: str,
    priority: int,
    expires: int | None,
    effective: int | None,
    models: Sequence[str],
    features: Sequence[str],
    as_json: bool,
) -> None:
    """Give CUSTOMER a lot of credit of AMOUNT, a decimal such as 12.50.

    Lots burn in this order: smaller priority, sooner end, promotional before paid, older first.
    T is a date, a date and time, or a duration from now such as 30d, 12h, 90s.
    """
    grant: dict[str, Any] = {
        "customer": customer,
        "amount": amount,
        "currency": currency,
        "category": category,
        "priority": priority,
        "expires_at_ms": expires,
        "effective_at_ms": effective,
        "models": list(models),
        "features": list(features),
    }
    raw = client.post("/v1/grants", grant)
    if as_json:
        return show_json(raw)
    made = decoded(raw, GrantView)
    click.echo(
        f"Grant {made.grant_id}: {show_money(made.issued)} for {made.customer}, "
        f"{made.category}, expires {show_instant(made.expires_at_ms)}."
    )
    return None


@command.command("void")
@click.argument("customer")
@click.argument("grant")
@reason_option
@json_option
@with_ledger
def void(client: LedgerClient, customer: str, grant: str, *, reason: str, as_json: bool) -> None:
    """Take back what is left of GRANT (its name is in `spend grants list CUSTOMER`).

    What sidecars hold of it may be charged for calls that they hold it for; the rest is taken back as it comes back.
    What was consumed stays consumed.
    """
    raw = client.post("/v1/grants/void", {"customer": customer, "grant_id": grant, "reason": reason})
    done = decoded(raw, GrantView)
    words = (
        f"Grant {done.grant_id} of {done.customer} is void: of {show_money(done.issued)}, {done.consumed.text} were "
        f"consumed, {done.revoked.text} are revoked, {done.leased.text} are still with sidecars."
    )
    show_done(client, done.customer, raw, words, as_json=as_json)


@command.command("list")
@click.argument("customer")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, as_json: bool) -> None:
    """List a customer's grants in burn order, ended ones last."""
    pages = client.pages(f"/v1/customers/{segment(customer)}/grants")
    if as_json:
        return each_row(pages)
    show_grants(all_rows(pages, GrantView), customer)
    return None


def show_grants(grants: Sequence[GrantView], customer: str) -> None:
    """Print a table of grants."""
    show_table(
        ("grant", "category", ">priority", ">issued", ">available", ">leased", ">consumed", "expires", "for", "live"),
        [
            (
                grant.grant_id,
                grant.category,
                str(grant.priority),
                show_money(grant.issued),
                grant.available.text,
                grant.leased.text,
                grant.consumed.text,
                show_instant(grant.expires_at_ms),
                " ".join((*grant.models, *(f"feature={feature}" for feature in grant.features))) or "all",
                "yes" if grant.live else "void" if grant.voided else "no",
            )
            for grant in grants
        ],
        nothing=f"No grants. Give one with `spend grants add {customer} AMOUNT`.",
    )
