"""A meter copied in the middle of an answer, so that one byte more need not be all bytes again.

What a meter says of a cut ends its reading, so each cut needs a meter of its own. A copy of one that has read up to
there is that meter, at the cost of a few microseconds; `tests/recordings/test_cut_streams.py` holds copies against
meters that read everything anew.
"""

from __future__ import annotations

from typing import Any

from sidecar.providers.dialect import AnswerMeter
from sidecar.providers.event_stream import EventStream, Veil
from sidecar.providers.metering import Meter, Reading

_HAVE_STATE = (Reading, EventStream, Veil)


def twin(meter: AnswerMeter) -> AnswerMeter:
    """A meter that has read what this one has, and shares nothing with it that either can change.

    Not of a compressed answer: the decoders of two codings cannot be copied.
    """
    assert isinstance(meter, Meter)
    copied: Meter = _copy(meter)
    assert copied._inflater is None, "a decoder cannot be copied"
    return copied


def _copy(original: Any) -> Any:
    copied = object.__new__(type(original))
    for name in (*getattr(original, "__dict__", ()), *_slots(type(original))):
        value = getattr(original, name)
        if isinstance(value, _HAVE_STATE):
            value = _copy(value)
        elif isinstance(value, (bytearray, dict, list, set)):
            value = value.copy()
        object.__setattr__(copied, name, value)
    return copied


def _slots(kind: type) -> tuple[str, ...]:
    if kind not in _SLOTS:
        _SLOTS[kind] = tuple(slot for base in kind.__mro__ for slot in base.__dict__.get("__slots__", ()))
    return _SLOTS[kind]


_SLOTS: dict[type, tuple[str, ...]] = {}
