"""How a forwarded request ended, for the record, the log and the caller."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from sidecar.providers.dialect import AnswerMeter, Ending
from sidecar.proxy.refusals import Refusal, RefusalReason


class Cause(StrEnum):
    """What ended it, finer than `Ending`."""

    COMPLETE = "complete"
    PROVIDER_CUT = "provider_cut"
    PROVIDER_SURPRISE = "provider_surprise"
    UNREACHABLE = "unreachable"
    HEAD_TIMEOUT = "head_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    CALLER_GONE = "caller_gone"
    CALLER_STALLED = "caller_stalled"
    STOPPED = "stopped"
    CREDIT_ENDED = "credit_ended"
    SHED = "shed"  # memory ran out


_ENDINGS: Final = {
    Cause.COMPLETE: Ending.COMPLETE,
    Cause.PROVIDER_CUT: Ending.CUT,
    Cause.PROVIDER_SURPRISE: Ending.CUT,
    Cause.HEAD_TIMEOUT: Ending.TIMED_OUT,
    Cause.IDLE_TIMEOUT: Ending.TIMED_OUT,
    Cause.TOTAL_TIMEOUT: Ending.TIMED_OUT,
    Cause.CALLER_GONE: Ending.ABANDONED,
    Cause.CALLER_STALLED: Ending.ABANDONED,
    Cause.STOPPED: Ending.ABANDONED,
    Cause.CREDIT_ENDED: Ending.LIMITED,
    Cause.SHED: Ending.ABANDONED,
}


def ending_of(cause: Cause, *, sent: bool) -> Ending:
    """The meter's word for it; what was not sent has no other."""
    return _ENDINGS[cause] if sent else Ending.UNSENT


class Outcome(msgspec.Struct, frozen=True):
    """How a request ended, as it stood when `on_end` was called.

    Attributes:
        ending: for the meter.
        cause: for the log.
        detail: of a fault, without any of the provider's text but its parser's.
        status: the provider's; 0 if no head came.
        meter: made at the head; None if none came.
        sent: some of the request may have reached the provider.
        request_bytes: length of the body sent.
        answer_bytes: length of the answer's body so far, as the provider framed it out.
        first_byte_s: from the start of forwarding to the head; 0 if none came.
        duration_s: from the start of forwarding.
    """

    ending: Ending
    cause: Cause
    detail: str
    status: int
    meter: AnswerMeter | None
    sent: bool
    request_bytes: int
    answer_bytes: int
    first_byte_s: float
    duration_s: float

    def refusal(self) -> Refusal:
        """What to tell a caller who got nothing of an answer."""
        if self.ending is Ending.TIMED_OUT:
            return Refusal(RefusalReason.UPSTREAM_TIMEOUT, "the provider did not answer in time; it may bill the call")
        if self.sent:
            return Refusal(RefusalReason.UPSTREAM_BROKEN, "the provider's answer broke; it may bill the call")
        return Refusal(RefusalReason.UPSTREAM_UNREACHABLE, "the provider could not be reached; nothing was sent")
