"""Answers made in the background: their hold waits for what they cost, and is settled once (L25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from sidecar.core.pricing.usage import Line, Tokens, Usage, UsageState
from sidecar.providers.dialect import AnswerMeter, Ending
from sidecar.proxy.background import KEEP_S, WAITING_MAX, Background, Watch
from sidecar.proxy.observe import Unread
from sidecar.proxy.outcomes import Cause, Outcome
from tests.support.clock import FakeClock

QUEUED = Usage(UsageState.ABSENT, provider_request_id="resp_1")
DONE = Usage(UsageState.FINAL, (Line(Tokens(10, output_tokens=5)),), provider_request_id="resp_1")


@dataclass
class Call:
    """One that waits."""

    settled: list[Usage] = field(default_factory=list)

    def meter_for(self, status: int, content_encoding: str, lines: bytes) -> AnswerMeter:
        del status, content_encoding, lines
        return Unread()

    def settle_late(self, outcome: Outcome) -> None:
        assert outcome.meter is not None
        assert (outcome.status, outcome.ending) == (200, Ending.COMPLETE)
        self.settled.append(outcome.meter.usage(outcome.ending))


def outcome(status: int = 200, ending: Ending = Ending.COMPLETE, usage: Usage | None = None) -> Outcome:
    return Outcome(
        ending=ending, cause=Cause.COMPLETE, detail="", status=status, meter=None if usage is None else Unread(usage),
        sent=True, request_bytes=1, answer_bytes=1, first_byte_s=0.1, duration_s=0.2,
    )  # fmt: skip


def waiting(calls: Sequence[str] = ("resp_1",), clock: FakeClock | None = None) -> tuple[Background, list[Call]]:
    background = Background((clock or FakeClock()).monotonic)
    made = [Call() for _ in calls]
    for name, call in zip(calls, made, strict=True):
        usage = Usage(UsageState.ABSENT, provider_request_id=name)
        assert background.takes("openai", call, outcome(), usage)
    return background, made


def watching(background: Background, answer_id: str = "resp_1") -> Watch:
    watch = background.watch("openai", answer_id)
    assert watch is not None
    return watch


def test_the_first_answer_that_is_over_settles_and_no_other_does() -> None:
    """Asked for by two at once, and again: once."""
    background, (call,) = waiting()
    first, second = watching(background), watching(background)
    first.on_end(outcome(usage=QUEUED))
    assert call.settled == []
    first.on_end(outcome(usage=DONE))
    second.on_end(outcome(usage=DONE))
    assert call.settled == [DONE]
    assert background.watch("openai", "resp_1") is None


@pytest.mark.parametrize(
    "answered",
    [
        outcome(404, usage=Usage(UsageState.ERROR, provider_request_id="resp_1")), outcome(502), outcome(),
        outcome(usage=Usage(UsageState.FINAL, provider_request_id="resp_2")),  # not it
        outcome(usage=Usage(UsageState.ERROR)),  # somebody's page
        outcome(usage=Usage(UsageState.PARTIAL, provider_request_id="resp_1")),
    ],
)  # fmt: skip
def test_what_does_not_say_how_it_ended_settles_nothing(answered: Outcome) -> None:
    """Gone, not read, another's, or cut on the way: it is waited for as before."""
    background, (call,) = waiting()
    watching(background).on_end(answered)
    assert (call.settled, len(background)) == ([], 1)


@pytest.mark.parametrize(
    ("ended", "usage"),
    [
        (outcome(), DONE), (outcome(), Usage(UsageState.ERROR, provider_request_id="r")),
        (outcome(), Usage(UsageState.ABSENT)), (outcome(500), QUEUED), (outcome(ending=Ending.UNSENT), QUEUED),
    ],
)  # fmt: skip
def test_only_what_was_taken_and_named_is_waited_for(ended: Outcome, usage: Usage) -> None:
    """Over already, failed, without a name, refused, never sent: settled at once, as any other."""
    assert not Background(FakeClock().monotonic).takes("openai", Call(), ended, usage)


def test_nobody_waits_for_ever_nor_for_any_number() -> None:
    """After KEEP_S, beyond WAITING_MAX and at the end: settled at what is held, for nothing more is known."""
    clock = FakeClock()
    background, (old,) = waiting(clock=clock)
    clock.advance(KEEP_S / 2)
    assert background.takes("openai", new := Call(), outcome(), Usage(UsageState.ABSENT, provider_request_id="resp_2"))
    clock.advance(KEEP_S / 2)
    background.check(clock.monotonic())
    assert (old.settled, new.settled) == ([QUEUED], [])
    background.close()
    assert len(new.settled) == 1

    background, calls = waiting([f"resp_{number}" for number in range(WAITING_MAX + 1)])
    assert (len(background), len(calls[0].settled), calls[1].settled) == (WAITING_MAX, 1, [])


def test_an_id_that_waits_already_is_not_taken_twice() -> None:
    """Else the second would take the first's place, whose hold then nobody ended."""
    background, (call,) = waiting()
    assert not background.takes("openai", Call(), outcome(), QUEUED)
    background.close()
    assert call.settled == [QUEUED]
