"""The sidecars of a ledger: when each was heard, how it was, what it holds, and how far the book is from its count."""

from __future__ import annotations

from typing import Final

from sidecar.ledger.fleet_views import SidecarView
from sidecar.ledger.quarantine import SLACK_MS
from sidecar.ledger.showing import Shower
from sidecar.ledger.views import Money
from sidecar.ports import Row, Transaction

MAX_SHOWN: Final = 2000
"""Sidecars listed, by name; and currencies of theirs together."""

_UPPER: Final = 1_000_000_000
"""What a sum's upper part counts: over all customers it may be beyond 64 bits, which no engine adds up to."""

_HELD: Final = (
    "SELECT sidecar, currency, CAST(sum(CASE WHEN out_atoms > 0 THEN 1 ELSE 0 END) AS BIGINT) AS leases,"
    " CAST(sum(CASE WHEN silent_atoms > 0 THEN 1 ELSE 0 END) AS BIGINT) AS silent,"
    " CAST(sum(out_atoms / 1000000000) AS BIGINT) AS out_upper,"
    " CAST(sum(out_atoms % 1000000000) AS BIGINT) AS out_lower,"
    " CAST(sum(silent_atoms / 1000000000) AS BIGINT) AS silent_upper,"
    " CAST(sum(silent_atoms % 1000000000) AS BIGINT) AS silent_lower,"
    " CAST(sum(unbooked / 1000000000) AS BIGINT) AS unbooked_upper,"
    " CAST(sum(unbooked % 1000000000) AS BIGINT) AS unbooked_lower,"
    " CAST(sum(overbooked / 1000000000) AS BIGINT) AS overbooked_upper,"
    " CAST(sum(overbooked % 1000000000) AS BIGINT) AS overbooked_lower"
    " FROM (SELECT l.sidecar, a.currency,"
    " CASE WHEN l.granted - l.returned - l.posted - l.resolved > 0"
    " THEN l.granted - l.returned - l.posted - l.resolved ELSE 0 END AS out_atoms,"
    " CASE WHEN l.granted - l.returned - l.posted - l.resolved > 0 AND l.pays_until_ms < ?"
    " THEN l.granted - l.returned - l.posted - l.resolved ELSE 0 END AS silent_atoms,"
    " CASE WHEN l.tally > l.posted THEN l.tally - l.posted ELSE 0 END AS unbooked,"
    " CASE WHEN l.drift < 0 AND l.pays_until_ms >= ? THEN -l.drift ELSE 0 END AS overbooked"
    " FROM leases AS l JOIN accounts AS a ON a.customer = l.customer AND a.account = l.account"
    " WHERE l.closed = 0) AS held"
    " WHERE out_atoms > 0 OR unbooked > 0 OR overbooked > 0"
    " GROUP BY sidecar, currency ORDER BY sidecar, currency LIMIT ?"
)


async def list_sidecars(tx: Transaction, show: Shower, now_ms: int) -> list[SidecarView]:
    """Those heard in the last day, and all that hold anything, by name; over all customers, at an instant (Unix ms)."""
    rows = await tx.fetch("SELECT * FROM fleet ORDER BY sidecar LIMIT ?", (MAX_SHOWN,))
    heard = {row["sidecar"]: row for row in rows}
    holding: dict[str, list[Row]] = {}
    for row in await tx.fetch(_HELD, (now_ms - SLACK_MS, now_ms - SLACK_MS, MAX_SHOWN)):
        holding.setdefault(row["sidecar"], []).append(row)
    names = sorted({*heard, *holding})[:MAX_SHOWN]
    return [_view(show, name, heard.get(name), holding.get(name, [])) for name in names]


def _view(show: Shower, sidecar: str, heard: Row | None, rows: list[Row]) -> SidecarView:
    def money(column: str) -> tuple[Money, ...]:
        sums = [(row[f"{column}_upper"] * _UPPER + row[f"{column}_lower"], row["currency"]) for row in rows]
        return tuple(show.money(atoms, currency) for atoms, currency in sums if atoms)

    return SidecarView(
        sidecar=sidecar,
        heard_at_ms=None if heard is None else heard["heard_at_ms"],
        leases=sum(row["leases"] for row in rows),
        holds=money("out"),
        quarantined_leases=sum(row["silent"] for row in rows),
        quarantined=money("silent"),
        software="" if heard is None else heard["software"],
        outbox_calls=None if heard is None else heard["outbox_calls"],
        outbox_age_ms=None if heard is None else heard["outbox_age_ms"],
        outbox_bytes=None if heard is None else heard["outbox_bytes"],
        unbooked=money("unbooked"),
        overbooked=money("overbooked"),
    )
