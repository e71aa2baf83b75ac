"""What becomes of leases whose holder is not heard any more (L46).

No timer gives a lease back: its holder may have spent it before it went silent. After the write-off age what is
out on it moves to the account's `unaccounted`, which counts as spent and says that nobody knows. A person who knows
more says so: it was spent, or it was not and its holder cannot act again. And should the holder speak after all, its
own word counts for more: what was put elsewhere is in its lease again, before anything that it reports is booked,
so that nothing is charged twice (`Journal.load_leases`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.credits.entries import Moves
from sidecar.errors import Conflict, NotFound, Rejected
from sidecar.ledger import forms
from sidecar.ledger.administration import Act, LeaseResolution
from sidecar.ledger.fleet_views import LeaseView
from sidecar.ledger.idempotency import Asked, once
from sidecar.ledger.journal import PLACES, Journal, Lease
from sidecar.ledger.learning import ACTOR
from sidecar.ledger.purse import Purse
from sidecar.ledger.quarantine import SLACK_MS
from sidecar.ledger.showing import Shower
from sidecar.ports import Row, Transaction

MAX_AT_ONCE: Final = 256
"""Leases of a customer that one transaction writes off, and customers that one look finds; the next go on."""

MAX_SHOWN: Final = 1000
"""Leases listed, the longest silent first."""


async def customers_to_write_off(tx: Transaction, before_ms: int) -> list[str]:
    """Whose leases have been silent since before an instant (Unix ms), at most MAX_AT_ONCE."""
    rows = await tx.fetch(
        "SELECT DISTINCT customer FROM leases WHERE resolution = '' AND pays_until_ms < ?"
        " AND granted - returned - posted > 0 ORDER BY customer LIMIT ?",
        (before_ms, MAX_AT_ONCE),
    )
    return [row["customer"] for row in rows]


async def write_off(tx: Transaction, customer: str, wall_ms: int, age_ms: int) -> int:
    """Move what is out on a customer's leases, silent for `age_ms` and more, to `unaccounted`; gives how many."""
    journal = await Journal.open(tx, customer, wall_ms)
    if journal is None:
        return 0
    rows = await tx.fetch(
        "SELECT * FROM leases WHERE customer = ? AND resolution = '' AND pays_until_ms < ?"
        " AND granted - returned - posted > 0 ORDER BY lease_id LIMIT ?",
        (customer, journal.now_ms - age_ms, MAX_AT_ONCE),
    )
    await journal.load_accounts(row["account"] for row in rows)
    moves, facts = Moves(), dict[str, object]()
    for row in rows:
        lease = journal.take_lease(row)
        facts[lease.lease_id] = lease.escrow
        _put(journal, moves, lease, "unaccounted")
    if facts:
        journal.post("lease_written_off", actor=ACTOR, moves=moves, facts={"leases": facts})
        await journal.write()
    return len(facts)


async def resolve_lease(tx: Transaction, wall_ms: int, form: LeaseResolution, act: Act, show: Shower) -> LeaseView:
    """Say what became of what a silent holder had; see `administration.Administration`.

    Raises:
        Rejected: no reason, or no word for what became of it.
        NotFound: no such customer or lease.
        Conflict: nothing is out on it, or its sidecar is heard.
    """
    forms.reason(form.reason)
    if form.how not in ("spent", "returned", "unaccounted"):
        raise Rejected("invalid_field", {"how": "spent, returned or unaccounted"})
    journal = await Journal.open(tx, form.customer, wall_ms)
    if journal is None:
        raise NotFound("customer", form.customer)
    journal.act = act = msgspec.structs.replace(act, reason=form.reason)

    async def written() -> LeaseView:
        view = await _resolve(journal, form, act, show)
        await journal.write()
        return view

    asked = Asked(form.customer, "resolve_lease", act, msgspec.to_builtins(form))
    view, _ = await once(tx, asked, written, answer_type=LeaseView, wall_ms=wall_ms)
    return view


async def _resolve(journal: Journal, form: LeaseResolution, act: Act, show: Shower) -> LeaseView:
    rows = await journal.tx.fetch(
        "SELECT * FROM leases WHERE customer = ? AND lease_id = ?", (form.customer, form.lease_id)
    )
    if not rows:
        raise NotFound("lease", form.lease_id)
    await journal.load_accounts([rows[0]["account"]])
    lease = journal.take_lease(rows[0])
    atoms = lease.resolved if lease.resolution else lease.escrow
    if not atoms:
        raise Conflict("nothing is out on this lease")
    if lease.pays_until_ms >= journal.now_ms - SLACK_MS:
        raise Conflict("its sidecar is heard, and gives it back by itself")
    before, moves = lease.resolution, Moves()
    if form.how == "returned":
        purse = await Purse.open(journal)
        await purse.load([lease.account])
        currency = journal.balance(lease.account, "").currency
        moves.move(lease.account, currency, PLACES[before], purse.home(lease.account), atoms)
        lease.resolution, lease.resolved, lease.closed = "", 0, True
        lease.returned += atoms
        journal.keep(lease)
    else:
        _put(journal, moves, lease, form.how)
    facts = {"lease_id": lease.lease_id, "atoms": atoms, "was": before or "quarantined", "now": form.how}
    journal.post("lease_resolved", actor=act.actor, moves=moves, facts=facts)
    currency = journal.balance(lease.account, "").currency
    return LeaseView(
        form.customer, lease.lease_id, lease.account, lease.sidecar, form.how, rows[0]["pays_until_ms"],
        show.money(atoms, currency),
    )  # fmt: skip


def _put(journal: Journal, moves: Moves, lease: Lease, resolution: str) -> None:
    """Put what is out on a lease to where a resolution says that it stands."""
    atoms = lease.resolved if lease.resolution else lease.escrow
    currency = journal.balance(lease.account, "").currency
    origin, target = PLACES[lease.resolution], PLACES[resolution]
    if origin is not target:
        moves.move(lease.account, currency, origin, target, atoms)
    lease.resolution, lease.resolved = resolution, atoms
    journal.keep(lease)


async def unheard_leases(tx: Transaction, show: Shower, now_ms: int, customer: str = "") -> list[LeaseView]:
    """Leases whose holder is not heard, and what became of them; longest silent first, at most MAX_SHOWN."""
    rows = await tx.fetch(
        "SELECT l.*, a.currency FROM leases AS l"
        " JOIN accounts AS a ON a.customer = l.customer AND a.account = l.account"
        " WHERE (? = '' OR l.customer = ?) AND l.granted - l.returned - l.posted > 0"
        " AND (l.resolution <> '' OR l.pays_until_ms < ?) ORDER BY l.pays_until_ms, l.customer, l.lease_id LIMIT ?",
        (customer, customer, now_ms - SLACK_MS, MAX_SHOWN),
    )
    return [_view(row, show) for row in rows]


def _view(row: Row, show: Shower) -> LeaseView:
    atoms = row["resolved"] or row["granted"] - row["returned"] - row["posted"]
    return LeaseView(
        row["customer"], row["lease_id"], row["account"], row["sidecar"], row["resolution"] or "quarantined",
        row["pays_until_ms"], show.money(atoms, row["currency"]),
    )  # fmt: skip
