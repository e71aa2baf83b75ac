"""`spend fleet`."""

from __future__ import annotations

from sidecar.core.credits.amounts import Currency
from sidecar.ledger.fleet_views import SidecarView
from sidecar.ledger.views import money
from tests.unit.cli.conftest import Shell

NOON = 1_795_521_600_000


def test_sidecars_are_listed(shell: Shell) -> None:
    """Each with when it was heard, its leases, what is in quarantine; --json for programs; and where there is none."""
    assert "No sidecar" in shell.run("fleet").stdout
    usd = Currency("usd", 9)
    shell.administration.fleet += [
        SidecarView("pod-a", NOON, 3, (money(30, usd),)),
        SidecarView("pod-b", None, 1, (money(6, usd),), 1, (money(6, usd),)),
    ]
    shown = shell.run("fleet").stdout
    for word in ("pod-a", "2026-11-24", "0.00000003", "pod-b", "0.000000006"):
        assert word in shown
    assert [one["quarantined_leases"] for one in shell.json("fleet")] == [0, 1]
