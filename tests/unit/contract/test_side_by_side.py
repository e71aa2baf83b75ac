"""Two versions of the contract at once: messages as the version before this one had them, both ways.

What is new since is optional: an older ledger passes over it, and an older sidecar leaves it out.
"""

from __future__ import annotations

import msgspec
import pytest

from sidecar.contract import codec
from sidecar.contract.messages import (
    CustomerPart,
    LeaseReport,
    RecordedPart,
    RecordedSync,
    RegisterRequest,
    SidecarState,
    SyncRequest,
)

STATE = SidecarState("1.2.3", 5, 900, 70_000)
REPORT = LeaseReport("i/grant:g", 2, 3, tally_atoms=4, granted_atoms=9)


class OldRegister(msgspec.Struct, frozen=True):
    """`RegisterRequest` before a sidecar said how it is."""

    sidecar: str
    incarnation: str
    version: int = 1
    history_id: str = ""
    heard: int = 0
    caught_up: bool = False


class OldSync(msgspec.Struct, frozen=True, omit_defaults=True):
    """`SyncRequest` before that."""

    sidecar: str
    incarnation: str
    sent_at_ms: int
    parts: tuple[CustomerPart, ...] = ()
    ended: bool = False
    all_booked: bool = False
    version: int = 1
    history_id: str = ""
    heard: int = 0


def test_an_older_ledger_passes_over_how_a_sidecar_is() -> None:
    """A sidecar that was updated first: what the ledger knows of arrives as it was said, and nothing is refused."""
    part = CustomerPart("acme", leases=(REPORT,), heard=3)
    new = SyncRequest("s", "i", 10, (part,), history_id="h", heard=7, state=STATE)
    assert codec.decode(codec.encode(new), OldSync) == OldSync("s", "i", 10, (part,), history_id="h", heard=7)
    recorded = RecordedSync("s", "i", 10, (RecordedPart("acme", leases=(REPORT,), heard=3),), state=STATE)
    assert codec.decode(codec.encode(recorded), OldSync) == OldSync("s", "i", 10, (part,))
    register = RegisterRequest("s", "i", history_id="h", heard=7, caught_up=True, state=STATE)
    old = OldRegister("s", "i", history_id="h", heard=7, caught_up=True)
    assert codec.decode(codec.encode(register), OldRegister) == old


def test_an_older_sidecar_does_not_say_how_it_is() -> None:
    """A ledger that was updated first: None, and not a sidecar without anything in its outbox."""
    part = CustomerPart("acme", leases=(LeaseReport("i/grant:g", 2),))
    sync = codec.decode(codec.encode(OldSync("s", "i", 10, (part,), heard=7)), SyncRequest)
    assert sync == SyncRequest("s", "i", 10, (part,), heard=7)
    assert (sync.state, sync.parts[0].leases[0].tally_atoms) == (None, None)
    register = codec.decode(codec.encode(OldRegister("s", "i")), RegisterRequest)
    assert register == RegisterRequest("s", "i")


@pytest.mark.parametrize("kind", [SyncRequest, RecordedSync, RegisterRequest])
def test_what_a_later_sidecar_adds_is_passed_over(kind: type[msgspec.Struct]) -> None:
    """Also inside of what it says of itself."""
    message = kind("s", "i", **({} if kind is RegisterRequest else {"sent_at_ms": 1}), state=STATE)
    plain = msgspec.msgpack.decode(codec.encode(message))
    plain["invented_later"] = 1
    plain["state"]["invented_later"] = [2]
    assert codec.decode(msgspec.msgpack.encode(plain), kind) == message
