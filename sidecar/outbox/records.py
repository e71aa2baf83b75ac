"""What the outbox records: payloads of frames, and what they add up to.

A payload is a msgpack array: a number for its kind, then what belongs to it. Admissions and
events stand in it as the contract writes them, so that an event goes to the ledger as it was
recorded. Kinds that this version does not know are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import msgspec

from sidecar.contract.codec import decode, encode
from sidecar.contract.messages import Admission, UsageEvent
from sidecar.errors import WireFormatError

VERSION = 1
"""Of the segments' format, in every header."""


class Kind(IntEnum):
    """Numbers on disk: they never change their meaning."""

    HEADER = 0
    ADMIT = 1
    SETTLE = 2
    LEASE = 3
    ENDED = 4
    CLEAN = 5
    MARK = 6  # kept for the durable mark of a later version (L46)


class Header(msgspec.Struct, frozen=True):
    """The first record of a segment: who wrote it, and on which disk, under which running kernel.

    A restart trusts a segment only while it is the very file that it was: a copied volume has
    other inodes, and after a reboot writes that never reached the disk are missing. `follows` is the number of the
    segment before it, 0 where there was none, -1 where it is not said: one that is missing between them was lost.
    """

    version: int
    number: int
    sidecar: str
    incarnation: str
    boot_id: str
    device: int
    inode: int
    pod_uid: str
    follows: int = -1


class LeaseTally(msgspec.Struct):
    """What a restart must know of a lease to close it: how much was granted, and how much is charged."""

    customer: str
    granted_atoms: int
    spent_atoms: int


class _SubjectBrief(msgspec.Struct):
    customer: str


class _AdmissionBrief(msgspec.Struct):
    request_id: str
    budget_leases: tuple[str, ...] = ()
    provider: str = ""
    protocol: str = ""
    subject: _SubjectBrief | None = None


class _UsageBrief(msgspec.Struct):
    provider_request_id: str | None = None


class EventBrief(msgspec.Struct):
    """Of an event only what a restart needs, for the tallies and to know whose an answer is: the rest is not read."""

    admission: _AdmissionBrief
    charge_atoms: int | None
    paid: tuple[tuple[str, int], ...] = ()
    usage: _UsageBrief | None = None


class Unknown(msgspec.Struct, frozen=True):
    """A record of a kind from a later version."""

    kind: int


class Admitted(msgspec.Struct, frozen=True):
    """A call may run."""

    request_id: str
    raw: bytes

    def admission(self) -> Admission:
        """The whole of it; WireFormatError if it is none."""
        return decode(self.raw, Admission)


class Settled(msgspec.Struct, frozen=True):
    """A call was settled."""

    brief: EventBrief
    raw: bytes

    def event(self) -> UsageEvent:
        """The whole of it; WireFormatError if it is none."""
        return decode(self.raw, UsageEvent)


class Noted(msgspec.Struct, frozen=True):
    """A lease, with its totals up to here."""

    lease_id: str
    tally: LeaseTally


class Ended(msgspec.Struct, frozen=True):
    """A lease of which nothing is left to give back."""

    lease_id: str


class Clean(msgspec.Struct, frozen=True):
    """The process stopped in good order: no call was open, every lease closed."""


Record = Header | Admitted | Settled | Noted | Ended | Clean | Unknown

_ENCODER = msgspec.msgpack.Encoder()


def header_record(header: Header) -> bytes:
    """The payload of a segment's first frame."""
    return _ENCODER.encode((int(Kind.HEADER), encode(header)))


def admit_record(admission: Admission) -> bytes:
    """The payload of an admission."""
    return _ENCODER.encode((1, encode(admission)))


def settle_record(event: bytes) -> bytes:
    """The payload of a settlement: its event as `contract.codec` wrote it."""
    return _ENCODER.encode((2, event))


def lease_record(lease_id: str, tally: LeaseTally) -> bytes:
    """The payload of a lease's totals."""
    return _ENCODER.encode((int(Kind.LEASE), tally.customer, lease_id, tally.granted_atoms, tally.spent_atoms))


def ended_record(lease_id: str) -> bytes:
    """The payload of a lease's end."""
    return _ENCODER.encode((int(Kind.ENDED), lease_id))


def clean_record() -> bytes:
    """The payload of a clean stop."""
    return _ENCODER.encode((int(Kind.CLEAN),))


def read_record(payload: bytes) -> Record:
    """A frame's payload as a record.

    Raises:
        WireFormatError: it is none; its checksum was right, so this is a mistake of ours, or forged.
    """
    try:
        parts: Any = msgspec.msgpack.decode(payload, type=list)
        return _read(parts)
    except WireFormatError:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, IndexError, RecursionError):
        raise WireFormatError("outbox", "not a record") from None


def _read(parts: list[Any]) -> Record:
    kind = parts[0]
    if kind == Kind.ADMIT:
        return Admitted(decode(parts[1], _AdmissionBrief).request_id, parts[1])
    if kind == Kind.SETTLE:
        return Settled(decode(parts[1], EventBrief), parts[1])
    if kind == Kind.HEADER:
        return decode(parts[1], Header)
    if kind == Kind.LEASE:
        customer, lease_id, granted, spent = msgspec.convert(parts[1:5], tuple[str, str, int, int])
        return Noted(lease_id, LeaseTally(customer, granted, spent))
    if kind == Kind.ENDED:
        return Ended(msgspec.convert(parts[1], str))
    return Clean() if kind == Kind.CLEAN else Unknown(msgspec.convert(kind, int))


class Tallies:
    """What each lease not yet ended has been charged, by the records so far."""

    def __init__(self, leases: dict[str, LeaseTally] | None = None) -> None:
        self.leases = {} if leases is None else leases

    def note(self, lease_id: str, tally: LeaseTally) -> None:
        """A lease's totals were recorded."""
        self.leases[lease_id] = tally

    def charge(self, budget_leases: Iterable[str], paid: Iterable[tuple[str, int]], charge_atoms: int | None) -> None:
        """A settlement was recorded: each budget's lease bears the whole, each grant's its leg."""
        if not charge_atoms:
            return
        leases = self.leases
        for lease_id in budget_leases:
            tally = leases.get(lease_id)
            if tally is not None:
                tally.spent_atoms += charge_atoms
        for lease_id, atoms in paid:
            tally = leases.get(lease_id)
            if tally is not None:
                tally.spent_atoms += atoms

    def end(self, lease_id: str) -> None:
        """Nothing of a lease is left."""
        self.leases.pop(lease_id, None)
