"""A settlement as a frame, whatever its size: words may be left out, what is charged never.

A provider writes some of the words in a usage (tiers, names, ids). They are cut where they are
read; here is the last line behind that, so that no settlement is lost by being too long.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from sidecar.contract.codec import encode
from sidecar.contract.messages import UsageEvent
from sidecar.core.governance.decisions import NO_FIGURES
from sidecar.core.pricing.usage import Line, Usage
from sidecar.errors import SpoolFull
from sidecar.outbox.frames import frame
from sidecar.outbox.records import settle_record

RAW_DROPPED: Final = "raw_dropped"
"""Noted where the usage object as the provider wrote it is left out of a record."""

WORDS_DROPPED: Final = "words_dropped"
"""Noted where nothing of the usage is recorded but its sum."""

logger = logging.getLogger("sidecar.outbox")


def event_frame(event: UsageEvent) -> tuple[bytes, bytes]:
    """An event's bytes, and the frame around them; of one too long for a frame, what is charged and no words.

    Raises:
        SpoolFull: not even that fits, which cannot be: its admission did.
    """
    for shorter in (_whole, _without_raw, _bare):
        try:
            recorded = encode(shorter(event))
            return recorded, frame(settle_record(recorded))
        except (ValueError, OverflowError) as problem:
            logger.warning(
                "settlement_cut",
                extra={"facts": {"request_id": event.admission.request_id, "problem": type(problem).__name__}},
            )
    raise SpoolFull("the settlement fits no record: its admission alone is too long")


def _whole(event: UsageEvent) -> UsageEvent:
    return event


def _without_raw(event: UsageEvent) -> UsageEvent:
    """The provider's own words are for audit; the counts taken from them are what is charged."""
    usage = msgspec.structs.replace(event.usage, raw=b"", notes=(*event.usage.notes, RAW_DROPPED))
    return msgspec.structs.replace(event, usage=usage)


def _bare(event: UsageEvent) -> UsageEvent:
    """The call's ids, leases and charge alone: the last resort, so that no settlement is lost by being too long."""
    decision = msgspec.structs.replace(event.admission.decision, consulted=(), asked=(), figures=NO_FIGURES)
    admission = msgspec.structs.replace(event.admission, decision=decision)
    usage = Usage(event.usage.state, (Line(event.usage.total()),), notes=(WORDS_DROPPED,))
    return msgspec.structs.replace(event, admission=admission, usage=usage)
