"""The sidecars of a ledger: when each was heard, and what it holds."""

from __future__ import annotations

from typing import Final

from sidecar.ledger.fleet_views import SidecarView
from sidecar.ledger.quarantine import SLACK_MS
from sidecar.ledger.showing import Shower
from sidecar.ports import Row, Transaction

MAX_SHOWN: Final = 2000
"""Sidecars listed, by name; and currencies of theirs together."""

_UPPER: Final = 1_000_000_000
"""What a sum's upper part counts: over all customers it may be beyond 64 bits, which no engine adds up to."""


async def list_sidecars(tx: Transaction, show: Shower, now_ms: int) -> list[SidecarView]:
    """Those heard in the last day, and all that hold anything, by name; over all customers, at an instant (Unix ms)."""
    heard = {
        row["sidecar"]: row["heard_at_ms"]
        for row in await tx.fetch("SELECT sidecar, heard_at_ms FROM fleet ORDER BY sidecar LIMIT ?", (MAX_SHOWN,))
    }
    rows = await tx.fetch(
        "SELECT sidecar, currency, count(*) AS leases, CAST(sum(silent) AS BIGINT) AS silent,"
        " CAST(sum(out_atoms / 1000000000) AS BIGINT) AS upper, CAST(sum(out_atoms % 1000000000) AS BIGINT) AS lower,"
        " CAST(sum(silent * (out_atoms / 1000000000)) AS BIGINT) AS silent_upper,"
        " CAST(sum(silent * (out_atoms % 1000000000)) AS BIGINT) AS silent_lower"
        " FROM (SELECT l.sidecar, a.currency, CASE WHEN l.pays_until_ms < ? THEN 1 ELSE 0 END AS silent,"
        " l.granted - l.returned - l.posted - l.resolved AS out_atoms"
        " FROM leases AS l JOIN accounts AS a ON a.customer = l.customer AND a.account = l.account"
        " WHERE l.closed = 0 AND l.granted - l.returned - l.posted - l.resolved > 0) AS held"
        " GROUP BY sidecar, currency ORDER BY sidecar, currency LIMIT ?",
        (now_ms - SLACK_MS, MAX_SHOWN),
    )
    holding: dict[str, list[Row]] = {}
    for row in rows:
        holding.setdefault(row["sidecar"], []).append(row)
    return [_view(show, name, heard.get(name), holding.get(name, [])) for name in sorted({*heard, *holding})][
        :MAX_SHOWN
    ]


def _view(show: Shower, sidecar: str, heard_at_ms: int | None, rows: list[Row]) -> SidecarView:
    quarantined = [(row["silent_upper"] * _UPPER + row["silent_lower"], row["currency"]) for row in rows]
    return SidecarView(
        sidecar=sidecar,
        heard_at_ms=heard_at_ms,
        leases=sum(row["leases"] for row in rows),
        holds=tuple(show.money(row["upper"] * _UPPER + row["lower"], row["currency"]) for row in rows),
        quarantined_leases=sum(row["silent"] for row in rows),
        quarantined=tuple(show.money(atoms, currency) for atoms, currency in quarantined if atoms),
    )
