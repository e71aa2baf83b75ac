"""`spend exposure`."""

from __future__ import annotations

import msgspec

from sidecar.core.credits.amounts import Currency
from sidecar.ledger.fleet_views import ExposureView, OutWithView
from sidecar.ledger.views import Money, money
from tests.unit.cli.conftest import Shell

NOON = 1_795_521_600_000


def usd(atoms: int) -> Money:
    return money(atoms, Currency("usd", 9))


def out(shell: Shell) -> None:
    shell.run("customers", "add", "acme")
    holders = (OutWithView("pod-a", usd(30), NOON), OutWithView("pod-b", usd(6), NOON, quarantined=True))
    account = "budget:bud_1:lifetime:"
    row = ExposureView(
        "acme", "acme/team:data", account, "budget", usd(4), usd(0), usd(30), usd(6), usd(0), usd(36), 2, holders,
        unshipped=usd(5),
    )  # fmt: skip
    shell.administration.out.append(row)


def test_what_is_out_is_shown_with_its_holders(shell: Shell) -> None:
    """L48: by account, how much is live and how much in quarantine, and with whom; --json for programs."""
    out(shell)
    shown = shell.run("exposure", "acme").stdout
    for word in (
        "acme/team:data",
        "budget:bud_1:lifetime:",
        "0.000000036",
        "0.000000005 usd",
        "pod-a",
        "pod-b",
        "quarantined",
    ):
        assert word in shown
    assert [one["exposure"]["atoms"] for one in shell.json("exposure", "acme/team:data")] == [36]
    assert "Nothing of acme/team:other" in shell.run("exposure", "acme/team:other").stdout


def test_a_book_that_has_lost_something_does_not_know_it(shell: Shell) -> None:
    """L50a: exposure says "unknown since T", and where to see whom the ledger waits for."""
    out(shell)
    shell.administration.out[0] = msgspec.structs.replace(shell.administration.out[0], unknown_since_ms=NOON)
    said = shell.run("exposure", "acme").stderr
    assert "UNKNOWN since 2026-11-24" in said
    assert "spend ledger learning" in said
