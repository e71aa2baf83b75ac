"""The events of a part of a sync, read as far as booking them takes.

Most of an event (what was consulted, what was used, and how) is for those who ask later, and is kept
as it came. Of what is left, most is the same in many calls (who called, on which leases): it is
compared as bytes, and read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sidecar.contract.codec import encode
from sidecar.contract.messages import AnyPart, RecordedPart
from sidecar.core.governance.tenancy import Subject

NOTHING: Final = msgspec.Raw(b"\x90")
"""An empty list, in msgpack."""


class Admitted(msgspec.Struct, gc=False):
    """Of an `Admission`, what booking takes."""

    request_id: str
    subject: msgspec.Raw
    provider: str
    model: str
    admitted_at_ms: int
    currency: str
    budget_leases: msgspec.Raw = NOTHING


class Event(msgspec.Struct, gc=False):
    """Of a `UsageEvent`, what booking takes."""

    admission: Admitted
    charge_atoms: int | None
    paid: tuple[tuple[str, int], ...] = ()


class Recorded(msgspec.Struct):
    """One event: what was read of it, and its bytes."""

    event: Event
    raw: msgspec.Raw
    subject: bytes  # a key of `Events.subjects`


class Events(msgspec.Struct, frozen=True):
    """The events of a part, each id once. `unreadable` counts those that are none."""

    calls: list[Recorded]
    subjects: dict[bytes, Subject]
    unreadable: int

    @property
    def customers(self) -> set[str]:
        """The customers of whom they are."""
        return {subject.customer for subject in self.subjects.values()}


_EVENT = msgspec.msgpack.Decoder(Event)
_EVENTS = msgspec.msgpack.Decoder(list[Event])
_SUBJECT = msgspec.msgpack.Decoder(Subject)
_LEASES = msgspec.msgpack.Decoder(tuple[str, ...])

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_events(part: AnyPart) -> Events:
    """Read a part's events; those that are none are left out and counted."""
    raws = part.events if isinstance(part, RecordedPart) else tuple(msgspec.Raw(encode(one)) for one in part.events)
    calls: dict[str, Recorded] = {}
    subjects: dict[bytes, Subject] = {}
    unreadable = 0
    for event, raw in zip(_decode(raws), raws, strict=True):
        key = b"" if event is None else bytes(event.admission.subject)
        if event is None or not _read_subject(key, subjects):
            unreadable += 1
        else:
            calls.setdefault(event.admission.request_id, Recorded(event, raw, key))
    return Events(list(calls.values()), subjects, unreadable)


def _read_subject(subject: bytes, subjects: dict[bytes, Subject]) -> bool:
    """Have a subject among those that were read; False: it is none."""
    if subject not in subjects:
        try:
            subjects[subject] = _SUBJECT.decode(subject)
        except _UNREADABLE:
            return False
    return True


def read_leases(names: bytes) -> tuple[str, ...] | None:
    """The budgets' leases that an event names; None: they are no list of names."""
    try:
        return _LEASES.decode(names)
    except _UNREADABLE:
        return None


def named_leases(events: Events) -> list[str]:
    """The leases that events name: those of budgets, and those that paid; some more than once."""
    names = [lease for call in events.calls for lease, _ in call.event.paid]
    for leases in {bytes(call.event.admission.budget_leases) for call in events.calls}:
        names += read_leases(leases) or ()
    return names


def _decode(raws: Sequence[msgspec.Raw]) -> Iterable[Event | None]:
    """All of them at once, and one by one only where that fails."""
    count = len(raws).to_bytes(4, "big")
    try:
        return _EVENTS.decode(b"".join((b"\xdd", count, *raws)))  # a msgpack array of so many
    except _UNREADABLE:
        return [_decode_one(raw) for raw in raws]


def _decode_one(raw: msgspec.Raw) -> Event | None:
    try:
        return _EVENT.decode(raw)
    except _UNREADABLE:
        return None
