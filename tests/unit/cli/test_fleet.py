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


def test_how_a_sidecar_is_and_its_drift(shell: Shell) -> None:
    """Its version, what waits in its outbox and since when; what the book lacks, with a minus what it has beyond."""
    usd = Currency("usd", 9)
    shell.administration.fleet += [
        SidecarView(
            "pod-a", NOON, 3, (money(30, usd),), software="1.2.3", outbox_calls=7, outbox_age_ms=90_000,
            outbox_bytes=3 * 2**20, unbooked=(money(5, usd),), overbooked=(money(2, usd),),
        ),
        SidecarView("pod-b", NOON, 0, software="1.2.2", outbox_calls=0, outbox_age_ms=0, outbox_bytes=0),
        SidecarView("pod-c", NOON, 0),
    ]  # fmt: skip
    _, first, second, third = shell.run("fleet").stdout.splitlines()
    for word in ("1.2.3", " 7 ", "1.5 min", "3.0 MiB", "0.000000005 usd, -0.000000002 usd"):
        assert word in first
    assert "1.2.2" in second
    assert second.split()[-4:] == ["-", "0.0", "MiB", "-"]
    assert third.split()[-4:] == ["-"] * 4
    assert shell.json("fleet")[0]["outbox_age_ms"] == 90_000
