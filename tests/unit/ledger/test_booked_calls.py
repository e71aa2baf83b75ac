"""Calls of one entry are kept as they were recorded, and read back as they were."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from sidecar.contract.codec import encode
from sidecar.contract.messages import UsageEvent
from sidecar.core.credits.entries import PostingError
from sidecar.ledger import booked_calls
from sidecar.ledger.booked_calls import FORMAT, Batch, Shape, write_batch, write_call
from tests.support.calls import admission, event

SHAPES = (
    Shape("team:data", (("budget:b:lifetime:", "leased"), ("budget:c:lifetime:", "available")), ("grant:g", "grant:h")),
    Shape("team:none"),
)
NO_EVENT = msgspec.Raw(b"\x80")


def settled(name: str, charge: int, paid: tuple[tuple[str, int], ...] = ()) -> UsageEvent:
    return event(admission(name, charge), charge, paid)


def raw(one: UsageEvent) -> msgspec.Raw:
    return msgspec.Raw(encode(one))


def batch() -> bytes:
    """A call whose legs follow from its shape, and one for which they are written out."""
    plain = settled("r1", 9, (("i/grant:g", 4), ("i/grant:h", 5)))
    odd = settled("r2", 7)
    return write_batch(
        "s1",
        "i",
        SHAPES,
        [
            write_call(0, 50, raw(plain)),
            write_call(1, 60, raw(odd), ("late", "overrun"), 3, [("debt:usd", "source", "usd", -3)]),
        ],
    )


def test_a_call_moves_what_its_shape_says() -> None:
    """L6, L12: the whole charge on each budget, each grant's own leg, and what the ledger found elsewhere."""
    found = Batch(batch())
    assert found.moved(found.call(0)) == (
        "r1",
        [
            ("budget:b:lifetime:", "leased", "usd", -9),
            ("budget:b:lifetime:", "consumed", "usd", 9),
            ("budget:c:lifetime:", "available", "usd", -9),
            ("budget:c:lifetime:", "consumed", "usd", 9),
            ("grant:g", "leased", "usd", -4),
            ("grant:g", "consumed", "usd", 4),
            ("grant:h", "leased", "usd", -5),
            ("grant:h", "consumed", "usd", 5),
        ],
    )
    assert found.moved(found.call(1)) == ("r2", [("debt:usd", "source", "usd", -3)])


def test_everything_about_a_call_is_read_back() -> None:
    """Attribution, usage and decision as the sidecar recorded them; place, debt and flags as the ledger found."""
    found = Batch(batch())
    sent = settled("r1", 9, (("i/grant:g", 4), ("i/grant:h", 5)))
    facts = found.facts(found.call(0))
    assert (facts.path, facts.sidecar, facts.incarnation) == ("team:data", "s1", "i")
    assert (facts.usage, facts.decision, facts.paid) == (sent.usage, sent.admission.decision, sent.paid)
    assert (facts.charge_atoms, facts.flags, facts.debt_atoms) == (9, (), 0)
    other = found.facts(found.call(1))
    assert (other.path, other.flags, other.debt_atoms) == ("team:none", ("late", "overrun"), 3)


def test_a_refused_charge_is_unknown() -> None:
    """L5: what no book can hold is not read as if it had been charged."""
    call = write_call(1, 60, raw(settled("r1", 7)), ("charge_refused",), 0, [])
    found = Batch(write_batch("s1", "i", SHAPES, [call]))
    assert found.facts(found.call(0)).charge_atoms is None


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x00",
        batch()[:-1],
        zlib.compress(b"\x01"),
        zlib.compress(msgspec.msgpack.encode((FORMAT + 1, "s", "i", (), ()))),
    ],
)
def test_what_are_no_calls_is_told(stored: bytes) -> None:
    """Cut off, not compressed, something else, of a later version."""
    with pytest.raises(PostingError):
        Batch(stored)


def test_what_blows_up_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that become very many are refused before they are all there."""
    monkeypatch.setattr(booked_calls, "MAX_CALLS_BYTES", 1000)
    with pytest.raises(PostingError, match="too many"):
        Batch(zlib.compress(bytes(10**6)))


@pytest.mark.parametrize("call", [b"\xc0", write_call(2, 1, NO_EVENT), write_call(-1, 1, NO_EVENT)])
def test_a_call_that_is_none_is_told(call: bytes) -> None:
    """Something else, or of a shape that is not there."""
    found = Batch(write_batch("s", "i", SHAPES, [call]))
    with pytest.raises(PostingError):
        found.call(0)


def test_an_event_that_is_none_is_told() -> None:
    """Its call can be read, what it moved cannot."""
    found = Batch(write_batch("s", "i", SHAPES, [write_call(0, 1, NO_EVENT)]))
    with pytest.raises(PostingError):
        found.moved(found.call(0))
