"""`spend outbox`: on the folder of a sidecar, without a ledger."""

from __future__ import annotations

from tests.unit.cli.conftest import Shell
from tests.unit.outbox.test_shipper import Depot


async def test_it_is_listed_and_sent_again(shell: Shell) -> None:
    """For people and for programs; while the sidecar runs it can be looked at alone."""
    depot = Depot(shell.data / "outbox")
    for number in range(2):
        depot.call(f"r{number}")
    (row,) = shell.json("outbox", "list")
    assert (row["segment"], row["settled"], row["waiting"], row["incarnation"]) == (1, 2, 2, "i1")
    assert "WAITING" in shell.run("outbox", "list").stdout
    assert "stop that sidecar first" in shell.run("outbox", "replay", code=1).stderr
    assert await depot.shipper.flush(10.0)
    depot.die()
    assert shell.json("outbox", "replay") == [{"replayed": 2}]
    assert "2 settled calls are sent again" in shell.run("outbox", "replay").stdout
    assert shell.json("outbox", "list")[0]["waiting"] == 2


def test_where_there_is_none(shell: Shell) -> None:
    """It says what to type."""
    assert "--data DIR" in shell.run("outbox", "list", "--data", str(shell.data / "nowhere"), code=1).stderr
