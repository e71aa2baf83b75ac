"""Lets a stream pass as far as it is paid for, where its hold grows with it, and ends it where it grows no more.

Every event of the answer is read before it is passed on. What it shows is compared with what the hold covers, a token
a byte: more no tokenizer makes of it. Where that is not enough, the hold grows, at once if it can be here, else the
caller waits and the ledger is asked.

Most streams bill a quarter of that. So one that waits is read on, unseen, as long as what is held is likely to pay for
it: by the most tokens a byte that such streams were billed lately, three quarters of one before that is known. If it
ends meanwhile and its provider's own figures are covered, all of it passes. Beyond what is likely covered the provider
is not read.

Where nothing more can be held, what is likely not covered is dropped, the stream gets a proper end in its caller's own
protocol, and the connection to the provider is closed: the call is charged its prompt and what was counted (L25), which
is never more than what is held. So a caller sees whole events only.

What cannot be read as a stream cannot be ended as one: a compressed answer is passed on as it comes while it is
covered, and then cut. An answer that is no stream was made whole before its first byte, so nothing is left to be saved;
nor is of a stream that has come whole before it could be ended: it is charged what its provider says of it (L17). By
how much that may pass what is held is told beforehand (`open_ended`), and such calls are held for whole from then on
(`expectations`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from sidecar.core.governance.decisions import Reason
from sidecar.core.pricing.usage import Usage, UsageState
from sidecar.providers.content_decoding import GZIP_MAGIC
from sidecar.providers.dialect import Ending
from sidecar.providers.event_stream import EventStream
from sidecar.providers.growing_streams import end_for, likely_tokens, most_tokens
from sidecar.providers.metering import METER_DEGRADED, Meter
from sidecar.providers.stream_end import Cut, StreamEnd
from sidecar.proxy.authorize import Admitted, Authority
from sidecar.proxy.growth import Growth
from sidecar.proxy.observe import NOTHING_READ
from sidecar.proxy.outcomes import Cause
from sidecar.proxy.refusals import Header
from sidecar.telemetry.metrics import Metrics

WAITING_BYTES_MAX: Final = 4 * 2**20
"""Of an answer that waits for credit; more is one read, or a very long event, since the provider is read no further."""

AHEAD_BYTES_MAX: Final = 512 * 1024
"""Of an answer that waits for credit the provider is read so far ahead."""

OnCap = Literal["end", "error"]
"""How a stream is ended from inside: as an answer that reached its limit, or as one that failed."""

LEAD_TOKENS: Final = 64
"""Asked for beyond what a stream that is read on, unseen, is likely to need so far: or it would ask at each event."""

_BLANK: Final = b" \t\r\n\xef\xbb\xbf"

logger = logging.getLogger(__name__)


class Passing(Protocol):
    """The exchange that the answer belongs to."""

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end, of whatever kind."""
        ...

    def hold_on(self) -> None:
        """Read no more of the answer until `go_on`."""
        ...

    def go_on(self, *, complete: bool) -> None:
        """Pass on what was held back, and read on."""
        ...

    def conclude(self, cause: Cause, shown: bytes, last: bytes, headers: tuple[Header, ...], *, repeats: bool) -> None:
        """End it before its end, properly: what is still shown of it, our last bytes, trailers; see `StreamEnd`."""
        ...

    def end(self, cause: Cause, detail: str = "") -> None:
        """End it before its end by cutting it."""
        ...


class _Waiting(NamedTuple):
    """An event that was read: what of it may be shown, and what it says.

    `needed` output tokens are in it and all before it at most, None where that cannot be told; `likely` so many.
    """

    shown: bytes
    name: bytes
    data: bytes
    needed: int | None
    likely: int


class Gate:
    """One answer's. `is_over`: all of it has come and was let through.

    `waits`: part of it has come that is not covered yet. `holds`: and no more of it is to be read.
    """

    __slots__ = (
        "_asks",
        "_complete",
        "_density",
        "_end",
        "_exchange",
        "_fails",
        "_fits",
        "_free",
        "_growth",
        "_lost",
        "_meter",
        "_queue",
        "_queued_bytes",
        "_request_id",
        "_stream",
        "_task",
        "holds",
        "is_over",
        "waits",
        "whole",
    )

    def __init__(self, growth: Growth, end: StreamEnd, *, request_id: str, fails: bool, density: int) -> None:
        """Make one.

        Args:
            growth: the call's hold.
            end: writes the stream's end.
            request_id: the call's.
            fails: where it ends the stream, the end is an error and not a shortened answer.
            density: output tokens of a thousand visible bytes, hardly ever more.
        """
        self._growth = growth
        self._end = end
        self._request_id = request_id
        self._fails = fails
        self._density = density
        self._exchange: Passing | None = None
        self._meter: Meter | None = None
        self._stream: EventStream | None = None
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._free = False  # nothing is held back of it
        self._fits = False  # all of it has come, and its own figures say that what is held is enough
        self._lost = False  # it cannot be read as a stream: it can only be cut
        self._complete = False
        self._asks = False
        self._task: asyncio.Task[None] | None = None
        self.holds = False
        self.is_over = False
        self.waits = False
        self.whole = False  # it is no stream, though one was asked for

    @property
    def counted(self) -> tuple[int, int] | None:
        """See `Meter`."""
        return None if self._meter is None else self._meter.counted

    @property
    def kept(self) -> tuple[str, ...]:
        """See `Meter`."""
        return () if self._meter is None else self._meter.kept

    @property
    def growth(self) -> Growth:
        """The call's hold."""
        return self._growth

    def attach(self, exchange: Passing) -> None:
        """Say what is to be held up and ended."""
        self._exchange = exchange

    def began(self, meter: Meter, *, status: int, content_encoding: str) -> None:
        """The answer's head is here, and its meter is made."""
        self._meter = meter
        self._free = not 200 <= status < 300
        self._lost = bool(content_encoding)

    def take(self, piece: bytes, *, complete: bool) -> bytes:
        """Take the answer's next bytes; gives what of all that came may be passed on now."""
        meter = self._meter
        if meter is None:
            raise RuntimeError("a piece of an answer without a meter")
        ends = complete and not self._complete
        self._complete = self._complete or complete
        if not self._free:
            self._cut_up(piece, meter, complete=ends)
        if self._free:
            self.is_over = self._complete
            return meter.feed(piece) if piece else b""
        return self._release(meter)

    # -- `AnswerMeter`, for the exchange, which is shown what was let through

    def feed(self, piece: bytes) -> bytes:
        """The piece itself: it was read before it was let through."""
        return piece

    def flush(self) -> bytes:
        """See `AnswerMeter`."""
        return b"" if self._meter is None else self._meter.flush()

    def finished(self) -> bool:
        """See `AnswerMeter`; not before all that was read is let through."""
        return self._meter is not None and not self.waits and self._meter.finished()

    def usage(self, ending: Ending) -> Usage:
        """See `AnswerMeter`; of what could not be cut into events some was not read, whatever the meter saw."""
        if self._meter is None:
            return NOTHING_READ
        found = self._meter.usage(ending)
        if self._lost and self._stream is not None:
            return msgspec.structs.replace(found, notes=(*found.notes, METER_DEGRADED))
        return found

    def close(self) -> None:
        """The call is over: ask for nothing more."""
        if self._task is not None:
            self._task.cancel()

    # -- cutting it into events

    def _cut_up(self, piece: bytes, meter: Meter, *, complete: bool) -> None:
        if self._lost:
            if piece:
                self._read(piece, meter)
            return
        stream = self._stream
        if stream is None:
            body = piece.lstrip(_BLANK)
            self._lost = body.startswith(GZIP_MAGIC[:1])
            if self._lost or not body:
                self._read(piece, meter)
                return
            stream = self._stream = self._end.framing(body)
            if stream is None:
                self._free = self.whole = True
                return
        run = stream.feed(piece)
        # What is too long to be cut up cannot be counted either.
        self._lost = bool(stream.skipped) or self._queued_bytes + len(piece) > WAITING_BYTES_MAX
        at = 0
        for start, event in stream.split(run) if run else ():
            end = start + len(event)
            self._read(run[at:end], meter)
            at = end
        if complete and (rest := stream.rest()):
            self._read(rest, meter, surplus=len(rest))
        elif self._lost:
            self._read(b"", meter)

    def _read(self, raw: bytes, meter: Meter, *, surplus: int = 0) -> None:
        """Count an event, and keep it; `surplus` of its bytes the meter counts only at the very end."""
        lost = self._lost
        name, data = (b"", b"") if lost or self._stream is None else self._stream.read(raw)
        shown, counted = meter.feed(raw), meter.counted
        needed, likely = None, 0
        if counted is not None and not (lost and self._stream is not None):
            pieces, visible_bytes = counted
            most = self._growth.limit
            needed = min(most, most_tokens(pieces, visible_bytes + surplus))
            likely = min(most, likely_tokens(pieces, visible_bytes + surplus, self._density))
        self._queue.append(_Waiting(shown, name, data, needed, likely))
        self._queued_bytes += len(shown)

    # -- letting it through

    def _release(self, meter: Meter) -> bytes:
        growth, queue = self._growth, self._queue
        passed: list[bytes] = []
        while queue:
            needed = 0 if self._fits else queue[0].needed
            if needed is None or not (growth.is_over or growth.reach(needed)):
                if self._fits or not self._is_paid_for(meter):
                    break
                self._fits = True
            passed.append(self._pass_first())
        self.waits = bool(queue)
        if not queue:
            self.holds = False
        elif not self._asks:
            self._hold_up(meter, queue)
        self.is_over = self._complete and not self.waits
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def _pass_first(self) -> bytes:
        first = self._queue.popleft()
        self._queued_bytes -= len(first.shown)
        if first.data:
            self._end.see(first.name, first.data)
        return first.shown

    def _is_paid_for(self, meter: Meter) -> bool:
        """Whether all of the answer has come, and what is held is enough by its provider's own figures."""
        return self._has_ended(meter) and not self._lost and self._growth.pays_for(meter.usage(Ending.COMPLETE))

    def _has_ended(self, meter: Meter) -> bool:
        return self._complete or meter.finished()

    def _hold_up(self, meter: Meter, queue: deque[_Waiting]) -> None:
        """Read on as long as what came is likely covered; else read no further, and ask for more."""
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError("nothing to hold up")
        first, last, covers = queue[0].needed, queue[-1], self._growth.covers
        least = first
        if first is not None and last.needed is not None:
            likely = last.likely
            if self._has_ended(meter):
                told = meter.usage(Ending.COMPLETE)
                likely = (told.total().output_tokens or first) if told.state is UsageState.FINAL else first
            elif likely <= covers and self._queued_bytes <= AHEAD_BYTES_MAX:
                return
            if covers < likely + LEAD_TOKENS < first:
                least = likely + LEAD_TOKENS
        self._asks = self.holds = True
        exchange.hold_on()
        self._task = asyncio.get_running_loop().create_task(self._ask(exchange, first, least))

    async def _ask(self, exchange: Passing, needed: int | None, least: int | None) -> None:
        """Go on with the stream, or end it."""
        refused: Reason | None = Reason.REQUEST_NOT_BOUNDABLE
        if needed is not None and least is not None:
            try:
                refused = await self._growth.ask(needed, least)
            except Exception:
                logger.exception("growing_failed", extra={"facts": {"request_id": self._request_id}})
                refused = Reason.OVERLOADED
        self._asks = self.holds = False
        if exchange.is_over:
            return
        if refused is None:
            exchange.go_on(complete=self._complete)
        else:
            self._conclude(exchange, refused)

    def _conclude(self, exchange: Passing, refused: Reason) -> None:
        if self._lost or self._meter is None:
            exchange.end(Cause.CREDIT_ENDED, refused.value)
            return
        shown = []
        while self._queue and self._queue[0].needed is not None and self._queue[0].likely <= self._growth.covers:
            shown.append(self._pass_first())
        whole = self._meter.usage(Ending.LIMITED).total()
        cut = Cut(
            refused.value,
            f"This answer was ended here: nothing more can be held for it ({refused.value}).",
            self._request_id,
            whole.input_tokens or 0,
            whole.output_tokens or 0,
        )
        last = self._end.failed(cut) if self._fails else self._end.shortened(cut)
        trailers = ((b"Spend-Cut", refused.value.encode()),)
        exchange.conclude(Cause.CREDIT_ENDED, b"".join(shown), last, trailers, repeats=self._end.repeats)


def gate_for(admitted: Admitted, authority: Authority, metrics: Metrics, *, on_cap: OnCap) -> Gate | None:
    """The gate of a call whose hold grows; None where there is no hold, or nothing that could end its stream."""
    call, held, prices = admitted.call, admitted.held, admitted.prices
    end = end_for(call.protocol, call.facts)
    if call.start is None or held is None or prices is None or end is None:
        return None
    growth = Growth(admitted, held, prices, authority, metrics)
    density = authority.expected.tokens_per_1000_bytes(call.kind(prices.currency.code))
    return Gate(growth, end, request_id=call.request_id, fails=on_cap == "error", density=density)
