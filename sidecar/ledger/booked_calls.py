"""Settled calls as the book keeps them: many in one entry, each as it was recorded.

An entry of kind `usage` is one posting for all calls of a batch. Its legs are their sums; its facts
say how many they are and the SHA-256 of the bytes that stand beside its text. Those bytes hold the
calls in the order booked: the event as the sidecar wrote it, untouched, and what the ledger adds.
What most calls have in common (where the caller stands, which accounts are charged) stands once in
a *shape*. What a call moved follows from its shape and its event; a call for which the ledger had to
find the money elsewhere has its legs written out.

The bytes are msgpack, compressed by zlib: calls of one batch are so alike that a tenth is left.
An entry from before this has one call, its text alone, and no such bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sidecar.contract.codec import MAX_MESSAGE_BYTES, decode
from sidecar.contract.messages import UsageEvent
from sidecar.core.credits.burn_order import BURN_ORDER
from sidecar.core.credits.entries import PostingError
from sidecar.ledger.posting import CONSUMED, LEASED, Legs
from sidecar.ledger.usage_facts import UsageFacts

FORMAT: Final = 1
"""Of the bytes, their first member."""

COMPRESSION: Final = 1
"""Of zlib: what is alike in a batch is found at the fastest level already."""

MIN_WINDOW_BITS: Final = 10
"""Of zlib: a window of 1 KiB."""

MAX_CALLS_BYTES: Final = 4 * MAX_MESSAGE_BYTES
"""Of one entry's calls before compression: the events of a message, and what the ledger adds to each."""

CHARGE_REFUSED: Final = "charge_refused"
"""The flag of a charge that no book could hold: it is recorded as unknown."""


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """What calls have in common. `path` is canonical, as text.

    Each of `charged` (account, bucket) gives the whole charge to `consumed`; each of `paying` the
    leg that the event names in the same place of `paid`, from what was lent.
    """

    path: str
    charged: tuple[tuple[str, str], ...] = ()
    paying: tuple[str, ...] = ()


class BookedCall(msgspec.Struct, frozen=True, array_like=True):
    """One call. `event` is a UsageEvent as `contract.codec` wrote it.

    `flags` are the ledger's own, beside the event's. `legs` None: they follow from the shape.
    """

    shape: int
    occurred_at_ms: int
    event: msgspec.Raw
    flags: tuple[str, ...] = ()
    debt_atoms: int = 0
    legs: tuple[tuple[str, str, str, int], ...] | None = None


class _Batch(msgspec.Struct, frozen=True, array_like=True):
    version: int
    sidecar: str
    incarnation: str
    shapes: tuple[Shape, ...]
    calls: tuple[msgspec.Raw, ...]


class _Amounts(msgspec.Struct, gc=False):
    """As much of an admission as tells what was moved."""

    request_id: str
    currency: str


class _Charge(msgspec.Struct, gc=False):
    admission: _Amounts
    charge_atoms: int | None
    paid: tuple[tuple[str, int], ...] = ()


_ENCODER = msgspec.msgpack.Encoder()
_BATCH = msgspec.msgpack.Decoder(_Batch)
_CALL = msgspec.msgpack.Decoder(BookedCall)
_CHARGE = msgspec.msgpack.Decoder(_Charge)


def write_call(shape: int, occurred_at_ms: int, event: msgspec.Raw, *added: tuple[str, ...] | int | Legs) -> bytes:
    """One call's bytes: the members of `BookedCall`; those after the event only where they say something."""
    return _ENCODER.encode((shape, occurred_at_ms, event, *added))


def write_batch(sidecar: str, incarnation: str, shapes: Sequence[Shape], calls: Iterable[bytes]) -> bytes:
    """What stands beside an entry."""
    whole = _ENCODER.encode((FORMAT, sidecar, incarnation, shapes, [msgspec.Raw(call) for call in calls]))
    # A window no larger than what there is to look at: to make one of 32 KiB ready costs many times what it takes to
    # compress two calls.
    window_bits = min(max(len(whole).bit_length(), MIN_WINDOW_BITS), zlib.MAX_WBITS)
    compressing = zlib.compressobj(COMPRESSION, zlib.DEFLATED, window_bits, window_bits - 7)
    return compressing.compress(whole) + compressing.flush()


class Batch:
    """The calls of one entry, read back.

    Attributes:
        calls: their bytes, in the order booked.
    """

    def __init__(self, stored: bytes) -> None:
        """Open them, without reading any.

        Raises:
            PostingError: they are none, or of another version.
        """
        try:
            inflating = zlib.decompressobj()
            whole = inflating.decompress(stored, MAX_CALLS_BYTES)
            if inflating.unconsumed_tail or not inflating.eof:
                raise PostingError("an entry's calls are cut off, or too many")
            self._batch = _BATCH.decode(whole)
        except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise PostingError("not the calls of an entry") from None
        if self._batch.version != FORMAT:
            raise PostingError(f"calls of version {self._batch.version}; this reads {FORMAT}")
        self.calls = self._batch.calls

    def call(self, position: int) -> BookedCall:
        """One of them.

        Raises:
            PostingError: it is none.
        """
        try:
            call = _CALL.decode(self.calls[position])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise PostingError(f"call {position} is none") from None
        if not 0 <= call.shape < len(self._batch.shapes):
            raise PostingError(f"call {position} has no shape")
        return call

    def path(self, call: BookedCall) -> str:
        """Where its caller stands, as text."""
        return self._batch.shapes[call.shape].path

    def moved(self, call: BookedCall) -> tuple[str, Legs]:
        """A call's request id, and its legs.

        Raises:
            PostingError: its event is none.
        """
        try:
            charge = _CHARGE.decode(call.event)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise PostingError("a call's event is none") from None
        if call.legs is not None:
            return charge.admission.request_id, list(call.legs)
        shape, currency = self._batch.shapes[call.shape], charge.admission.currency
        atoms = charge.charge_atoms or 0
        givers = [(account, bucket, atoms) for account, bucket in shape.charged]
        givers += [(account, LEASED, leg) for account, (_, leg) in zip(shape.paying, charge.paid, strict=False)]
        legs: Legs = []
        for account, bucket, given in givers:
            if given:
                legs += [(account, bucket, currency, -given), (account, CONSUMED, currency, given)]
        return charge.admission.request_id, legs

    def facts(self, call: BookedCall) -> UsageFacts:
        """All that is known of it.

        Raises:
            WireFormatError: its event is none.
        """
        event = decode(bytes(call.event), UsageEvent)
        admission, subject = event.admission, event.admission.subject
        return UsageFacts(
            admission.request_id,
            self.path(call),
            subject.user,
            subject.agent,
            subject.session,
            subject.feature,
            subject.product,
            admission.provider,
            admission.protocol,
            admission.model,
            event.usage.state,
            event.usage.tier or "",
            event.status,
            event.ending,
            event.duration_ms,
            admission.currency,
            None if CHARGE_REFUSED in call.flags else event.charge_atoms,
            admission.held_atoms,
            call.debt_atoms,
            self._batch.sidecar,
            self._batch.incarnation,
            admission.budget_leases,
            event.paid,
            BURN_ORDER if event.paid else "",
            event.usage,
            admission.decision,
            tuple(dict.fromkeys((*event.flags, *call.flags))),
        )
