"""What can be spent without asking the ledger, and by whom (L48).

It is what sidecars hold: their leases on budgets, on grants and on overdrafts (grace), and what is in quarantine with
those that are not heard. No clock makes it less, only a word of a holder or of a person does. Of one account, what is
really consumed never exceeds settled + unaccounted + exposure, and of a budget with an overdraft, what both have out.

Of that, *unshipped* is what is spent already, and known to be: charged by the holders' own counts, and not booked yet.
What calls cost beyond what was lent is in it as soon as a holder has counted it. What calls that still run may cost
beyond their holds (Ω: those without a bound, and those whose hold grows) only their sidecars know, and tell it in
`spend_unbounded_excess_atoms` and `spend_growing_excess_atoms`: it is not here.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.credits.leases import escrow
from sidecar.core.governance.budgets import budget_id_of
from sidecar.core.governance.overdrafts import is_overdraft, owning_id
from sidecar.errors import NotFound
from sidecar.ledger.fleet_views import ExposureView, OutWithView
from sidecar.ledger.quarantine import SLACK_MS
from sidecar.ledger.reading import customer_row, now_of
from sidecar.ledger.showing import Shower
from sidecar.ledger.sql import fetch_in
from sidecar.ports import Row, Transaction

MAX_NAMED: Final = 100
"""Holders of an account that are named, those with the most first."""

ROWS_AT_ONCE: Final = 500
"""Accounts read at a time, while those of other nodes are passed over."""


async def exposure(
    tx: Transaction, show: Shower, wall_ms: int, *, customer: str, node: str, after: str, limit: int
) -> list[ExposureView]:
    """The accounts of which something is out, by name, behind the one called `after`, at most `limit`.

    Args:
        tx: on the customer's book.
        show: writes amounts.
        wall_ms: the ledger's time, Unix ms.
        customer: whose.
        node: `kind:id`: only budgets of that node and of those below it; `` for all, with the grants.
        after: the account that the page before ended with.
        limit: rows.

    Raises:
        NotFound: there is no such customer.
    """
    silent_before_ms = now_of(await customer_row(tx, customer), wall_ms) - SLACK_MS
    paths = await _paths(tx, customer, node)
    found: list[Row] = []
    while len(found) < limit:
        rows = await tx.fetch(
            "SELECT * FROM accounts AS a WHERE customer = ? AND account > ? AND (leased + held > 0 OR EXISTS ("
            "SELECT 1 FROM leases AS l WHERE l.customer = a.customer AND l.account = a.account AND l.closed = 0"
            " AND l.tally > l.posted)) ORDER BY account LIMIT ?",
            (customer, after, ROWS_AT_ONCE),
        )
        found += [row for row in rows if not node or _budget_of(row["account"]) in paths]
        if len(rows) < ROWS_AT_ONCE:
            break
        after = rows[-1]["account"]
    del found[limit:]
    holders = await _holders(tx, customer, [row["account"] for row in found])
    return [
        _view(show, row, paths.get(_budget_of(row["account"]), customer), holders[row["account"]], silent_before_ms)
        for row in found
    ]


async def check_node(tx: Transaction, customer: str, node: str) -> None:
    """Refuse a node that is not in a customer's tree and has no budget.

    Raises:
        NotFound: of the node.
    """
    if node and not await _paths(tx, customer, node):
        kind, _, name = node.partition(":")
        sql = "SELECT id FROM nodes WHERE customer = ? AND kind = ? AND id = ?"
        if not await tx.fetch(sql, (customer, kind, name)):
            raise NotFound("node", f"{customer}/{node}")


async def _paths(tx: Transaction, customer: str, node: str) -> dict[str, str]:
    """The paths of the budgets at a node and below it, by their ids; of all for ``."""
    rows = await tx.fetch("SELECT path FROM nodes WHERE customer = ? AND kind || ':' || id = ?", (customer, node))
    root = rows[0]["path"] if rows else node
    rows = await tx.fetch(
        "SELECT b.budget_id, b.path FROM budgets AS b LEFT JOIN nodes AS n"
        " ON n.customer = b.customer AND n.kind || ':' || n.id = b.node"
        " WHERE b.customer = ? AND (? = '' OR b.node = ? OR (n.path >= ? AND n.path < ?))",
        (customer, node, node, f"{root}/", f"{root}0"),  # `0` follows `/`
    )
    return {row["budget_id"]: row["path"] for row in rows}


def _budget_of(account: str) -> str:
    """The budget that an account counts for, also where it is its overdraft; `` of a grant."""
    return owning_id(budget_id_of(account)) if account.startswith("budget:") else ""


async def _holders(tx: Transaction, customer: str, accounts: list[str]) -> dict[str, list[Row]]:
    """The open leases on each of some accounts that have something out, or have charged what is not booked."""
    found: dict[str, list[Row]] = {account: [] for account in accounts}
    sql = (
        "SELECT account, sidecar, pays_until_ms, granted, returned, posted, tally,"
        " granted - returned - posted - resolved AS out_atoms FROM leases WHERE customer = ? AND closed = 0"
        " AND (granted - returned - posted - resolved > 0 OR tally > posted) AND account IN ({})"
    )
    for row in await fetch_in(tx, sql, (customer,), accounts):
        found[row["account"]].append(row)
    return found


def _view(show: Shower, account: Row, path: str, found: list[Row], silent_before_ms: int) -> ExposureView:
    name, code = account["account"], account["currency"]
    leases = [lease for lease in found if lease["out_atoms"] > 0]
    out = {False: 0, True: 0}
    for lease in leases:
        out[lease["pays_until_ms"] < silent_before_ms] += lease["out_atoms"]
    unbooked = [(lease, max(0, (lease["tally"] or 0) - lease["posted"])) for lease in found]
    # What leases keep that are closed is for calls that are not booked yet, and for nothing else.
    unshipped = account["leased"] - sum(out.values()) + sum(atoms for _, atoms in unbooked)
    beyond = sum(
        max(0, atoms - escrow(lease["granted"], lease["returned"], lease["posted"])) for lease, atoms in unbooked
    )
    leases.sort(key=lambda lease: (-lease["out_atoms"], lease["sidecar"]))
    kind, _, rest = name.partition(":")
    return ExposureView(
        customer=account["customer"],
        path=path,
        account=name,
        kind="grace" if is_overdraft(rest.partition(":")[0]) else kind,
        settled=show.money(account["consumed"], code),
        unaccounted=show.money(account["unaccounted"], code),
        live=show.money(out[False], code),
        quarantined=show.money(out[True], code),
        held=show.money(account["held"], code),
        exposure=show.money(account["leased"] + account["held"] + beyond, code),
        unshipped=show.money(unshipped, code),
        sidecars=len({lease["sidecar"] for lease in leases}),
        holders=tuple(
            OutWithView(
                lease["sidecar"],
                show.money(lease["out_atoms"], code),
                lease["pays_until_ms"],
                quarantined=lease["pays_until_ms"] < silent_before_ms,
            )
            for lease in leases[:MAX_NAMED]
        ),
    )
