"""Messages to bytes and back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from sidecar.contract import codec, messages
from sidecar.contract.messages import (
    Admission,
    CustomerPart,
    LeaseGrant,
    LeaseReport,
    ResolveReply,
    ResolveRequest,
    SyncReply,
    SyncRequest,
    UsageEvent,
    lease_account,
    lease_id,
)
from sidecar.core.governance.decisions import Consulted, Decision, Source
from sidecar.core.governance.tenancy import Node, Subject
from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.errors import WireFormatError

SUBJECT = Subject(customer="acme", path=(Node("team", "data"),), user="ada", session="job-7")
DECISION = Decision(
    source=Source.LEASE,
    ceiling_atoms=9,
    standing_age_ms=3,
    lease_age_ms=4,
    plan="default@1",
    rate_card="openai/gpt-4o",
    catalog_sha256="00",
    consulted=(Consulted(kind="budget", id="b", owner="acme", currency="usd", limit=10),),
)
ADMISSION = Admission(
    request_id="req_1",
    subject=SUBJECT,
    provider="openai",
    protocol="openai_chat",
    model="gpt-4o",
    admitted_at_ms=1,
    currency="usd",
    held_atoms=9,
    decision=DECISION,
    budget_leases=("i/budget:b:lifetime:",),
    slices=(("i/grant:g", 9),),
)
EVENT = UsageEvent(
    admission=ADMISSION,
    duration_ms=5,
    status=200,
    ending="complete",
    usage=Usage(UsageState.FINAL, (Line(Tokens(input_tokens=3, output_tokens=0)),), {"search": 1}, raw=b'{"a":1}'),
    charge_atoms=7,
    paid=(("i/grant:g", 7),),
)
SYNC = SyncRequest("s", "i", 10, (CustomerPart("acme", (EVENT,), (LeaseReport("i/grant:g", 2, closed=True),)),))
REPLY = ResolveReply(leases=(LeaseGrant("i/grant:g", 9, 1000, has_more=True),), refusal="")
MESSAGES = (ADMISSION, EVENT, SYNC, REPLY, ResolveRequest("s", "i", SUBJECT, "m", "p", 9, "usd"))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_comes_back_as_it_went(message: msgspec.Struct) -> None:
    """Every field of every kind of message survives the wire."""
    assert codec.decode(codec.encode(message), type(message)) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_any_reader_of_msgpack_understands_a_message(message: msgspec.Struct) -> None:
    """The bytes are the format's, and no dialect of the library's that writes them: its reference reads the same."""
    read = msgpack.unpackb(codec.encode(message), strict_map_key=False)
    assert msgspec.convert(read, type(message)) == message


def test_a_newer_peer_may_add_a_field() -> None:
    """N and N+1 work side by side: what is not known is passed over."""
    plain = msgspec.msgpack.decode(codec.encode(REPLY))
    assert codec.decode(msgspec.msgpack.encode(plain | {"invented_later": [1, 2]}), ResolveReply) == REPLY


@given(st.data())
def test_damaged_bytes_are_a_wire_format_error_or_another_message(data: st.DataObject) -> None:
    """F-05: no byte of a reply, changed, cut or added, raises anything but WireFormatError."""
    good = bytearray(codec.encode(SYNC))
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = data.draw(
        st.sampled_from([bytes(good[:at]), bytes(good) + b"\x00", bytes(good[:at]) + b"\xc1" + bytes(good[at + 1 :])])
    )
    problem: WireFormatError | None = None
    try:
        codec.decode(damaged, SyncRequest)
    except WireFormatError as raised:
        problem = raised
    assert problem is None or "acme" not in str(problem)


@pytest.mark.parametrize("granted", [1.5, "9", None, True, [9]])
def test_an_amount_of_another_type_is_refused(granted: object) -> None:
    """L1: a float or a text is no amount."""
    raw = {"parts": [{"customer": "acme", "leases": [{"lease_id": "i/a", "granted_atoms": granted, "pays_for_ms": 1}]}]}
    with pytest.raises(WireFormatError):
        codec.decode(msgspec.msgpack.encode(raw), SyncReply)


def test_a_message_has_a_size() -> None:
    """A peer cannot make us read without end."""
    with pytest.raises(WireFormatError, match="at most"):
        codec.decode(b"\x00" * (codec.MAX_MESSAGE_BYTES + 1), SyncReply)


def test_a_lease_names_its_account() -> None:
    """One lease per incarnation and account; a child's own slashes do not confuse it."""
    account = "budget:b:2026-11:a@b:c"
    assert lease_account(lease_id("inc_1", account)) == account


def instants_in(kind: inspect.Type, seen: set[type]) -> Iterator[tuple[str, str]]:
    """Fields of a message, and of all within it, that name an instant."""
    if isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
        for field in kind.fields:
            if re.search(r"_at(_ms)?$|until|deadline", field.name):
                yield kind.cls.__name__, field.name
            yield from instants_in(field.type, seen)
    parts = [*getattr(kind, "types", ()), *(getattr(kind, "item_types", None) or ())]
    parts += [getattr(kind, name) for name in ("item_type", "key_type", "value_type") if hasattr(kind, name)]
    for part in parts:
        yield from instants_in(part, seen)


def test_messages_carry_durations_and_no_deadline() -> None:
    """L2: what is an instant all the same is the sender's own, of which the distance counts, or a grant's term."""
    kinds = [
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == messages.__name__
    ]
    seen: set[type] = set()
    found = {one for kind in kinds for one in instants_in(inspect.type_info(kind), seen)}
    assert {SyncRequest, ResolveReply, Admission} <= seen
    assert found == {
        ("SyncRequest", "sent_at_ms"),
        ("RecordedSync", "sent_at_ms"),
        ("Admission", "admitted_at_ms"),
        ("Grant", "effective_at_ms"),
        ("Grant", "expires_at_ms"),
    }
