"""Answers that are made after their request was answered: their hold stays open until what they cost is seen, once.

The answer to such a request names an id and no usage. That stands in the answer when it is asked for by its id, as
often as it is asked for: the first that is over settles the call, and no other does. One that nobody comes for is
charged what was held for it, as any call is whose figures never came (L25): after `keep_s`, when too many wait, or
when this process stops; a process that is killed leaves an open admission, which the next start settles likewise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.dialect import AnswerMeter, Ending
from sidecar.proxy.observe import Unread
from sidecar.proxy.outcomes import Outcome
from sidecar.proxy.refusals import Header

WAITING_MAX: Final = 1024
"""Answers that are waited for; one more, and the oldest is settled at its hold."""

KEEP_S: Final = 3600.0
"""How long one is waited for."""

_OVER: Final = frozenset({UsageState.FINAL, UsageState.ERROR})

logger = logging.getLogger(__name__)


class LateCall(Protocol):
    """A call whose settlement waits; see `passage.Passage`."""

    def meter_for(self, status: int, content_encoding: str, lines: bytes) -> AnswerMeter:
        """A meter for an answer that repeats it."""
        ...

    def settle_late(self, outcome: Outcome) -> None:
        """Settle and record it."""
        ...


class _Waiting(NamedTuple):
    call: LateCall
    outcome: Outcome
    usage: Usage
    since: float


class Background:
    """The calls that wait, by provider and answer's id."""

    def __init__(self, monotonic: Callable[[], float], *, keep_s: float = KEEP_S) -> None:
        self._monotonic = monotonic
        self._keep_s = keep_s
        self._waiting: dict[tuple[str, str], _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def takes(self, provider: str, call: LateCall, outcome: Outcome, usage: Usage) -> bool:
        """Whether it is waited for: the provider has taken it, named it, and not said what it cost."""
        answer_id = usage.provider_request_id
        begun = 200 <= outcome.status < 300 and outcome.ending is not Ending.UNSENT
        if not begun or usage.state in _OVER or not answer_id or (provider, answer_id) in self._waiting:
            return False
        while len(self._waiting) >= WAITING_MAX:
            self._give_up(next(iter(self._waiting)))
        kept = msgspec.structs.replace(outcome, meter=None)
        self._waiting[provider, answer_id] = _Waiting(call, kept, usage, self._monotonic())
        return True

    def watch(self, provider: str, answer_id: str) -> Watch | None:
        """What reads an answer that comes back; None where nobody waits for it."""
        waiting = self._waiting.get((provider, answer_id)) if self._waiting else None
        return None if waiting is None else Watch(self, (provider, answer_id), waiting.call)

    def settle(self, key: tuple[str, str], meter: AnswerMeter) -> None:
        """Settle what waits by this reading; does nothing where that was done."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waited_s = self._monotonic() - waiting.since
            outcome = waiting.outcome
            waiting.call.settle_late(
                msgspec.structs.replace(
                    outcome, meter=meter, ending=Ending.COMPLETE, duration_s=outcome.duration_s + waited_s
                )
            )

    def check(self, now: float) -> None:
        """Settle those that were waited for long enough (`Sweep`)."""
        while self._waiting:
            key = next(iter(self._waiting))
            if now - self._waiting[key].since < self._keep_s:
                return
            self._give_up(key)

    def close(self) -> None:
        """Wait for none any more."""
        while self._waiting:
            self._give_up(next(iter(self._waiting)))

    def _give_up(self, key: tuple[str, str]) -> None:
        logger.warning("background_answer_not_seen", extra={"facts": {"provider": key[0], "waiting": len(self)}})
        self.settle(key, Unread(self._waiting[key].usage))


class Watch:
    """Reads one answer on its way back, and settles by it if it is over."""

    def __init__(self, background: Background, key: tuple[str, str], call: LateCall) -> None:
        self._background = background
        self._key = key
        self._call = call

    def meter_for(self, status: int, content_encoding: str, lines: bytes) -> AnswerMeter:
        """As `forward` asks for one."""
        return self._call.meter_for(status, content_encoding, lines)

    def on_end(self, outcome: Outcome) -> Sequence[Header]:
        """Settle, if this is the answer and it is over; a 404, a list of its inputs or anybody's page is not it."""
        meter = outcome.meter
        if meter is not None and 200 <= outcome.status < 300:
            usage = meter.usage(outcome.ending)
            if usage.state in _OVER and usage.provider_request_id == self._key[1]:
                self._background.settle(self._key, meter)
        return ()
