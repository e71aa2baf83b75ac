"""`spend nodes`: the tree below a customer."""

from __future__ import annotations

import click

from sidecar.cli.answers import all_rows, decoded, each_row, json_option, page_rows
from sidecar.cli.connection import why_option, with_ledger
from sidecar.cli.heard import reason_option, show_done
from sidecar.cli.ledger_client import LedgerClient, segment
from sidecar.cli.tables import show_instant, show_table
from sidecar.ledger.views import FrozenView, NodeView


@click.group("nodes")
def command() -> None:
    """The departments, teams … below a customer: add, list, move, freeze and unfreeze."""


@command.command("add")
@click.argument("path")
@why_option
@json_option
@with_ledger
def add(client: LedgerClient, path: str, as_json: bool) -> None:
    """Add every node of PATH that does not exist yet, such as acme/department:analytics/team:data.

    Kinds are yours to choose (region, plant, squad …); a path has at most 16 nodes, each of another kind.
    """
    page = client.post("/v1/nodes", {"path": path})
    if as_json:
        return each_row([page])
    for row in page_rows(page, NodeView):
        click.echo(f"Node {row.path}.")
    return None


@command.command("list")
@click.argument("customer")
@click.option("--frozen", is_flag=True, help="Only what is frozen, users and the customer itself too: since when, why.")
@json_option
@with_ledger
def list_(client: LedgerClient, customer: str, *, frozen: bool, as_json: bool) -> None:
    """List a customer's tree, parents before children."""
    pages = client.pages(f"/v1/customers/{segment(customer)}/{'frozen' if frozen else 'nodes'}")
    if as_json:
        return each_row(pages)
    if frozen:
        show_table(
            ("path", "since", "by", "reason"),
            [(row.path, show_instant(row.frozen_at_ms), row.actor, row.reason) for row in all_rows(pages, FrozenView)],
            nothing=f"Nothing of {customer} is frozen.",
        )
        return None
    show_table(
        ("path", "kind", "id", "created", "frozen"),
        [
            (row.path, row.kind, row.id, show_instant(row.created_at_ms), "frozen" if row.frozen else "")
            for row in all_rows(pages, NodeView)
        ],
        nothing=f"No nodes. Add some with `spend nodes add {customer}/department:NAME/team:NAME`.",
    )
    return None


@command.command("freeze")
@click.argument("path")
@reason_option
@json_option
@with_ledger
def freeze(client: LedgerClient, path: str, *, reason: str, as_json: bool) -> None:
    """Let no call of PATH run: of acme itself, acme/team:data, or acme/user:ada, and of all below it.

    Calls that run already run to their end. It is pushed to every sidecar; how many go by it is shown.
    """
    raw = client.post("/v1/nodes/freeze", {"path": path, "reason": reason})
    done = decoded(raw, FrozenView)
    words = f"{done.path} is frozen. `spend nodes unfreeze {done.path} --reason WHY` ends that."
    show_done(client, done.customer, raw, words, as_json=as_json)


@command.command("unfreeze")
@click.argument("path")
@reason_option
@json_option
@with_ledger
def unfreeze(client: LedgerClient, path: str, *, reason: str, as_json: bool) -> None:
    """Let the calls of PATH run again, unless something above it is frozen too."""
    raw = client.post("/v1/nodes/unfreeze", {"path": path, "reason": reason})
    done = decoded(raw, FrozenView)
    words = f"{done.path} is not frozen. `spend nodes list {done.customer} --frozen` shows what still is."
    show_done(client, done.customer, raw, words, as_json=as_json)


@command.command("move")
@click.argument("path")
@click.option("--to", required=True, metavar="PLACE", help="acme itself, or a node of it: what PATH is to stand below.")
@reason_option
@json_option
@with_ledger
def move(client: LedgerClient, path: str, *, to: str, reason: str, as_json: bool) -> None:
    """Put the node of PATH, with all below it, to another place of the tree.

    What was used so far stays where it was counted, and calls that run end where they began; from now on the
    budgets above the new place apply. Whoever sends the whole former path in Spend-Path is refused: the
    innermost node is enough.
    """
    page = client.post("/v1/nodes/move", {"path": path, "to": to, "reason": reason})
    rows = page_rows(page, NodeView)
    words = "\n".join(f"Node {row.path}." for row in rows)
    show_done(client, path.partition("/")[0], page, words, as_json=as_json)
