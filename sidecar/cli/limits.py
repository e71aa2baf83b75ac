"""`spend limits`: how many requests, tokens or calls at once."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sidecar.cli.answers import all_rows, decoded, each_row, json_option
from sidecar.cli.choices import Number, OneOf
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.heard import reason_option, show_done
from sidecar.cli.instants import Duration, show_duration
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.matching import EACH, match_option, of_words, scope_words
from sidecar.cli.tables import show_table
from sidecar.ledger.views import RateLimitView

MINUTE_MS = 60_000


@click.group("limits")
def command() -> None:
    """Rate limits, of requests, tokens and calls at once: set, list and remove."""


@command.command("set")
@click.argument("path")
@click.option("--requests", type=Number(min=0), metavar="N", help="So many calls in any window.")
@click.option("--tokens", type=Number(min=0), metavar="N", help="So many tokens, both ways, in any window.")
@click.option("--concurrent", type=Number(min=0), metavar="N", help="So many calls under way at once.")
@click.option("--per", type=Duration(), metavar="1m", help="How long a window is, up to a day.  [1m]")
@match_option
@click.option("--each", type=OneOf(EACH), help="Every one has its own window.")
@why_option
@json_option
@with_ledger
def set_(
    client: LedgerClient,
    path: str,
    *,
    requests: int | None,
    tokens: int | None,
    concurrent: int | None,
    per: int | None,
    match: dict[str, str] | None,
    each: str | None,
    as_json: bool,
) -> None:
    """Set a rate limit of PATH: acme, acme/team:data, or acme/user:ada.

    One of --requests, --tokens and --concurrent; the same path, match, each and --per again changes the number. A
    call must have room in all that apply; one that has none is answered 429, and told when there will be room.
    """
    told = {"requests": requests, "tokens": tokens, "concurrent": concurrent}
    wanted = {name: number for name, number in told.items() if number is not None}
    if len(wanted) != 1:
        raise click.UsageError("Say one of --requests N, --tokens N and --concurrent N.")
    (counts, limit), *_ = wanted.items()
    if per is not None and counts == "concurrent":
        raise click.UsageError("--concurrent counts calls at once, in no window: leave --per out.")
    window_s = 0 if counts == "concurrent" else (MINUTE_MS if per is None else per) // 1000
    form = {
        "path": path,
        "counts": counts,
        "limit": limit,
        "window_s": window_s,
        "match": match or {},
        "each": each or "",
    }
    raw = client.post("/v1/rate-limits", form)
    made = decoded(raw, RateLimitView)
    show_done(client, made.customer, raw, f"Rate limit {made.limit_id}: {_words(made)}.", as_json=as_json)


@command.command("remove")
@click.argument("customer")
@click.argument("limit")
@reason_option
@json_option
@with_ledger
def remove(client: LedgerClient, customer: str, limit: str, *, reason: str, as_json: bool) -> None:
    """Limit by LIMIT no more (its name is the last column of `spend limits list CUSTOMER`)."""
    raw = client.post("/v1/rate-limits/remove", {"customer": customer, "limit_id": limit, "reason": reason})
    done = decoded(raw, RateLimitView)
    words = f"Rate limit {done.limit_id} is removed. It was: {_words(done)}."
    show_done(client, done.customer, raw, words, as_json=as_json)


@command.command("list")
@click.argument("customer")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, as_json: bool) -> None:
    """List a customer's rate limits, in the order in which they were set."""
    pages = list(client.pages(f"/v1/customers/{segment(customer)}/rate-limits"))
    if as_json:
        return each_row(pages)
    show_rate_limits(all_rows(pages, RateLimitView), customer)
    return None


def show_rate_limits(limits: Sequence[RateLimitView], customer: str) -> None:
    """Print a table of them."""
    rows = [
        (one.path, one.counts, str(one.limit), _window(one), scope_words(one.match, one.each), one.limit_id)
        for one in limits
    ]
    nothing = f"No rate limits. Set one with `spend limits set {customer} --requests 600`."
    show_table(("path", "counts", ">limit", "per", "calls", "rate limit"), rows, nothing=nothing)


def _window(limit: RateLimitView) -> str:
    return show_duration(limit.window_s) if limit.window_s else "at once"


def _words(limit: RateLimitView) -> str:
    each, match = of_words(limit.match, limit.each)
    if limit.counts == "concurrent":
        return f"{limit.path} may have {limit.limit} calls under way at once{each}{match}"
    return f"{limit.path} may use {limit.limit} {limit.counts} in any {_window(limit)}{each}{match}"
