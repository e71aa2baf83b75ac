"""`spend leases`."""

from __future__ import annotations

from sidecar.core.credits.amounts import Currency
from sidecar.ledger.fleet_views import LeaseView
from sidecar.ledger.views import money
from tests.unit.cli.conftest import Shell

NOON = 1_795_521_600_000
LEASE = "inc_1/budget:bud_1:lifetime:"


def silent(shell: Shell) -> None:
    shell.run("customers", "add", "acme")
    amount = money(40, Currency("usd", 9))
    shell.administration.unheard.append(
        LeaseView("acme", LEASE, "budget:bud_1:lifetime:", "pod-a", "unaccounted", NOON, amount)
    )


def test_nothing_is_out(shell: Shell) -> None:
    """L46: every sidecar is heard, and says so."""
    assert "is heard" in shell.run("leases", "list").stdout


def test_what_is_out_is_listed(shell: Shell) -> None:
    """L46: whose, which lease, with whom, since when, how much."""
    silent(shell)
    shown = shell.run("leases", "list").stdout
    for word in ("acme", LEASE, "pod-a", "unaccounted", "2026-11-24", "0.00000004"):
        assert word in shown
    assert [one["state"] for one in shell.json("leases", "list")] == ["unaccounted"]


def test_what_became_of_it_is_said(shell: Shell) -> None:
    """L46: with a reason; and how it is said otherwise."""
    silent(shell)
    assert shell.run("leases", "resolve", "acme", LEASE, "--as", "spent", code=2).stderr
    done = shell.run("leases", "resolve", "acme", LEASE, "--as", "spent", "--reason", "its log says so")
    assert "spent" in done.stdout
    assert f"spend leases resolve acme {LEASE} --as unaccounted --reason WHY" in done.stderr
    done = shell.run("leases", "resolve", "acme", LEASE, "--as", "returned", "--reason", "its volume is gone")
    assert "can be lent again" in done.stdout
