"""An admitted call on its way to the provider and back: metered, and settled exactly once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from sidecar.core.credits.amounts import format_amount
from sidecar.core.governance.decisions import Source
from sidecar.core.pricing.usage import Usage
from sidecar.providers.dialect import AnswerMeter, Dialect, Ending
from sidecar.providers.metering import Meter
from sidecar.proxy.authorize import Admitted, Authority
from sidecar.proxy.background import Background
from sidecar.proxy.contexts import Contexts
from sidecar.proxy.gate import Gate
from sidecar.proxy.log_lines import settled_line
from sidecar.proxy.makers import Makers
from sidecar.proxy.observe import NOTHING_READ, reading
from sidecar.proxy.open_ended import UNBOUNDED
from sidecar.proxy.outcomes import Cause, Outcome
from sidecar.proxy.rates import used_tokens
from sidecar.proxy.recent import RecentDecisions
from sidecar.proxy.record import record
from sidecar.proxy.refusals import Header
from sidecar.proxy.settle import ESTIMATED, IMPLAUSIBLE, OVERRUN, Settlement, settle
from sidecar.telemetry.metrics import Metrics

FROM_PROVIDER: Final[Header] = (b"Spend-Origin", b"provider")
"""On every relayed answer: it is the provider's word, not ours."""

TRAILERS: Final[Header] = (b"Trailer", b"Spend-Charge, Spend-Cut")
"""On an answer that may be ended from inside, and then says so behind its end."""

NO_HEAD: Final = "none"
"""The status class of a call whose answer never began."""

_STATUS_CLASSES: Final = (NO_HEAD, *(f"{hundreds}xx" for hundreds in range(1, 10)))

logger = logging.getLogger(__name__)


class Passage:
    """Makes the call's meter, and settles and records it exactly once, however it ends."""

    __slots__ = (
        "_admitted", "_authority", "_background", "_contexts", "_dialect", "_gate", "_makers", "_metrics",
        "_overhead_s", "_recent", "_settled",
    )  # fmt: skip

    def __init__(
        self,
        admitted: Admitted,
        dialect: Dialect,
        *,
        authority: Authority,
        metrics: Metrics,
        recent: RecentDecisions,
        overhead_s: float,
        contexts: Contexts | None = None,
        makers: Makers | None = None,
        background: Background | None = None,
        gate: Gate | None = None,
    ) -> None:
        """Begin; `overhead_s` is what we have taken so far, for the log and the metric.

        `contexts` learn how long the answer's was; None: nobody can continue it. `makers` learn whose the answer
        is; None: it does not come back, or is the caller's own account's. `background` waits for what it cost;
        None: that stands in this answer. `gate` lets the answer through as its hold grows; None: it was held for whole.
        """
        self._gate = gate
        self._admitted = admitted
        self._contexts = contexts
        self._makers = makers
        self._background = background
        self._dialect = dialect
        self._authority = authority
        self._metrics = metrics
        self._overhead_s = overhead_s
        self._recent = recent
        self._settled = False
        metrics.decisions.add("admitted", admitted.admission.decision.source.value)
        metrics.overhead.observe(overhead_s)
        recent.opened(admitted.call.request_id, admitted)

    def headers(self) -> list[Header]:
        """What a relayed answer gets beside the provider's own headers."""
        prices, left = self._admitted.prices, self._admitted.remaining_atoms
        headers = [FROM_PROVIDER, (b"Spend-Request-Id", self._admitted.call.request_id.encode())]
        if left is not None and prices is not None:
            headers.append((b"Spend-Remaining", format_amount(left, prices.currency).encode()))
        degraded = self._authority.table.degraded
        if degraded:
            on_grace = self._admitted.admission.decision.source is Source.GRACE
            headers.append((b"Spend-Degraded", b"grace" if on_grace else degraded))
        if self._admitted.call.unbounded and prices is not None:
            excess = self._authority.open_ended.excess_atoms(self._admitted.call.request_id)
            headers.append((b"Spend-Unbounded", b"excess=" + format_amount(excess, prices.currency).encode()))
        clamp = self._admitted.call.clamp
        if clamp is not None:
            asked = b"" if clamp.asked is None else b"; asked=%d" % clamp.asked
            headers.append((b"Spend-Clamped", b"%d%b" % (self._admitted.call.facts.ceiling.output_limit or 0, asked)))
        if self._gate is not None and prices is not None:
            excess = self._authority.open_ended.excess_atoms(self._admitted.call.request_id)
            grows = b"grows; excess=" + format_amount(excess, prices.currency).encode()
            headers += ((b"Spend-Hold", grows), TRAILERS)
        return headers

    def meter_for(self, status: int, content_encoding: str, lines: bytes) -> AnswerMeter:
        """The meter for an answer with this head; `lines` are those that are passed on of it."""
        facts = self._admitted.call.facts
        meter = self._dialect.meter(facts, status=status, lines=lines, content_encoding=content_encoding)
        if self._gate is None or not isinstance(meter, Meter):
            return meter
        self._gate.began(meter, status=status, content_encoding=content_encoding)
        return self._gate

    def on_end(self, outcome: Outcome) -> Sequence[Header]:
        """Settle and record; gives the charge as a header, for a caller who has not got the head yet.

        Raises:
            RuntimeError: it was settled before.
        """
        if self._settled:
            raise RuntimeError("a call is settled once")
        self._settled = True
        if self._background is not None and self._waits(outcome, self._background):
            return ()
        return self._settle_now(outcome)

    def settle_late(self, outcome: Outcome) -> None:
        """Settle and record what `background` has waited for; called once."""
        self._settle_now(outcome)

    def _waits(self, outcome: Outcome, background: Background) -> bool:
        """Whether what it cost stands in an answer that is yet to come back."""
        call, usage = self._admitted.call, self._read(outcome)
        if not background.takes(call.provider, self, outcome, usage):
            return False
        self.forget_body()
        if self._makers is not None:
            self._makers.learn(call.provider, call.subject.customer, usage, _kept(outcome))
        return True

    def _settle_now(self, outcome: Outcome) -> Sequence[Header]:
        admitted, authority = self._admitted, self._authority
        settlement = self._settle(outcome)
        if admitted.call.start is not None:
            authority.open_ended.closed(admitted.call.request_id)
            self._learn_of_growing(settlement)
        if admitted.call.unbounded:
            authority.open_ended.closed(admitted.call.request_id)
            settlement = msgspec.structs.replace(settlement, flags=(*settlement.flags, UNBOUNDED))
        event, recorded = record(
            admitted,
            settlement,
            outcome,
            spool=authority.spool,
            table=authority.table,
            metrics=self._metrics,
        )
        if self._contexts is not None:
            self._contexts.learn(admitted.call.facts.model, event.usage)
        if self._makers is not None:
            customer = admitted.call.subject.customer
            self._makers.learn(admitted.call.provider, customer, event.usage, _kept(outcome))
        if admitted.room is not None:
            admitted.room.settle(used_tokens(event))
        self._recent.remember(self._admitted.call.request_id, recorded)
        self._metrics.settlements.add(outcome.ending.value, "no" if ESTIMATED in event.flags else "yes")
        self._metrics.requests.add(self._admitted.call.provider, status_class(outcome.status))
        prices = admitted.prices
        level = logging.INFO if event.flags else logging.DEBUG
        if IMPLAUSIBLE in event.flags:
            level = logging.WARNING
        if logger.isEnabledFor(level):
            line = settled_line(
                event, outcome, None if prices is None else prices.currency, overhead_s=self._overhead_s
            )
            logger.log(level, "request_settled", extra={"facts": line})
        if event.charge_atoms is None or prices is None:
            return ()
        if not event.flags:  # the provider's own figures
            kind = admitted.call.kind(prices.currency.code)
            authority.expected.learn(kind, event.charge_atoms)
            if admitted.call.stops_billing and admitted.call.facts.stream:
                self._learn_density(kind, outcome, event.usage)
        return ((b"Spend-Charge", format_amount(event.charge_atoms, prices.currency).encode()),)

    def _learn_density(self, kind: tuple[str, str, str, str], outcome: Outcome, usage: Usage) -> None:
        """Learn how many tokens such streams have in what they show: what may grow is read by that (`gate`)."""
        meter = outcome.meter
        counted = meter.counted if isinstance(meter, Gate | Meter) else None
        tokens = usage.total().output_tokens
        if counted is not None and tokens is not None:
            self._authority.expected.learn_density(kind, tokens, counted[1])

    def _learn_of_growing(self, settlement: Settlement) -> None:
        """An answer that came whole, or passed its hold: such calls are held for whole for a while."""
        gate, prices = self._gate, self._admitted.prices
        if gate is not None and prices is not None and (gate.whole or OVERRUN in settlement.flags):
            kind = self._admitted.call.kind(prices.currency.code)
            self._authority.expected.outgrew(kind, self._authority.clock.monotonic())
            self._metrics.growths.add("outgrown")

    def forget_body(self) -> None:
        """Hold the request's body no longer: a stream may run for long."""
        call = self._admitted.call
        self._admitted.call = msgspec.structs.replace(call, facts=msgspec.structs.replace(call.facts, body=b""))

    def close(self) -> None:
        """Settle it as an unknown outcome if nothing else has; does nothing after `on_end`."""
        if self._gate is not None:
            self._gate.close()
        if not self._settled:
            self.on_end(_unknown(len(self._admitted.call.facts.body)))

    def _settle(self, outcome: Outcome) -> Settlement:
        if self._gate is not None and outcome.ending is Ending.CUT:
            self._gate.growth.reach_for_all()  # nobody hung up: the provider may have gone on to the bound
        held_atoms, prices = self._admitted.admission.held_atoms, self._admitted.prices
        try:
            return settle(held_atoms, prices, reading(outcome), ending=outcome.ending, status=outcome.status)
        except Exception:  # a meter's fault must not leave a hold open: then nothing was read
            logger.exception("reading_failed", extra={"facts": {"request_id": self._admitted.call.request_id}})
            return settle(held_atoms, prices, NOTHING_READ, ending=outcome.ending, status=outcome.status)

    def _read(self, outcome: Outcome) -> Usage:
        try:
            return reading(outcome)
        except Exception:  # it is asked again when it is settled, and said then
            return NOTHING_READ


def status_class(status: int) -> str:
    """`2xx` and so on, for a metric's label."""
    return _STATUS_CLASSES[status // 100]


def _kept(outcome: Outcome) -> tuple[str, ...]:
    """Ids by which parts of the answer come back, as far as they were read."""
    return outcome.meter.kept if isinstance(outcome.meter, Gate | Meter) else ()


def _unknown(request_bytes: int) -> Outcome:
    """The outcome of a call that a fault of ours ended before its forwarding told one: it may have been sent."""
    return Outcome(
        ending=Ending.ABANDONED,
        cause=Cause.STOPPED,
        detail="",
        status=0,
        meter=None,
        sent=True,
        request_bytes=request_bytes,
        answer_bytes=0,
        first_byte_s=0.0,
        duration_s=0.0,
    )
