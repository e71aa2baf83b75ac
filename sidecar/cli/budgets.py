"""`spend budgets`: limits per period, or per user, agent or session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

import click

from sidecar.cli.answers import all_rows, decoded, each_row, json_option
from sidecar.cli.applying import is_met, place_of, verdicts
from sidecar.cli.choices import OneOf
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.heard import reason_option, show_done
from sidecar.cli.instants import Duration, show_duration
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.matching import EACH, Match, match_option, of_words, scope_words
from sidecar.cli.tables import show_instant, show_money, show_table
from sidecar.ledger.views import BudgetView, Money

PERIODS: Final = ("hour", "day", "week", "month", "quarter", "year", "anniversary", "window", "lifetime")
KINDS: Final = ("cap", "allocation")
OUTAGES: Final = ("deny", "grace")
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""The ledger's own words (`core.governance`), in their order; a test holds them to it."""


@click.group("budgets")
def command() -> None:
    """Limits per period or job: set, list and remove."""


class _Day(click.ParamType[str]):
    """`2026-01-31`."""

    name = "date"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read one."""
        try:
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            self.fail(f"{str(value)[:64]!r}: expected a date such as 2026-01-31.", param, ctx)


@command.command("set")
@click.argument("path")
@click.option("--limit", required=True, metavar="AMOUNT", help="A decimal such as 500 or 0.25; 0 allows nothing.")
@click.option("--per", type=OneOf(PERIODS), required=True, help="By the clocks of the customer's time zone.")
@click.option(
    "--anchor",
    type=_Day(),
    metavar="DATE",
    help="A day on which a month, quarter, year or anniversary begins, such as 2026-01-31; others are counted from it.",
)
@click.option("--length", type=Duration(), metavar="5h", help="With --per window: how long, from the first use on.")
@click.option("--week-start", type=OneOf(WEEKDAYS), help="With --per week.  [monday]")
@match_option
@click.option("--each", type=OneOf(EACH), help="Every one has its own budget.")
@click.option("--currency", default="usd", show_default=True, help="One of the catalog's.")
@click.option("--no-clamp", is_flag=True, help="Near the limit refuses, and never shortens an answer so that it fits.")
@click.option("--soft", is_flag=True, help="Never refuses: counts, and notes a crossing in the journal.")
@click.option(
    "--kind",
    type=OneOf(KINDS),
    help="allocation: a part of the budget above PATH, which is never divided into more than it has.  [cap]",
)
@click.option(
    "--on-outage",
    type=OneOf(OUTAGES),
    help="While the ledger is away, calls that no lease covers are denied, or may spend the --grace.  [deny]",
)
@click.option(
    "--grace",
    metavar="AMOUNT",
    help="In each period so much beyond the limit, all sidecars together, while the ledger is away.",
)
@click.option("--guardrail", is_flag=True, help="Your own limit, beside what others have set and never above it.")
@why_option
@json_option
@with_ledger
def set_(
    client: LedgerClient,
    path: str,
    *,
    limit: str,
    per: str,
    anchor: str | None,
    week_start: str | None,
    length: int | None,
    match: dict[str, str] | None,
    each: str | None,
    currency: str,
    no_clamp: bool,
    soft: bool,
    kind: str | None,
    on_outage: str | None,
    grace: str | None,
    guardrail: bool,
    as_json: bool,
) -> None:
    """Set the budget of PATH: acme, acme/team:data, or acme/user:ada.

    The same path, match, each, period and currency again changes its limit, whether it is hard or may
    shorten answers, and, where it is said, what an outage of the ledger does. A budget counts what its period has
    already seen.

    An anniversary is a month that begins on the day of the month on which the customer was added, or on that of
    --anchor. Where a month has no 31st, its last day stands for it.
    """
    if (length is None) is (per == "window"):
        what = "say how long with --length 5h" if length is None else f"--length goes with it, and not with --per {per}"
        raise click.UsageError(f"--per window begins with the first use: {what}.")
    if week_start is not None and per != "week":
        raise click.UsageError(f"--week-start goes with --per week; per {per}, leave it out.")
    if anchor is not None and per not in ("month", "quarter", "year", "anniversary"):
        hint = "say on which day with --week-start" if per == "week" else "leave it out"
        raise click.UsageError(f"--anchor goes with --per month, quarter, year or anniversary; per {per}, {hint}.")
    if on_outage == "grace" and grace is None:
        raise click.UsageError("--on-outage grace needs an amount: say how much with --grace 5.")
    if on_outage == "deny" and grace is not None:
        raise click.UsageError("--grace goes with --on-outage grace; with deny, leave it out.")
    budget = {
        "path": path,
        "limit": limit,
        "per": per,
        "anchor": anchor or week_start or "",
        "match": match or {},
        "each": each or "",
        "currency": currency,
        "hard": not soft,
        "clamp": not no_clamp,
        "kind": kind or "",
        "guardrail": guardrail,
        "window_s": (length or 0) // 1000,
        "on_outage": on_outage or ("" if grace is None else "grace"),
        "grace": grace or "",
    }
    raw = client.post("/v1/guardrails", budget) if guardrail else client.change("/v1/budgets", budget)
    made = decoded(raw, BudgetView)
    show_done(client, made.customer, raw, f"Budget {made.budget_id}: {_words(made)}.", as_json=as_json)


@command.command("remove")
@click.argument("customer")
@click.argument("budget")
@reason_option
@json_option
@with_ledger
def remove(client: LedgerClient, customer: str, budget: str, *, reason: str, as_json: bool) -> None:
    """Limit, and count, by BUDGET no more (its name is the last column of `spend budgets list CUSTOMER`).

    Set anew it is another budget, which counts what its period has seen.
    """
    raw = client.post("/v1/budgets/remove", {"customer": customer, "budget_id": budget, "reason": reason})
    done = decoded(raw, BudgetView)
    words = f"Budget {done.budget_id} is removed. It was: {_words(done)}."
    show_done(client, done.customer, raw, words, as_json=as_json)


@command.command("list")
@click.argument("path", metavar="CUSTOMER|PATH")
@click.option("--for", "of", type=Match(), metavar=Match.name, help="Only those that such calls can count on.")
@json_option
@with_ledger
def list_(client: LedgerClient, path: str, of: dict[str, str] | None, as_json: bool) -> None:
    """List a customer's budgets, outermost node first, and where each stands in its period.

    With a PATH such as acme/team:data or acme/user:ada only those that calls from there must fit into, with all
    above it; and what is left by the tightest.
    """
    customer = path.partition("/")[0]
    pages = list(client.pages(f"/v1/customers/{segment(customer)}/budgets"))
    budgets = all_rows(pages, BudgetView)
    about_some = customer != path or of is not None
    place = place_of(client, path) if customer != path else None
    if about_some:
        budgets = [one for one in budgets if is_met(one, place, of or {})]
    if as_json:
        wanted = {one.budget_id for one in budgets}
        return each_row(pages, keep=lambda row: decoded(row, BudgetView).budget_id in wanted)
    show_budgets(budgets, customer)
    for line in verdicts(budgets, place, of or {}) if about_some else ():
        click.echo(line)
    return None


def show_budgets(budgets: Sequence[BudgetView], customer: str) -> None:
    """Print a table of budgets, a line for each account in the current period."""
    rows: list[tuple[str, ...]] = []
    for budget in budgets:
        scope = scope_words(budget.match, budget.each)
        head = (budget.path, scope, _kind(budget), show_money(budget.limit), _per(budget))
        if not budget.children:
            rows.append((*head, "", "0", "", budget.limit.text, "", budget.budget_id))
        for child in budget.children:
            state = (child.used.text, child.leased.text, child.remaining.text, show_instant(child.resets_at_ms))
            rows.append((*head, child.child, *state, budget.budget_id))
        if budget.grace is not None:
            parts = map(_text, (budget.grace_used, budget.grace_leased, budget.grace_remaining))
            rows.append((*head[:2], "grace", show_money(budget.grace), head[4], "", *parts, "", budget.budget_id))
        if budget.more_children:
            rows.append((*head, "… and more", "", "", "", "", budget.budget_id))
    titles = ("path", "counts", "kind", ">limit", "per", "child", ">used", ">leased", ">remaining", "resets", "budget")
    show_table(titles, rows, nothing=f"No budgets. Set one with `spend budgets set {customer} --limit 10 --per day`.")


def _text(money: Money | None) -> str:
    return "" if money is None else money.text


def _kind(budget: BudgetView) -> str:
    kind = "" if budget.kind == "cap" else f" {budget.kind}"
    return ("hard" if budget.hard else "soft") + kind + (" guardrail" if budget.guardrail else "")


def _per(budget: BudgetView) -> str:
    if budget.per == "window":
        return f"window of {show_duration(budget.window_s)}"
    return f"{budget.per} from {budget.anchor}" if budget.anchor else budget.per


def _words(budget: BudgetView) -> str:
    each, match = of_words(budget.match, budget.each)
    period = "in its lifetime" if budget.per == "lifetime" else f"per {_per(budget)}"
    kind = ("hard" if budget.clamp else "hard, answers are never shortened") if budget.hard else "soft"
    part = ", a part of the budget above it" if budget.kind == "allocation" else ""
    own = ", its own guardrail" if budget.guardrail else ""
    grace = "" if budget.grace is None else f", and {show_money(budget.grace)} beyond it while the ledger is away"
    return f"{budget.path} may spend {show_money(budget.limit)}{each} {period}{match} ({kind}{part}{own}){grace}"
