"""A proper end for a stream that we end ourselves, before its provider does.

A stream that merely stops is taken for complete by some clients. So one that outgrows what can be paid for is ended in
its own protocol: as an answer that reached its output limit, or, where a shortened answer is worth nothing, as a
failure. What is still open in it (a block, an item) is closed first; so a writer follows the events that passed.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sidecar.providers.counters import decode_object
from sidecar.providers.event_stream import EventStream

ENCODER: Final = msgspec.json.Encoder()
_FRAMED_OTHERWISE: Final = b"{[<"
"""What a stream of server-sent events does not begin with."""


class Cut(msgspec.Struct, frozen=True):
    """Why and where a stream is ended.

    Attributes:
        reason: a word of `decisions.Reason`.
        detail: a sentence for a person.
        request_id: ours.
        input_tokens: of the prompt, as the call is charged; not what the provider counted.
        output_tokens: of what was passed on, likewise.
    """

    reason: str
    detail: str
    request_id: str
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def spend(self) -> dict[str, Any]:
        """Our own facts, for the member `spend` of the last event."""
        return {"cut": self.reason, "message": self.detail, "request_id": self.request_id}


class StreamEnd:
    """Follows one stream of a protocol, and writes its end. Of server-sent events, unless said otherwise.

    `repeats`: its end has words of the provider's in it, which may be a key that nobody is to see.
    """

    repeats = True

    def framing(self, first: bytes) -> EventStream | None:
        """What cuts the answer into events, by its first byte that is not blank; None: it is no stream."""
        return None if not first or first[:1] in _FRAMED_OTHERWISE else EventStream()

    def see(self, name: bytes, data: bytes) -> None:
        """Take in an event that is passed on. Never raises: what makes no sense is passed over."""
        if self.concerns(name, data):
            members = decode_object(data)
            if members is not None:
                self.take(name, members)

    def concerns(self, name: bytes, data: bytes) -> bool:
        """Whether anything in an event matters to its end; runs on every one."""
        del name, data
        return True

    def take(self, name: bytes, members: dict[str, Any]) -> None:
        """Take in what an event says."""
        raise NotImplementedError

    def shortened(self, cut: Cut) -> bytes:
        """The bytes that end it as one that reached its output limit."""
        raise NotImplementedError

    def failed(self, cut: Cut) -> bytes:
        """The bytes that end it as one that failed, so that its client raises."""
        raise NotImplementedError


def event(data: dict[str, Any], *, name: str = "") -> bytes:
    """One server-sent event."""
    line = f"event: {name}\n".encode() if name else b""
    return line + b"data: " + ENCODER.encode(data) + b"\n\n"


def number_of(value: object) -> int | None:
    """A whole number that a provider gives, None for anything else."""
    return value if type(value) is int and value >= 0 else None
