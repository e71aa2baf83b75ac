"""Looking at an outbox, and having it sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.outbox.inspecting import look_at, send_again
from sidecar.outbox.segments import segment_path
from tests.unit.outbox.test_shipper import Depot


async def test_it_tells_what_waits(tmp_path: Path) -> None:
    """Also while its sidecar writes: calls admitted, settled, and not acknowledged."""
    depot = Depot(tmp_path)
    for number in range(3):
        depot.call(f"r{number}")
    assert [(one.admitted, one.settled, one.waiting, one.damaged_bytes) for one in look_at(tmp_path)] == [(3, 3, 3, 0)]
    assert await depot.shipper.flush(10.0)
    depot.call("r3")
    (one,) = look_at(tmp_path)
    assert (one.segment, one.incarnation, one.settled, one.waiting, one.bytes) == (1, "i1", 4, 1, depot.spool.size)


async def test_what_was_acknowledged_is_sent_again(tmp_path: Path) -> None:
    """F-06, L29: to a ledger that lost it without a sign; one that has it books nothing twice."""
    depot = Depot(tmp_path)
    for number in range(3):
        depot.call(f"r{number}")
    assert await depot.shipper.flush(10.0)
    with pytest.raises(ConfigurationError, match="another process"):
        send_again(tmp_path)
    depot.die()
    assert send_again(tmp_path) == 3
    del depot.ledger.booked["r1"]
    after = Depot(tmp_path, depot.ledger, "i2")
    assert (after.shipper.depth, after.shipper.is_replaying) == (3, True)
    assert await after.shipper.flush(10.0)
    assert set(depot.ledger.booked) == {"r0", "r1", "r2"}
    assert (after.shipper.depth, after.shipper.is_replaying) == (0, False)


async def test_damage_is_counted(tmp_path: Path) -> None:
    """F-43: and what stands behind it is not lost sight of."""
    depot = Depot(tmp_path)
    for number in range(3):
        depot.call(f"r{number}")
    depot.die()
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (one,) = look_at(tmp_path)
    assert one.damaged_bytes
    assert one.admitted + one.settled == 5


def test_where_there_is_none(tmp_path: Path) -> None:
    """It is said, and nothing is made."""
    for work in (look_at, send_again):
        with pytest.raises(ConfigurationError, match="expected an outbox"):
            work(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
